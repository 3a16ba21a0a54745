"""One pass tells how a class that nobody has seen is laid out, and a policy attaches by it; or it is refused."""

import pytest
import torch
from torch import nn

import skipdit
from skipdit import infer
from skipdit.core.backbone import Contract, transposed
from skipdit.core.policy import Policy, Span
from skipdit.core.what import hold
from skipdit.core.when import At, Every
from skipdit.core.where import Inner, Range


class Layer(nn.Module):
    """A block with arguments of its own naming: (condition, tokens (B, T, D)) -> (a figure, tokens)."""

    def __init__(self, width=16):
        super().__init__()
        self.self_attention, self.feed_forward = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, condition, tokens):
        tokens = tokens + self.self_attention(tokens) + condition[:, None]
        return tokens.mean(), tokens + self.feed_forward(tokens).tanh()


class Odd(nn.Module):
    """One list, `tower`, whose blocks give back a figure first; a list of two small layers goes before."""

    def __init__(self, depth=5, width=16):
        super().__init__()
        self.prepare = nn.ModuleList(nn.Linear(4, 4) for _ in range(2))
        self.into, self.out = nn.Linear(4, width), nn.Linear(width, 4)
        self.body = nn.ModuleDict({"tower": nn.ModuleList(Layer(width) for _ in range(depth))})

    def forward(self, picture, sigma):
        for layer in self.prepare:
            picture = layer(picture)
        tokens, condition = self.into(picture), sigma[:, None].sin().expand(-1, 16)  # (B, T, D), (B, D)
        for layer in self.body["tower"]:
            _, tokens = layer(condition, tokens=tokens)
        return self.out(tokens)


class Mix(nn.Module):
    """(B, T, D) -> (B, T, D): mixes tokens and channels."""

    def __init__(self, width=16):
        super().__init__()
        self.mlp = nn.Linear(width, width)

    def forward(self, z):
        return z + self.mlp(z - z.mean(dim=1, keepdim=True)).tanh()


class Woven(nn.Module):
    """Blocks over the patches of a frame and blocks over the frames of a patch take turns."""

    def __init__(self, depth=4):
        super().__init__()
        self.space = nn.ModuleList(Mix() for _ in range(depth))
        self.time = nn.ModuleList(Mix() for _ in range(depth))

    def forward(self, film, t):
        b, f, p, d = film.shape
        z = film.flatten(0, 1) + t.sin()[0]  # (B F, P, D)
        for across, along in zip(self.space, self.time, strict=True):
            z = across(z).view(b, f, p, d).transpose(1, 2).flatten(0, 1)  # (B P, F, D)
            z = along(z).view(b, p, f, d).transpose(1, 2).flatten(0, 1)  # (B F, P, D)
        return z.view(b, f, p, d)


class Pair(nn.Module):
    """Text and picture side by side: (words, pixels) -> (words, pixels)."""

    def __init__(self, width=16):
        super().__init__()
        self.words, self.pixels = Mix(width), Mix(width)

    def forward(self, pixels, words):
        mean = words.mean(dim=1, keepdim=True) + pixels.mean(dim=1, keepdim=True)
        return self.words(words) + mean, self.pixels(pixels) + mean


class Twofold(nn.Module):
    """Two streams in `both`, then one of all tokens in `one`; the words go through a refiner first."""

    def __init__(self):
        super().__init__()
        self.refiner = nn.ModuleList(Mix() for _ in range(2))
        self.both = nn.ModuleList(Pair() for _ in range(3))
        self.one = nn.ModuleList(Mix() for _ in range(4))

    def forward(self, pixels, words, timestep):
        n = words.shape[1]
        for block in self.refiner:
            words = block(words)
        pixels = pixels + (timestep / 1000).sin()[:, None, None]
        for block in self.both:
            words, pixels = block(pixels, words)
        z = torch.cat([words, pixels], dim=1)
        for block in self.one:
            z = block(z)
        return z[:, n:]


