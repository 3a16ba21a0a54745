"""The published schedules, step for step, and the published algorithm, bit for bit."""

import pytest
import torch
from torch import nn

import skipdit
from skipdit import methods
from skipdit.backbones.dit import DiT

FIFTY = list(range(980, -1, -20))
TWO_HUNDRED_FIFTY = [round(i * 999 / 249) for i in reversed(range(250))]


def counts(policy, timesteps):
    decided = skipdit.plan(policy, timesteps)
    return sum(decided), len(decided) - sum(decided)


@pytest.mark.parametrize(
    ("task", "every", "full", "cached"),
    [
        *[
            ("class-to-video", n, *c)
            for n, c in {2: (28, 22), 3: (21, 29), 4: (17, 33), 5: (16, 34), 6: (14, 36)}.items()
        ],
        *[("text-to-video", n, *c) for n, c in {2: (33, 17), 3: (28, 22), 4: (25, 25)}.items()],
        *[("hunyuan", n, *c) for n, c in {2: (33, 17), 3: (28, 22), 4: (25, 25), 5: (24, 26), 6: (22, 28)}.items()],
    ],
)
def test_published_counts_over_50_steps(task, every, full, cached):
    assert counts(methods.skip_cache.preset(task, every, paper=True), FIFTY) == (full, cached)


@pytest.mark.parametrize(("every", "full", "cached"), [(2, 31, 19), (3, 24, 26), (4, 21, 29)])
def test_published_counts_of_the_75_percent_rows(every, full, cached):
    assert counts(methods.skip_cache.named(f"N{every}-800-50", paper=True), FIFTY) == (full, cached)


@pytest.mark.parametrize(
    ("every", "full", "cached"), [(2, 128, 122), (3, 87, 163), (4, 67, 183), (5, 54, 196), (6, 46, 204)]
)
def test_published_counts_of_class_to_image_over_250_steps(every, full, cached):
    policy = methods.skip_cache.preset("class-to-image", every, paper=True)
    assert counts(policy, TWO_HUNDRED_FIFTY) == (full, cached)
    assert policy.where.head == policy.where.tail == 4


@pytest.mark.parametrize("every", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize(("hi", "lo"), [(700, 50), (900, 49), (1000, 20), (800, 50)])
def test_published_schedule_equals_the_authors_counter(every, hi, lo):
    """The counter of the released code, written down again: cont, cache, and a reset after the step."""
    cont, cached, want = 0, False, []
    for t in FIFTY:
        refresh = cont % every == 0 or not cached or t >= hi
        want.append(refresh)
        cached = cached or refresh
        cont += 1
        if t <= lo:
            cont, cached = 0, False
    assert skipdit.plan(methods.skip_cache(every=every, hi=hi, lo=lo, paper=True), FIFTY) == want


def test_the_default_mends_both_quirks():
    """N3-700-50: the phase counts from the last full step above the window, t = 700; every step at t <= 50 is full."""
    decided = dict(zip(FIFTY, skipdit.plan(methods.skip_cache.named("N3-700-50"), FIFTY), strict=True))
    assert all(decided[t] for t in FIFTY if t >= 700 or t <= 50)
    assert [decided[t] for t in (680, 660, 640, 620, 600, 580)] == [False, False, True, False, False, True]
    published = skipdit.plan(methods.skip_cache.named("N2-700-50", paper=True), FIFTY)
    assert not published[FIFTY.index(40)]
    assert decided[40]


def test_a_window_in_fractions_of_the_run():
    assert skipdit.plan(methods.skip_cache(every=2, hi=0.7, lo=0.2), range(10, 0, -1)) == [
        *[True, True, True, True],  # 100 % ... 70 % of the run lies ahead
        *[False, True, False, True],
        *[True, True],  # 20 % and less
    ]


def test_spellings():
    policy = methods.skip_cache(every=2, hi=700, lo=50)
    assert policy == methods.skip_cache.named("N2-700-50") == skipdit.parse("N2-700-50")
    assert policy == skipdit.parse(str(policy))
    assert str(policy) == "skip_cache(every=2, hi=700, lo=50)"
    assert skipdit.parse("skip_cache") == methods.skip_cache()
    assert methods.skip_cache.named("N3") == methods.skip_cache(every=3)
    import skipdit.methods.skip_cache as imported  # the module and the method go by one name

    assert imported is methods.skip_cache


class PublishedLoop:
    """The paper's cached DiT as one straight loop, written from the description and not from our stack."""

    def __init__(self, model: DiT, every: int, branch: int, hi: float, lo: float):
        self.model, self.every, self.branch, self.hi, self.lo = model, every, branch, hi, lo
        self.blocks = list(model.blocks.children())
        self.cont, self.cache = 0, None

    def fuse(self, x, s, target):
        branch = self.model.skip_branches[str(target)]
        cat = torch.cat([x, s], dim=-1)
        normed = nn.functional.layer_norm(cat, cat.shape[-1:], branch.norm.weight, branch.norm.bias, 1e-6)
        return nn.functional.linear(normed, branch.linear.weight, branch.linear.bias)

    def __call__(self, x, t, y):
        model, depth, k, time = self.model, len(self.blocks), self.branch, t[0].item()
        x = model.x_embedder(x) + model.pos_embed
        c = model.t_embedder(t) + model.y_embedder(y)
        refresh = self.cont % self.every == 0 or self.cache is None or time >= self.hi
        skips = []
        for i in range(depth if refresh else k):
            if i >= depth // 2:
                if i == depth - k:
                    self.cache = x
                x = self.fuse(x, skips.pop(), i)
            x = self.blocks[i](x, c)
            if i < depth // 2:
                skips.append(x)
        if not refresh:
            x = self.cache
            for i in range(depth - k, depth):
                x = self.blocks[i](self.fuse(x, skips.pop(), i), c)
        self.cont += 1
        if time <= self.lo:
            self.cont, self.cache = 0, None
        return model.unpatchify(model.final_layer(x, c))


@pytest.mark.parametrize(("every", "branch", "hi", "lo"), [(3, 1, 1000, 20), (2, 2, 700, 50), (4, 3, 900, 49)])
@torch.no_grad()
def test_skip_cache_equals_a_straight_loop_bit_for_bit_over_25_steps(every, branch, hi, lo):
    torch.manual_seed(0)
    model = DiT(8, 2, 4, 48, 8, 3, num_classes=7, skips="replace").eval()
    for parameter in model.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.1)
    reference = PublishedLoop(model, every, branch, hi, lo)
    x = torch.randn(2, 4, 8, 8)
    y = torch.tensor([1, 7])
    policy = methods.skip_cache(every=every, branch=branch, hi=hi, lo=lo, paper=True)
    with skipdit.attach(model, policy) as run:
        for index, t in enumerate(range(960, -1, -40)):
            time = torch.full((2,), t)
            run.begin(index, float(t))
            ours, theirs = model(x, time, y), reference(x, time, y)
            assert torch.equal(ours, theirs), t
            x = x - 0.04 * ours[:, :4]
    report = run.report()
    assert report.steps == 25
    assert report.stood_in > 5
