"""U-Nets: an encoder that runs at key steps only is a loop by hand bit for bit, and leaves nothing behind."""

from copy import deepcopy
from functools import partial, update_wrapper

import pytest
import torch
from diffusers import DDIMScheduler
from small_unets import UNETS, noise
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import skipdit
from skipdit import methods, passes
from skipdit.backbones.unets import UNETS as TABLE
from skipdit.backbones.unets import Prompted
from skipdit.branches import Branches, Passes
from skipdit.core.policy import Policy
from skipdit.core.what import hold, residual
from skipdit.core.when import Every
from skipdit.core.where import Inner

TIMES = (951, 801, 651, 501, 351, 201, 51)
KEYS = (0, 1, 4)
KEYED = methods.faster_diffusion(keys=KEYS)


@torch.no_grad()
def outputs(unet, call, times=TIMES, **more):
    return torch.stack([unet(*call(t), **more).sample for t in times])


def encoder(unet):
    return [unet.conv_in, *unet.down_blocks, unet.mid_block]


class Calls:
    """How often each of these modules computes: hooks would see a module called whose forward is stood in for."""

    def __init__(self, modules):
        self.modules, self.count = modules, [0] * len(modules)
        for i, module in enumerate(modules):
            module.forward = update_wrapper(partial(self.counted, i, module.forward), module.forward)

    def counted(self, i, forward, *args, **kwargs):
        self.count[i] += 1
        return forward(*args, **kwargs)

    def __enter__(self):
        return self.count

    def __exit__(self, *_):
        for module in self.modules:
            del module.forward


class Replayed:
    """The encoder held by hand: at steps that are no keys each of its modules gives copies of what it last gave."""

    def __init__(self, unet, modules, keys):
        step, kept = iter(range(1000)), {}
        now = {}

        def begin(*_):
            now["step"] = next(step)

        def hold(module, args, output):
            if now["step"] in keys:
                kept[module] = deepcopy(output)
                return None
            return deepcopy(kept[module])

        self.hooks = [unet.register_forward_pre_hook(begin), *(m.register_forward_hook(hold) for m in modules)]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for hook in self.hooks:
            hook.remove()


# ---- every class


def test_every_class_of_the_table_is_tried():
    assert {type(made()[0]).__name__ for made in UNETS.values()} == set(TABLE)


@pytest.mark.parametrize("name", UNETS)
def test_an_always_computing_policy_changes_no_bit(name):
    unet, call = UNETS[name]()
    bare = outputs(unet, call, TIMES[:2])
    for policy in (methods.faster_diffusion(keys=1), methods.skip_cache(every=1)):
        with skipdit.attach(unet, policy) as run:
            assert torch.equal(outputs(unet, call, TIMES[:2]), bare)
        assert all(event.computed for event in run.trace)
    assert bare.isfinite().all()


@pytest.mark.parametrize("name", UNETS)
def test_a_held_encoder_equals_one_replayed_by_hand(name):
    unet, call = UNETS[name]()
    bare = outputs(unet, call)
    with Replayed(unet, encoder(unet), KEYS):
        want = outputs(unet, call)
    with Calls(encoder(unet)) as encoded, Calls(unet.up_blocks) as decoded, skipdit.attach(unet, KEYED) as run:
        got = outputs(unet, call)
    assert torch.equal(got, want)
    assert not torch.equal(got, bare)
    assert encoded == [len(KEYS)] * len(encoder(unet))
    assert decoded == [len(TIMES)] * len(unet.up_blocks)
    assert sum(ran for _, _, ran in run.passes) == sum(encoded) + sum(decoded)
    assert run.blocks_in_full == len(TIMES) * (len(encoded) + len(decoded))
    assert {(e.step, e.computed) for e in run.trace} == {(i, i in KEYS) for i in range(len(TIMES))}
    assert torch.equal(outputs(unet, call), bare)


@pytest.mark.parametrize("name", UNETS)
def test_skip_cache_holds_every_inner_block_by_itself(name):
    """The outermost blocks run at every step, as in DeepCache; their own skips are fresh."""
    unet, call = UNETS[name]()
    inner = [*unet.down_blocks, unet.mid_block, *unet.up_blocks[:-1]]
    with Replayed(unet, inner, (0, 3, 6)):
        want = outputs(unet, call)
    with Calls(inner) as calls, skipdit.attach(unet, methods.skip_cache(every=3)):
        assert torch.equal(outputs(unet, call), want)
    assert calls == [3] * len(inner)


