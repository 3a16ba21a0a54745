"""A plan is a value and a file; it refuses another model, sampler or number of steps by name."""

import json
from dataclasses import replace

import pytest
import torch
from zoo import dit

from skipdit import attach, parse, sample
from skipdit.core.policy import Policy
from skipdit.core.what import Estimate, forecast, hold
from skipdit.core.where import Inner, Parts
from skipdit.plan.curves import Curves, smoothcache, smoothcache_schedules
from skipdit.plan.fingerprint import fingerprint, same
from skipdit.plan.fitted import fit
from skipdit.plan.plan import Plan, files_print
from skipdit.plan.study import Study

STEPS = 8


def study(model, pictures: int = 3) -> Study:
    return Study.of(model, STEPS, 2.0, None, 0, pictures, pictures)[0]


def plan_for(model, **changed) -> Plan:
    said = study(model)
    plan = Plan(
        model="tiny",
        fingerprint=fingerprint(model),
        sampler=said.sampler,
        timesteps=said.timesteps,
        guidance=2.0,
        where=Inner(1, 1),
        computed={"span": (0, 1, 3, 6)},
        what=forecast(1, change=True),
        evidence={"psnr": 30.5},
    )
    return replace(plan, **changed)


@pytest.fixture(scope="module")
def model():
    return dit("replace")


def test_a_plan_comes_back_from_its_file(model, tmp_path):
    table = torch.eye(STEPS, dtype=torch.float64) + 0.5
    for what in (hold(), forecast(2), Estimate(fit(table, (0, 1, 3, 6), 2), keep=2)):
        plan = plan_for(model, what=what)
        plan.save(tmp_path / "plan.json")
        back = Plan.load(tmp_path / "plan.json")
        assert back.evidence == plan.evidence
        assert back.policy().where == plan.policy().where
        seen = [1, 0]
        assert back.what.rule(seen, 2)[: what.keep] == pytest.approx(what.rule(seen, 2)[: what.keep], rel=1e-6)
    parts = plan_for(model, where=Parts(("attn", "mlp")), computed={"attn": (0, 4), "mlp": (0, 2, 5)}, what=hold())
    assert Plan.from_dict(json.loads(json.dumps(parts.as_dict()))) == parts


def test_a_plan_file_is_spelled_like_a_policy_and_computes_what_it_says(model, tmp_path):
    plan_for(model).save(tmp_path / "plan.json")
    policy = parse(str(tmp_path / "plan.json"))
    assert str(policy) == str(tmp_path / "plan.json")
    with attach(model, policy) as run:
        sample(model, [0, 1], steps=STEPS)
    assert [event.step for event in run.trace if event.computed] == [0, 1, 3, 6]


def test_each_kind_of_part_follows_its_own_schedule(model):
    plan = plan_for(model, where=Parts(("attn", "mlp")), computed={"attn": (0, 4), "mlp": (0, 2, 5)}, what=hold())
    with attach(model, plan.policy()) as run:
        sample(model, [0], steps=STEPS)
    for kind, steps in plan.computed.items():
        assert {event.step for event in run.trace if event.computed and event.site.kind == kind} == set(steps)


def test_another_model_sampler_or_number_of_steps_is_refused_by_name(model):
    policy = plan_for(model).policy()
    other = dit("replace")
    with torch.no_grad():
        next(other.blocks[2].parameters()).mul_(1.5)
    with pytest.raises(ValueError, match=r"plan for tiny .* another model"), attach(other, policy):
        pass
    with pytest.raises(ValueError, match="another model"), attach(dit(None), policy):
        pass
    for said, message in (
        (dict(steps=STEPS + 1), "plan for tiny with 8 steps: this run has 9"),
        (dict(steps=STEPS, sampler="dpm++"), r"plan for tiny with ddim: it can't be used with dpm\+\+"),
    ):
        with attach(model, policy), pytest.raises(ValueError, match=message):
            sample(model, [0], **said)
    with attach(model, policy) as run, torch.no_grad():
        run.begin(0, 500.0)
        with pytest.raises(ValueError, match="step 0 is at t = 999 there and at 500 here"):
            model(torch.zeros(1, 3, 8, 8), torch.tensor([500.0]), torch.tensor([0]))


def test_a_plan_is_rescaled_only_where_one_says_so(model, tmp_path):
    plan_for(model).save(tmp_path / "plan.json")
    (tmp_path / "of@2.json").write_text((tmp_path / "plan.json").read_text())
    assert parse(f"{tmp_path / 'of@2.json'}") == parse(f"{tmp_path / 'plan.json'}")
    with attach(model, parse(f"{tmp_path / 'plan.json'}@16")) as run:
        sample(model, [0], steps=16)
    assert [event.step for event in run.trace if event.computed] == [0, 2, 6, 12]
    fitted = plan_for(model, what=Estimate(fit(torch.eye(STEPS, dtype=torch.float64), (0, 1, 3, 6), 2), keep=2))
    with pytest.raises(ValueError, match="can't be rescaled to 16: tune anew"):
        fitted.rescaled(16, tuple(range(16)))
    with pytest.raises(ValueError, match="after @ stands the number of steps"):
        parse(f"{tmp_path / 'plan.json'}@many")