class Cup(nn.Module):
    """A U of six blocks: the model itself joins the outputs of the first three to what enters the last three."""

    def __init__(self):
        super().__init__()
        self.down = nn.ModuleList(Mix() for _ in range(3))
        self.up = nn.ModuleList(Mix() for _ in range(3))
        self.joins = nn.ModuleList(nn.Linear(32, 16) for _ in range(3))

    def forward(self, x, t):
        kept, x = [], x + t.sin()[:, None, None]
        for block in self.down:
            x = block(x)
            kept.append(x)
        for join, block in zip(self.joins, self.up, strict=True):
            x = block(join(torch.cat([x, kept.pop()], dim=-1)))
        return x


def made(kind):
    torch.manual_seed(0)
    return kind().eval().requires_grad_(False)


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


CALLS = {
    Odd: lambda seed, t: {"picture": noise(2, 7, 4, seed=seed), "sigma": torch.full((2,), t / 1000)},
    Woven: lambda seed, t: {"film": noise(2, 3, 5, 16, seed=seed), "t": torch.full((2,), t)},
    Twofold: lambda seed, t: {
        "pixels": noise(2, 7, 16, seed=seed),
        "words": noise(2, 5, 16, seed=seed + 1),
        "timestep": torch.full((2,), t),
    },
    Cup: lambda seed, t: {"x": noise(2, 7, 16, seed=seed), "t": torch.full((2,), t)},
}


def found(kind):
    model = made(kind)
    return model, infer(model, **CALLS[kind](0, 500.0))


def test_odd_names():
    model, backbone = found(Odd)
    assert backbone.stacks == {"body.tower": Contract(("tokens",), (1,))}
    assert backbone.parts == {"attn": "self_attention", "mlp": "feed_forward"}
    assert backbone.timestep == "sigma"
    assert backbone.time(0.5) == 500
    assert backbone.width_of(model) == 16


def test_lists_that_take_turns():
    _, backbone = found(Woven)
    assert backbone.zipped
    assert list(backbone.stacks.items()) == [
        ("space", Contract(("z",))),
        ("time", Contract(("z",), layout=transposed)),
    ]
    assert (backbone.timestep, backbone.time(500.0)) == ("t", 500)


def test_layouts_are_told_apart_where_there_are_as_many_frames_as_patches():
    model = made(Woven)
    backbone = infer(model, noise(1, 4, 4, 16), torch.tensor([500.0]))
    assert [contract.layout for contract in backbone.stacks.values()] == [None, transposed]


def test_two_streams_that_become_one_leave_the_refiner_out():
    _, backbone = found(Twofold)
    assert list(backbone.stacks.items()) == [
        ("both", Contract(("pixels", "words"), (1, 0))),
        ("one", Contract(("z",))),
    ]
    assert not backbone.zipped


def test_long_skips_that_the_model_joins_itself():
    model, backbone = found(Cup)
    assert list(backbone.stacks) == ["down", "up"]
    assert list(backbone.native(len(backbone.order(model)))) == [(0, 5), (1, 4)]


@pytest.mark.parametrize("kind", CALLS, ids=lambda kind: kind.__name__)
def test_attached_by_what_was_inferred(kind):
    model, backbone = found(kind)
    depth, unit = backbone.depth(model), backbone.unit
    calls = [CALLS[kind](seed, 900.0 - 100 * seed) for seed in range(4)]
    plain = [model(**call) for call in calls]
    always = Policy(Inner(1, 1), Every(1), hold())
    with skipdit.attach(model, always, backbone=backbone):
        assert all(torch.equal(model(**call), y) for call, y in zip(calls, plain, strict=True))
    half = Policy(Inner(1, 1), Every(2), hold())
    with skipdit.attach(model, half, backbone=backbone) as run:
        cached = [model(**call) for call in calls]
    assert [ran for _, _, ran in run.passes] == [depth * unit, 2 * unit] * 2
    assert [torch.equal(y, z) for y, z in zip(cached, plain, strict=True)] == [True, False, True, False]
    with skipdit.attach(model, half, backbone=backbone) as run:  # the same input again gives the same output
        again = [model(**(calls[0] | {backbone.timestep: t})) for t in (calls[0][backbone.timestep],) * 2]
    assert torch.equal(again[0], plain[0])
    assert torch.allclose(again[1], plain[0], atol=1e-6)
    assert torch.equal(model(**calls[3]), plain[3])