# ---- one U-Net in depth


def by_hand(unet, x, t, text, held=None):
    """The forward of a U-Net, written out: (output, what the encoder gave). Given that, only the decoder runs."""
    emb = unet.time_embedding(unet.time_proj(torch.full((len(x),), t)))  # (B, D)
    words = {"encoder_hidden_states": text}
    if held is None:
        x = unet.conv_in(x)
        skips = (x,)
        for block in unet.down_blocks:
            x, more = block(hidden_states=x, temb=emb, **(words if hasattr(block, "attentions") else {}))
            skips += more
        held = unet.mid_block(x, emb, **words), skips
    x, skips = held
    for block in unet.up_blocks:
        n = len(block.resnets)
        more = words if hasattr(block, "attentions") else {}
        x = block(hidden_states=x, temb=emb, res_hidden_states_tuple=skips[-n:], **more)
        skips = skips[:-n]
    return unet.conv_out(unet.conv_act(unet.conv_norm_out(x))), held


def call_with(text, seed=0):
    return lambda t: (noise(t + seed, *(len(text), 4, 8, 8)), t, text)


@torch.no_grad()
def loop_by_hand(unet, call, keys=KEYS):
    held, outs = None, []
    for step, t in enumerate(TIMES):
        out, held = by_hand(unet, *call(t), None if step in keys else held)
        outs.append(out)
    return torch.stack(outs)


def test_the_forward_by_hand_is_the_model_s():
    unet, call = UNETS["text"]()
    assert torch.equal(loop_by_hand(unet, call, range(len(TIMES))), outputs(unet, call))


@pytest.mark.parametrize("keys", [KEYS, 2])
def test_held_features_are_those_of_the_last_key_and_the_timestep_is_the_step_s_own(keys):
    unet, call = UNETS["text"]()
    with skipdit.attach(unet, methods.faster_diffusion(keys=keys)):
        got = outputs(unet, call)
    assert torch.equal(got, loop_by_hand(unet, call, keys if keys == KEYS else (0, 2, 4, 6)))


def test_a_spared_step_reads_no_x_but_its_own_text():
    unet, call = UNETS["text"]()
    other = noise(9, 2, 5, 12)

    def changed(step, x, t, words):
        return (x, t, words) if step < 2 else (noise(5, *x.shape), t, other)

    def run_with(change):
        with torch.no_grad(), skipdit.attach(unet, KEYED):
            return [unet(*change(step, *call(t))).sample for step, t in enumerate(TIMES[:3])][2]

    assert torch.equal(run_with(changed), run_with(lambda step, x, t, w: (x, t, w if step < 2 else other)))
    assert not torch.equal(run_with(changed), run_with(lambda step, *given: given))


def test_a_part_of_the_encoder_may_be_held():
    """conv_in and the first down block; what follows runs on what they gave, so x is not read either."""
    unet, call = UNETS["text"]()
    with Replayed(unet, encoder(unet)[:2], KEYS):
        want = outputs(unet, call)
    with Calls(encoder(unet)) as calls, skipdit.attach(unet, methods.faster_diffusion(blocks=2, keys=KEYS)):
        assert torch.equal(outputs(unet, call), want)
    assert calls == [3, 3, 7, 7]


def test_guidance_in_one_batch_and_in_two_calls():
    """Each branch is held on its own: both together, one after the other, and each alone are the same."""
    unet, _ = UNETS["text"]()
    branches = {"main": call_with(noise(1, 1, 5, 12)), "main, repeat 1": call_with(noise(2, 1, 5, 12))}
    alone = [loop_by_hand(unet, call) for call in branches.values()]
    with torch.no_grad(), skipdit.attach(unet, KEYED) as run:
        apart = [[unet(*call(t)).sample for call in branches.values()] for t in TIMES]
    assert {event.stream for event in run.trace} == set(branches)
    for branch, want in enumerate(alone):
        assert torch.equal(torch.stack([step[branch] for step in apart]), want)

    def both(t):
        (x, _, a), (_, _, b) = (call(t) for call in branches.values())
        return torch.cat([x, x]), t, torch.cat([a, b])

    with skipdit.attach(unet, KEYED):
        together = outputs(unet, both)
    assert torch.equal(together, loop_by_hand(unet, both))
    torch.testing.assert_close(together, torch.cat(alone, dim=1), atol=1e-5, rtol=1e-5)