def test_files_that_are_no_plans_are_refused(model, tmp_path):
    path = tmp_path / "plan.json"
    good = plan_for(model).as_dict()
    for said, message in (
        ("{", "is no plan"),
        ("[1]", "a plan is a JSON object, and this is a list"),
        (json.dumps({"form": 9}), "form 9"),
        (json.dumps({k: v for k, v in good.items() if k != "sampler"}), "lacks or garbles 'sampler'"),
        (json.dumps({**good, "what": {"rule": "magic", "keep": 1, "change": False}}), "unknown rule 'magic'"),
        (json.dumps({**good, "computed": {"span": [1, 2]}}), "must begin with 0"),
    ):
        path.write_text(said)
        with pytest.raises(ValueError, match=message):
            parse(str(path))
    with pytest.raises(FileNotFoundError):
        parse("nowhere/plan.json")
    with pytest.raises(ValueError, match="its rule must be one of"):
        plan_for(model, what=Estimate(lambda seen, at: [1.0])).as_dict()


def test_a_fingerprint_sees_weights_and_shapes_but_not_the_dtype(model):
    assert same(fingerprint(model), fingerprint(dit("replace").bfloat16()))
    assert not same(fingerprint(model), fingerprint(dit("join")))
    assert same(fingerprint(model), fingerprint(dit("replace").to("meta")))
    assert fingerprint(model) != fingerprint(dit("replace").to("meta"))


def test_watching_changes_nothing_and_gives_the_inner_products(model):
    said = study(model)
    plain = said.draw()
    left = []
    hook = model.blocks[4].register_forward_hook(lambda module, args, y: left.append(y.flatten().double()))
    try:
        grams = said.watch([Inner(0, 0), Inner(1, 1), Inner(2, 2)])
    finally:
        hook.remove()
    assert torch.equal(said.reference, plain)
    flow = torch.stack(left)
    assert torch.allclose(grams[Inner(1, 1)], flow @ flow.T, rtol=1e-4)
    assert not torch.allclose(grams[Inner(0, 0)], grams[Inner(1, 1)])


def test_curves_are_the_relative_changes_of_what_a_part_gives(model):
    curves, outputs = Curves(lookahead=2), []
    hook = model.blocks[1].attn.register_forward_hook(lambda module, args, y: outputs.append(y.detach().clone()))
    try:
        with attach(model, Policy(Parts(("attn",)), curves, hold())):
            sample(model, [0, 1], steps=5)
    finally:
        hook.remove()
    assert [len(row) for row in curves.rows("attn")] == [4, 3]
    one = ((outputs[1] - outputs[3]).abs().sum() / outputs[3].abs().sum()).item()
    mine = [values for (kind, row, i), values in curves._seen.items() if (kind, row, i) == ("attn", 1, 1)]
    assert mine[0][1] == pytest.approx(one, rel=1e-5)  # of block 1
    with pytest.raises(ValueError, match="nothing of kind 'mlp'"):
        curves.rows("mlp")


def published(rows, threshold, steps):
    """The schedule as the authors' code makes it, written out from its description: 1 computes, 0 reuses."""
    bits, i = [None] * steps, 0
    while i < steps:
        for r in range(len(rows) - 1, -1, -1):
            if i < len(rows[r]) and rows[r][i] <= threshold:
                bits[i] = 1
                for k in range(i + 1, min(i + r + 2, steps)):
                    bits[k] = 0
                i += r + 2
                break
        else:
            bits[i] = 1
            i += 1
    bits[0] = bits[-1] = 1
    return tuple(i for i, bit in enumerate(bits) if bit == 1)


def test_smoothcache_by_hand():
    rows = [[0.1, 0.3, 0.1, 0.1, 0.3, 0.1, 0.1], [0.2, 0.4, 0.2, 0.4, 0.4, 0.4], [0.4, 0.5, 0.2, 0.5, 0.5]]
    assert smoothcache(rows, 0.2, 8) == (0, 3, 5, 7)  # 0 jumps over 1 and 2, 3 over 4, 5 over 6
    assert smoothcache(rows, 0.0, 8) == tuple(range(8))
    assert smoothcache(rows, 9.0, 8) == (0, 4, 7)
    assert smoothcache_schedules({"attn": rows, "mlp": rows}, 0.2, 8)["mlp"] == (0, 3, 5, 7)


@pytest.mark.parametrize("seed", range(30))
def test_smoothcache_is_the_published_schedule(seed):
    torch.manual_seed(seed)
    steps = 12
    rows = [torch.rand(steps - 1 - r).tolist() for r in range(3)]
    assert smoothcache(rows, 0.4, steps) == published(rows, 0.4, steps)


def test_a_policy_longer_than_a_file_name_names_no_file():
    ratios = f"magcache(ratios=({'1.0, ' * 100}), threshold=0.1, most=2)"
    schedule = f"smoothcache(schedule={{'attn': '{'10' * 200}'}})"
    assert [files_print(policy) for policy in (ratios, schedule)] == ["", ""]
    assert files_print("emoji-skip/plan-2x.json") == files_print("emoji-skip/plan-2x.json@25") != ""