def test_skips_join_by_what_was_inferred():
    model, backbone = found(Odd)
    before = model(**CALLS[Odd](1, 300.0))
    skipdit.add_skips(model, backbone=backbone)
    assert model.skip_branches["4"].linear.in_features == 32
    assert torch.equal(model(**CALLS[Odd](1, 300.0)), before)


def test_nothing_is_left_behind():
    model = made(Twofold)
    before, state = model(**CALLS[Twofold](1, 300.0)), {k: v.clone() for k, v in model.state_dict().items()}
    infer(model, **CALLS[Twofold](0, 500.0))
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in model.modules())
    assert all(torch.equal(state[k], v) for k, v in model.state_dict().items())
    assert torch.equal(model(**CALLS[Twofold](1, 300.0)), before)
    with pytest.raises(TypeError):
        infer(model, "no picture")
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in model.modules())


def test_a_run_that_goes_on_is_not_counted():
    model, backbone = found(Odd)
    policy = Policy(Range(1, 3), At((0,)), hold())
    with skipdit.attach(model, policy, backbone=backbone) as run:
        model(**CALLS[Odd](0, 900.0))
        assert infer(model, **CALLS[Odd](0, 500.0)) == backbone
        assert len(run.passes) == 1
        assert list(run.sites) == [Span(1, 3)]


# ---- refusals


class Loose(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = Mix(), Mix()

    def forward(self, x, t):
        return self.second(self.first(x))


class Looped(nn.Module):
    """Runs its list in some order: by numbers."""

    def __init__(self, order, blocks=None):
        super().__init__()
        self.order = order
        self.blocks = nn.ModuleList(blocks or [Mix() for _ in range(4)])

    def forward(self, x, t):
        for number in self.order:
            x = self.blocks[number](x)
        return x


class Narrowing(nn.Module):
    def forward(self, x):
        return x[:, ::2]


class Handing(nn.Module):
    """Gives the condition back with the tokens."""

    def __init__(self):
        super().__init__()
        self.mlp = nn.Linear(16, 16)

    def forward(self, tokens, condition):
        return tokens + self.mlp(tokens) + condition, condition


class Handed(Looped):
    def forward(self, x, t):
        condition = t.sin()
        for block in self.blocks:
            x, condition = block(x, condition)
        return x


class Apart(Looped):
    """Blocks that all get the same input, and whose outputs are summed: nothing flows from one to the next."""

    def forward(self, x, t):
        return sum(block(x) for block in self.blocks)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (Loose(), "Loose ran no block of an nn.ModuleList: hold its blocks in a list"),
        (Looped((0, 1, 2, 3, 1, 2)), "Looped.blocks run more than once in one pass"),
        (Looped((3, 2, 1, 0)), r"holds 4 blocks, which ran as \[3, 2, 1, 0\]"),
        (Looped((0, 1, 3)), r"holds 4 blocks, which ran as \[0, 1, 3\]"),
        (Looped((0, 1), [Narrowing(), Narrowing()]), r"turns \(1, 8, 16\) into \(1, 4, 16\)"),
        (Handed((), [Handing(), Handing(), Handing()]), "give 'condition' back as it came"),
        (Apart(()), "nothing that a block of 'blocks' \\(Mix\\) returns enters the next"),
    ],
    ids=["no list", "more than once", "backwards", "some left out", "another shape", "handed on", "apart"],
)
def test_what_no_stack_can_follow_is_refused_by_name(model, words):
    with pytest.raises(TypeError, match=words):
        infer(model, noise(1, 8, 16), torch.tensor([500.0]))