def test_the_report_s_flops_are_those_that_were_spent():
    unet, call = UNETS["text"]()
    with sdpa_kernel(SDPBackend.MATH):
        with FlopCounterMode(display=False) as full:
            outputs(unet, call)
        with skipdit.attach(unet, KEYED) as run, FlopCounterMode(display=False) as spent:
            outputs(unet, call)
    report = run.report()
    assert (report.steps, report.computed, report.blocks_run) == (7, 3, 7 * 2 + 3 * 4)
    assert (report.flops, report.flops + report.spared_flops) == (spent.get_total_flops(), full.get_total_flops())
    assert report.ideal_speedup == full.get_total_flops() / spent.get_total_flops() > 1


def test_the_mid_block_s_output_and_all_skips_are_held():
    """A down block's main stream is its last skip, and is held once."""
    unet, call = UNETS["text"]()
    given = []
    hooks = [module.register_forward_hook(lambda m, a, y: given.append(y)) for module in encoder(unet)]
    with skipdit.attach(unet, KEYED) as run:
        outputs(unet, call, TIMES[:1])
    for hook in hooks:
        hook.remove()
    first, *down, mid = given
    assert run.bytes_held == sum(t.nbytes for t in (first, mid, *(skip for _, skips in down for skip in skips)))


# ---- parallel decoding and prior noise, on the model


def denoised(unet, asked, policy, guidance=3.0, two_pass=False):
    """Two pictures of two prompts in a loop around the model, and the run."""
    model = Prompted(unet, noise(3, 3, 5, 12))
    scheduler = DDIMScheduler(clip_sample=False)
    scheduler.set_timesteps(9)
    x, memory = noise(0, 2, 4, 8, 8), {}
    with torch.no_grad(), skipdit.attach(model, policy) as run:
        given = model, (torch.tensor([1, 0]), None), guidance, scheduler.timesteps
        branches = Branches(*given, sigma=float, apart=two_pass)
        for step, t in zip(branches.steps(), scheduler.timesteps, strict=True):
            output = asked(memory, branches, step, x)
            x = scheduler.step(output, t, asked.state(memory, step, x)).prev_sample
    return x, branches.tally, run


@pytest.mark.parametrize("settings", [{}, {"two_pass": True}, {"guidance": 1.0}], ids=str)
def test_parallel_decoding_equals_one_step_after_the_other(settings):
    unet, _ = UNETS["text"]()
    want, slow, one = denoised(unet, Passes(), KEYED, **settings)
    got, fast, run = denoised(unet, passes.parallel(), KEYED, **settings)
    torch.testing.assert_close(got, want, atol=1e-4, rtol=0)
    assert not torch.allclose(
        want, denoised(unet, Passes(), methods.faster_diffusion(keys=1), **settings)[0], atol=1e-2
    )
    streams = 2 if "two_pass" in settings else 1
    assert (slow.calls, fast.calls, fast.passes) == (9 * streams, 5 * streams, slow.passes)  # keys 0, 1, 4; 2-3; 5-8
    assert run.report().flops == one.report().flops


def test_every_row_of_a_batch_of_steps_meets_its_own_text_and_features():
    """What the U-Net is given and what the encoder stands in with, row for row, against the rows of single steps."""
    unet, _ = UNETS["text"]()
    seen = []

    def see(block, args, kwargs):
        words, skips = kwargs["encoder_hidden_states"], kwargs["res_hidden_states_tuple"]
        seen.append([kwargs["temb"], words, *skips])

    hook = unet.up_blocks[-1].register_forward_pre_hook(see, with_kwargs=True)
    denoised(unet, Passes(), KEYED)
    single = seen[5:9]
    seen.clear()
    denoised(unet, passes.parallel(), KEYED)
    hook.remove()
    for row, batched in enumerate(seen[-1]):
        torch.testing.assert_close(batched, torch.cat([step[row] for step in single]), atol=1e-5, rtol=1e-5)
    assert len(seen[-1][1]) == 4 * 2 * 2  # steps, branches, pictures


def test_prior_noise_is_added_to_the_state_below_its_timestep():
    unet, _ = UNETS["text"]()
    plain, *_ = denoised(unet, passes.parallel(), KEYED)
    assert torch.equal(denoised(unet, passes.parallel(prior=0.003, below=0), KEYED)[0], plain)
    mixed = denoised(unet, passes.parallel(prior=0.003), KEYED)[0]
    assert 0 < (mixed - plain).abs().max() < 0.5


