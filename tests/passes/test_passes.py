"""What a step asks of the model: identity, economy, branches kept apart, parallel decoding, refusals, spellings."""

import ast
import math
import re
import sys
from pathlib import Path

import pytest
import torch
from diffusers.hooks.faster_cache import FasterCacheDenoiserHook, FasterCacheDenoiserState
from torch import nn
from zoo import CASES, POLICIES, STEPS, TIMES, Counted, dit

import skipdit
from skipdit import attach, methods, passes
from skipdit.branches import Branches, Tally
from skipdit.catalog import Catalog, called
from skipdit.core.policy import Policy, Step
from skipdit.core.run import _repeated
from skipdit.core.what import hold, residual
from skipdit.core.when import At, Drift, Every, Window
from skipdit.core.where import Range
from skipdit.diffusion import path_of
from skipdit.methods.skip_cache import Published
from skipdit.passes.faster_cache import Frequencies, split
from skipdit.passes.reuse import UNCOND

ROOT = Path(__file__).parents[2]
CATALOG = Catalog("skipdit.passes")
SPELLED = [
    passes.reuse(every=3),
    passes.reuse(every=2, keep="uncond", hi=0.8, lo=0.2),
    passes.faster_cache(every=3, low=1.2, hi=700),
    passes.interval(hi=4.0, lo=None, start=1),
    passes.t_gate(gate=4),
    passes.parallel(most=2, prior=0.003),
]
KEYED = methods.faster_diffusion(blocks=3, keys=(0, 1, 4))


def drawn(model, asked=None, labels=(0, 1), **settings):
    """The images, and what was asked of the model."""
    tally = Tally()
    settings = {"steps": STEPS, "guidance": 3.0, **settings}
    return skipdit.sample(model, list(labels), passes=asked, tally=tally, **settings), tally


def spelled(text):
    return called(text, CATALOG, "passes", "reuse(every=2)")


# ---- identity


@pytest.mark.parametrize(
    "asked",
    [
        passes.reuse(every=1),
        passes.reuse(every=1, keep="uncond"),
        passes.faster_cache(every=1),
        passes.faster_cache(hi=0.001),
        passes.interval(hi=None, lo=None),
        passes.t_gate(gate=STEPS),
    ],
    ids=str,
)
def test_what_leaves_nothing_out_is_plain_sampling_bit_for_bit(asked):
    model = dit("join")
    want, _ = drawn(model)
    got, tally = drawn(model, asked)
    assert torch.equal(got, want)
    assert (tally.steps, tally.passes, tally.passes_in_full, tally.calls) == (STEPS, 2 * STEPS, 2 * STEPS, STEPS)
    want, _ = drawn(model, two_pass=True)
    with attach(model, methods.skip_cache(every=1)) as run:
        got, _ = drawn(model, asked)
    assert torch.equal(got, want)
    assert {event.stream for event in run.trace} == {"cond", "uncond"}


@pytest.mark.parametrize("two_pass", [False, True])
def test_parallel_without_gaps_is_plain_sampling_bit_for_bit(two_pass):
    model = dit("join")
    want, _ = drawn(model, two_pass=two_pass)
    with attach(model, methods.faster_diffusion(blocks=3, keys=1)):
        got, tally = drawn(model, passes.parallel(), two_pass=two_pass)
    assert torch.equal(got, want)
    assert tally.calls == STEPS * (1 + two_pass)


# ---- economy


@pytest.mark.parametrize(
    ("asked", "both"),
    [
        (passes.reuse(every=2), 5),
        (passes.reuse(every=3, keep="uncond"), 3),
        (passes.reuse(every=4, hi=0.7), 4),
        (passes.faster_cache(every=3, hi=700), 5),
        (passes.interval(hi=None, lo=None, start=2, stop=5), 3),
        (passes.t_gate(gate=4), 4),
    ],
    ids=str,
)
def test_the_unconditional_branch_runs_only_where_it_is_due(asked, both):
    model = dit(None)
    with Counted(model) as calls:
        _, tally = drawn(model, asked)
    assert calls == [STEPS] * 6
    assert (tally.passes, tally.passes_in_full, tally.calls) == (STEPS + both, 2 * STEPS, STEPS)
    assert str(tally) == f"{STEPS} steps: {STEPS + both} of {2 * STEPS} passes, in {STEPS} calls of the model"
    with Counted(model) as calls:
        _, apart = drawn(model, asked, two_pass=True)
    assert calls == [STEPS + both] * 6
    assert (apart.passes, apart.calls) == (STEPS + both, STEPS + both)