# ---- what others do to a U-Net


def test_free_u_which_writes_into_what_it_is_given_does_not_spoil_what_is_held():
    unet, call = UNETS["text"]()
    unet.enable_freeu(s1=0.9, s2=0.2, b1=1.5, b2=1.6)
    with Replayed(unet, encoder(unet), KEYS):
        want = outputs(unet, call)
    with skipdit.attach(unet, KEYED):
        assert torch.equal(outputs(unet, call), want)


@pytest.mark.parametrize("kind", ["adapter", "control"])
def test_features_of_another_network_are_added_anew_at_every_step(kind):
    unet, call = UNETS["text"]()
    fine, coarse = noise(4, 2, 8, 8, 8), noise(5, 2, 16, 4, 4)

    def added():
        if kind == "adapter":  # written into what a block gave
            return {"down_intrablock_additional_residuals": [fine.clone(), coarse.clone()]}
        skips = (fine, fine, noise(6, 2, 8, 4, 4), coarse)
        return {"down_block_additional_residuals": skips, "mid_block_additional_residual": coarse}

    def drawn():
        with torch.no_grad():
            return torch.stack([unet(*call(t), **added()).sample for t in TIMES])

    with Replayed(unet, encoder(unet), KEYS):
        want = drawn()
    with skipdit.attach(unet, KEYED):
        got = drawn()
    assert torch.equal(got, want)
    assert not torch.equal(got, loop_by_hand(unet, call))


# ---- no trace, refusals


def test_nothing_is_left_behind_even_after_an_exception():
    unet, call = UNETS["text"]()
    bare, state = outputs(unet, call), [(name, type(m), set(vars(m))) for name, m in unet.named_modules()]

    def fail(*_):
        raise KeyboardInterrupt

    hook = unet.up_blocks[0].register_forward_pre_hook(fail)
    with pytest.raises(KeyboardInterrupt), skipdit.attach(unet, KEYED):
        outputs(unet, call)
    hook.remove()
    assert [(name, type(m), set(vars(m))) for name, m in unet.named_modules()] == state
    assert torch.equal(outputs(unet, call), bare)


def test_another_batch_is_refused_or_a_stream_and_never_broadcast():
    unet, _ = UNETS["text"]()
    with torch.no_grad(), skipdit.attach(unet, KEYED) as run:
        for t, batch in zip(TIMES[:4], (2, 1, 1, 2), strict=True):
            unet(*call_with(noise(1, batch, 5, 12))(t))
    assert [stream for _, stream, _ in run.passes] == ["main", "main, shape 1", "main, shape 1", "main"]


@pytest.mark.parametrize(
    "policy",
    [
        methods.first_block(0.1),
        methods.taylorseer(every=2, lite=True),
        methods.magcache((1.0, 0.9)),
        Policy(Inner(1, 1), Every(2), residual()),
    ],
    ids=str,
)
def test_what_needs_equal_blocks_is_refused_and_leaves_nothing(policy):
    unet, call = UNETS["text"]()
    with pytest.raises(ValueError, match=r"UNet2DConditionModel, a U-Net, differ in form: .*faster_diffusion\(\)"):
        skipdit.attach(unet, policy).__enter__()
    assert "forward" not in vars(unet.mid_block)
    with skipdit.attach(unet, KEYED):
        outputs(unet, call, TIMES[:2])


@pytest.mark.parametrize("policy", [methods.fora(every=2), methods.pab(), methods.t_gate()], ids=str)
def test_parts_of_a_u_net_are_not_known(policy):
    unet, _ = UNETS["text"]()
    with pytest.raises(ValueError, match=r"no parts are known of the blocks of UNet2DConditionModel: take a"):
        skipdit.attach(unet, policy).__enter__()


def test_branches_do_not_fit_into_a_u_net():
    unet, _ = UNETS["text"]()
    with pytest.raises(ValueError, match="UNet2DConditionModel"):
        skipdit.add_skips(unet)


def test_a_hold_by_hand_is_a_policy_as_any_other():
    unet, call = UNETS["label"]()
    with skipdit.attach(unet, Policy(Inner(0, 1), Every(2), hold())) as run:
        outputs(unet, call)
    assert run.report().blocks_run == 4 * 6 + 3