def test_a_tally_adds_up_over_batches():
    _, tally = drawn(dit(None), "reuse(every=2)", labels=(0, 1, 2), batch_size=2, steps=4)
    assert tally.as_dict() == {"steps": 8, "passes": 12, "passes_in_full": 16, "calls": 8}


def test_the_report_counts_the_passes_that_were_made():
    model = dit(None)
    with attach(model, methods.skip_cache(every=2)) as run:
        _, tally = drawn(model, passes.reuse(every=4))
    report = run.report()
    assert report.passes == tally.passes == tally.calls == STEPS + 3
    cached = {(event.step, event.stream) for event in run.trace if not event.computed}
    assert cached == {(step, "cond") for step in (1, 3, 5, 7)}
    assert report.flops + report.spared_flops == run.flops()[""] * report.passes


# ---- the estimates


class Told(nn.Module):
    """A denoiser that gives what it was told to: u or c of the step, whatever it is shown."""

    def __init__(self, u, c):
        super().__init__()
        self.unused, self.u, self.c = nn.Parameter(torch.zeros(1)), u, c
        self.config = dit(None).config

    def forward(self, x, t, y):
        step = [TIMES.index(value) for value in t.tolist()]
        free = (y == self.config.num_classes)[:, None, None, None]
        return torch.where(free, self.u[step], self.c[step])


@torch.no_grad()
def outputs(asked, u, c, guidance=3.0):
    """What the scheduler is given at every step, for one picture."""
    branches = Branches(Told(u, c), (torch.tensor([0]), None), guidance, torch.tensor(TIMES), path_of("epsilon").sigma)
    memory = {}
    return [asked(memory, branches, step, torch.zeros(1, 3, 8, 8))[0] for step in branches.steps()[: len(u)]]


@pytest.mark.parametrize(
    ("asked", "estimate"),
    [
        (passes.reuse(every=3), lambda u, c, held, now: c[now] + u[held] - c[held]),
        (passes.reuse(every=3, keep="uncond"), lambda u, c, held, now: u[held]),
        (passes.t_gate(gate=1), lambda u, c, held, now: c[now]),
    ],
    ids=("difference", "uncond", "gate"),
)
def test_the_guided_output_is_the_formula(asked, estimate):
    u, c = torch.randn(2, 3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    for now, output in enumerate(outputs(asked, u, c)):
        free = u[0] if now == 0 else estimate(u, c, 0, now)
        torch.testing.assert_close(output, free + 3 * (c[now] - free))


def test_faster_cache_equals_its_port_in_diffusers():
    """The same weights at the same timesteps, growing from one spared step to the next."""
    u, c = torch.randn(2, STEPS, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    now = {"step": 0}

    class Both(nn.Module):
        def forward(self, hidden_states):
            return hidden_states

    def weight(low, high):
        return lambda module: 1.1 if low < TIMES[now["step"]] < high else 1.0

    hook = FasterCacheDenoiserHook(
        4, (-1, 641), "BCHW", False, ("hidden_states",), lambda: TIMES[now["step"]], weight(99, 901), weight(-1, 301)
    )
    hook.state = FasterCacheDenoiserState()
    hook.fn_ref = type("Original", (), {"original_forward": staticmethod(Both().forward)})
    hook.state.iteration = (
        2  # so that its phase counts from the last step at or above 641, as ours: 0, 1, 2 are 900...700
    )
    frequencies, held = Frequencies(1.1, 1.1), {}
    due = Window(Every(4), 641)
    memory = {}
    for i, t in enumerate(TIMES):
        now["step"] = i
        step = Step(i, STEPS, t)
        theirs = hook.new_forward(None, hidden_states=torch.stack([u[i], c[i]]))[0]
        if due(memory, step, UNCOND, None):
            frequencies.observe(held, step, (c[i : i + 1],), (u[i : i + 1],))
            ours = u[i]
        else:
            ours = frequencies.predict(held, step, (c[i : i + 1],))[0][0]
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_low_and_high_frequencies_add_up():
    x = torch.randn(2, 3, 8, 12)
    low, high = split(x)
    torch.testing.assert_close(low + high, x)
    torch.testing.assert_close(split(torch.ones(1, 1, 8, 8))[0], torch.ones(1, 1, 8, 8))
    chequered = (torch.arange(8)[:, None] + torch.arange(8)).remainder(2).float()[None, None] - 0.5
    torch.testing.assert_close(split(chequered)[0], torch.zeros(1, 1, 8, 8))


def test_the_interval_is_open_below_and_closed_above():
    asked = passes.interval(hi=2.0, lo=1.0)
    step = Step(0, 1, 0.0)
    assert [asked.guided(step, sigma) for sigma in (0.9, 1.0, 1.5, 2.0, 2.1)] == [False, False, True, True, False]


def test_the_noise_level_of_both_paths():
    path = path_of("epsilon")
    x0, noise, t = torch.ones(1, 1, 1, 1).double(), torch.zeros(1, 1, 1, 1).double(), torch.tensor([400])
    signal, spread = path.noised(x0, noise, t), path.noised(noise, x0, t)
    assert path.sigma(400) == pytest.approx(float(spread / signal))
    assert path_of("flow").sigma(750.0) == pytest.approx(3.0)
    assert path_of("flow").sigma(1000.0) == math.inf


# ---- with a policy


@pytest.mark.parametrize("policy", [p for b, p in CASES if b == "dit-join"])
def test_branches_hold_their_own_under_every_policy(policy):
    """The guidance branches of a run that leaves some out are those of two runs, one a branch."""
    model, asked = dit("join"), passes.t_gate(gate=4)
    with attach(model, POLICIES[policy]) as run:
        got, _ = drawn(model, asked)
    streams = [event.stream for event in run.trace if event.site == run.trace[0].site]
    assert streams == ["cond", "uncond"] * 4 + ["cond"] * 5
    with attach(model, POLICIES[policy]) as plain:
        drawn(model, two_pass=True)
    assert run.trace[: 8 * len(run.sites)] == plain.trace[: 8 * len(run.sites)]
    assert got.isfinite().all()


@pytest.mark.parametrize(
    "policy", [methods.skip_cache(every=2), methods.fora(every=2), methods.first_block(1.2)], ids=str
)
@pytest.mark.parametrize(
    "asked", [passes.reuse(every=3), passes.faster_cache(hi=700), passes.interval(1.0, None)], ids=str
)
def test_caches_of_dropped_branches_stay_right(policy, asked):
    """Against a loop by hand in which each branch has a model and a run of its own."""
    model, free = dit("join"), dit("join")
    with attach(model, policy):
        got, tally = drawn(model, asked)
    assert STEPS < tally.passes < 2 * STEPS
    with attach(model, policy) as one, attach(free, policy) as other:

        class Split(Branches):
            def _pass(self, stream, x, steps):
                self.run, self.model = (one, model) if stream == "cond" else (other, free)
                return super()._pass(stream, x, steps)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys.modules["skipdit.sample"], "Branches", Split)
            want, _ = drawn(model, asked)
    assert torch.equal(got, want)
    assert {event.stream for event in other.trace} == {"uncond"}


def test_a_branch_that_starts_late_finds_nothing_of_the_batch_before():
    model, policy = dit("join"), methods.skip_cache(every=2)
    asked = passes.interval(hi=None, lo=None, start=3)  # step 3 is one that the policy would stand in for
    with attach(model, policy):
        want, _ = drawn(model, asked, labels=[1])
    with attach(model, policy) as run:
        drawn(model, asked, labels=[0])
        got, _ = drawn(model, asked, labels=[1])
    assert torch.equal(got, want)
    assert [e.computed for e in run.trace if (e.step, e.stream) == (3, "uncond")] == [True, True]
    with attach(model, policy):
        drawn(model, asked, labels=[0, 1, 2], batch_size=2)  # a last batch of another shape


# ---- parallel decoding

RANGES = {
    "keys": KEYED,
    "every third": methods.faster_diffusion(blocks=2, keys=3),
    "deep": methods.faster_diffusion(blocks=5, keys=(0, 3)),
    "window": Policy(Range(0, 4), Window(Every(3), hi=0.7, lo=0.2), hold()),
    "published": Policy(Range(0, 4), Published(4, hi=700, lo=300), hold()),  # a schedule that remembers
    "blockdance": methods.blockdance(every=3, blocks=4, hi=0.9, lo=0.1),
}


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        *((name, {}) for name in RANGES),
        *(("keys", settings) for settings in ({"two_pass": True}, {"guidance": 1.0}, {"sampler": "ddpm"})),
    ],
    ids=str,
)
@pytest.mark.parametrize("skips", [None, "join"])
def test_parallel_decoding_equals_one_step_after_the_other(name, skips, settings):
    model, policy = dit(skips), RANGES[name]
    with attach(model, policy) as one:
        want, slow = drawn(model, labels=(0, 1, 2), **settings)
    with attach(model, policy) as run, Counted(model) as calls:
        got, fast = drawn(model, passes.parallel(), labels=(0, 1, 2), **settings)
    torch.testing.assert_close(got, want, atol=1e-4, rtol=0)
    assert not torch.allclose(got, drawn(model, labels=(0, 1, 2), **settings)[0], atol=1e-2)
    assert fast.passes == slow.passes == fast.passes_in_full
    assert calls[-1] == fast.calls < slow.calls
    assert [(e.step, e.site, e.computed) for e in by_step(run)] == [(e.step, e.site, e.computed) for e in by_step(one)]
    assert {**run.report().as_dict(), "bytes_held": 0} == {**one.report().as_dict(), "bytes_held": 0}
    assert not run._memories


def by_step(run):
    return sorted(run.trace, key=lambda event: (event.step, event.stream.split(" x ")[0], str(event.site)))


def test_the_calls_of_parallel_decoding():
    model = dit(None)
    for most, calls in ((None, 5), (1, 9), (2, 3 + 1 + 2), (3, 3 + 1 + 2)):  # keys 0, 1, 4; between them 2-3 and 5-8
        with attach(model, KEYED) as run:
            _, tally = drawn(model, passes.parallel(most=most))
        assert tally.calls == calls, most
    assert [event.stream for event in run.trace] == ["cond+uncond"] * 2 + ["cond+uncond x 2"] * 2 + ["cond+uncond"] + [
        "cond+uncond x 3"
    ] * 3 + ["cond+uncond"]


def rows_of_pass(n, batch):
    """What each row of a decoding batch of n steps is: (step, branch, picture), as features, labels and times say."""
    seen = {}

    class Telling(nn.Module):
        def __init__(self):
            super().__init__()
            self.unused, self.config = nn.Parameter(torch.zeros(1)), dit(None).config

        def forward(self, x, t, y):
            seen.update(t=t, y=y)
            return torch.zeros(len(y), 6, 8, 8)

    labels = torch.arange(batch)
    branches = Branches(Telling(), (labels, None), 3.0, torch.tensor(TIMES), path_of("epsilon").sigma)
    branches.outputs(torch.zeros(batch, 3, 8, 8), branches.steps()[2 : 2 + n])
    held = torch.arange(2 * batch)  # row r of a held feature: branch r // batch, picture r % batch
    features = _repeated(held[:, None], n)[:, 0]
    return features, seen["y"], seen["t"]


@pytest.mark.parametrize("n", [1, 2, 3, 4])
@pytest.mark.parametrize("batch", [1, 2])
def test_every_row_meets_its_own_label_and_timestep(n, batch):
    features, y, t = rows_of_pass(n, batch)
    free = features // batch == 1
    assert torch.equal(y == 5, free)
    assert torch.equal(y[~free], features[~free] % batch)
    assert t.tolist() == [TIMES[2 + step] for step in range(n) for _ in range(2 * batch)]


@pytest.mark.parametrize(("n", "wrong"), [(1, 0), (2, 1 / 2), (3, 1 / 3)])
def test_the_layout_of_the_published_port_mixes_the_branches_up(n, wrong):
    """Features branch after branch, [c] * n + [u] * n, labels step after step, [c, u] * n."""
    features = ["c"] * n + ["u"] * n
    labels = ["c", "u"] * n
    assert sum(f != y for f, y in zip(features, labels, strict=True)) / (2 * n) == pytest.approx(wrong)


def test_prior_noise_is_added_below_its_timestep():
    model = dit(None)
    with attach(model, KEYED):
        plain, _ = drawn(model, passes.parallel())
    with attach(model, KEYED):
        assert torch.equal(drawn(model, passes.parallel(prior=0.003, below=0))[0], plain)
    with attach(model, KEYED):
        assert not torch.equal(drawn(model, passes.parallel(prior=0.003))[0], plain)
    asked, first, x = passes.parallel(prior=0.5, below=500), torch.ones(1), torch.zeros(1)
    assert asked.state({"first": first}, Step(3, 9, 500.0), x) == 0
    assert asked.state({"first": first}, Step(3, 9, 499.0), x) == 0.5


def test_an_interrupted_batch_leaves_nothing_behind():
    model = dit(None)

    def stop(*_):
        raise KeyboardInterrupt

    with attach(model, KEYED) as run:
        want, _ = drawn(model, passes.parallel())
        hooks = []
        hook = model.blocks[0].register_forward_hook(lambda *_: hooks.append(1))
        last = model.blocks[5].register_forward_hook(
            lambda *_: stop() if len(hooks) == 2 and run.stream[-1] == "2" else None
        )
        with pytest.raises(KeyboardInterrupt):
            drawn(model, passes.parallel())
        hook.remove()
        last.remove()
        assert torch.equal(drawn(model, passes.parallel())[0], want)


# ---- refusals


def under(policy, asked="parallel()"):
    model = dit(None)
    with attach(model, policy):
        drawn(model, asked)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: passes.reuse(every=0), "reuse: every=0"),
        (lambda: passes.reuse(keep="mean"), "keep='mean' is unknown: choose 'difference', 'uncond'"),
        (lambda: passes.reuse(hi=100, lo=800), "lo=800 must be below hi=100"),
        (lambda: passes.reuse(hi=math.nan), "hi=nan"),
        (lambda: passes.faster_cache(every=0), "faster_cache: every=0"),
        (lambda: passes.faster_cache(low=math.nan), "low=nan"),
        (lambda: passes.faster_cache(high=-1), "high=-1"),
        (lambda: passes.faster_cache(hi=-5), "hi=-5"),
        (lambda: passes.interval(hi=1, lo=2), "interval: lo=2 must be below hi=1"),
        (lambda: passes.interval(start=-1), "interval: start=-1"),
        (lambda: passes.interval(start=4, stop=4), "stop=4 must be above start=4"),
        (lambda: passes.t_gate(gate=0), "t_gate: gate=0"),
        (lambda: passes.parallel(most=0), "parallel: most=0"),
        (lambda: passes.parallel(prior=-0.1), "parallel: prior=-0.1"),
        (lambda: passes.parallel(below=math.inf), "parallel: below=inf"),
        (lambda: drawn(dit(None), passes.reuse), "call one first, such as passes.reuse"),
        (lambda: drawn(dit(None), "reuse(evry=2)"), "no parameter 'evry'; did you mean every"),
        (lambda: drawn(dit(None), "reus()"), "did you mean reuse"),
        (lambda: drawn(dit(None), "reuse(every=1+1)"), "is not spelled like reuse"),
        (lambda: drawn(dit(None), "reuse(every=0)"), "every=0"),
        (lambda: drawn(dit(None), "reuse()", guidance=1.0), "guidance=1 has none"),
        (lambda: drawn(dit(None), "parallel()"), "no policy is attached"),
        (lambda: under(methods.skip_cache(every=2)), "spares no blocks from the first on"),
        (lambda: under(methods.fora(every=2)), "spares no blocks from the first on"),
        (lambda: under(Policy(Range(0, 3), Drift(0.1), hold())), "decides during the run"),
        (lambda: under(Policy(Range(0, 3), Every(2), residual())), "depends on x_t or on the step"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()


def test_a_run_refuses_to_stand_in_for_a_computed_step():
    with attach(dit(None), Policy(Range(0, 3), At((0, 3)), hold())) as run:
        with pytest.raises(ValueError, match="is computed at step 3"):
            run.begin_together([Step(2, 9, 700.0), Step(3, 9, 600.0)], "main")


# ---- names


@pytest.mark.parametrize("asked", SPELLED, ids=str)
def test_passes_print_as_they_are_parsed(asked):
    assert spelled(str(asked)) == asked
    assert str(spelled(str(asked))) == str(asked)
    assert hash(asked) == hash(spelled(str(asked)))


def test_a_spelling_does_what_the_value_does():
    model = dit(None)
    assert torch.equal(drawn(model, "reuse(every=3)")[0], drawn(model, passes.reuse(every=3))[0])


def test_every_file_is_tried_documented_and_gives_its_source():
    assert {str(asked).split("(")[0] for asked in SPELLED} == set(CATALOG.names())
    rows = re.findall(r"^\| `(\w+)\(.*?\)` \|.*\| (\d{4}\.\d{5}) \|$", (ROOT / "docs/guidance.md").read_text(), re.M)
    assert {name for name, _ in rows} == set(CATALOG.names())
    for name, paper in rows:
        text = ast.get_docstring(ast.parse((ROOT / f"skipdit/passes/{name}.py").read_text()))
        assert paper in text, name
        assert "Held:" in text, name
