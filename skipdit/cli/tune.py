"""skipdit tune: find the plan that spends a budget best on a model, and check it."""

from pathlib import Path
from typing import Annotated, Any

import typer

from skipdit.cli.options import Device, Guidance, Sampler, Threads, device_of, flag, typed
from skipdit.cli.terminal import examples, out, print_json, progress


def add_to(app: typer.Typer) -> None:
    app.command(
        "tune",
        epilog=examples(
            "skipdit tune emoji-skip --speedup 2 -o plans/skip-2x.json",
            "skipdit tune emoji-skip --psnr 45 --minutes 5 -o plans/skip-45db.json",
            "skipdit tune emoji-plain --flops 0.4 --steps 30 --sampler dpm++ -o plans/plain.json",
            "skipdit tune emoji-skip --check plans/skip-2x.json --held-out 64",
            'skipdit sample emoji-skip "red apple" --policy plans/skip-2x.json',
            "skipdit inspect emoji-skip --policy plans/skip-2x.json",
        ),
    )(tune)


CHECKS = ("model", "checked", "plan", "held_out", "device", "threads", "as_json")  # what --check asks for


def tune(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(help="A shipped name, a folder, or owner/name of the Hugging Face hub.")],
    speedup: Annotated[float | None, typer.Option(help="Times as fast as uncached, in measured time.")] = None,
    psnr: Annotated[float | None, typer.Option(help="dB to the uncached pictures; as fast as that allows.")] = None,
    flops: Annotated[float | None, typer.Option(help="Share of the FLOPs that may be spent, such as 0.5.")] = None,
    checked: Annotated[
        Path | None, typer.Option("--check", help="Measure this plan's evidence anew, here, and write it again.")
    ] = None,
    plan: Annotated[
        Path | None, typer.Option("--out", "-o", help="The plan to write.", show_default="out/plan.json")
    ] = None,
    steps: Annotated[int, typer.Option(min=3, help="Denoising steps; a plan holds for this number.")] = 50,
    guidance: Guidance = 2.0,
    sampler: Sampler = None,
    seed: Annotated[int, typer.Option(help="Of the search, the labels and the noise.")] = 0,
    pictures: Annotated[int, typer.Option(min=2, help="Pictures to calibrate on.")] = 8,
    held_out: Annotated[int, typer.Option(min=2, help="Others to check with: other labels, other seeds.")] = 32,
    tries: Annotated[int, typer.Option(min=20, help="Schedules to try at most.")] = 150,
    minutes: Annotated[float, typer.Option(min=0.01, help="Time to spend at most, about.")] = 10.0,
    device: Device = None,
    threads: Threads = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as one JSON line.")] = False,
) -> None:
    """Find which steps a model must compute, and what stands in at the others, for one of three goals.

    Watches one uncached run, tries schedules on half of the labels, checks the best on the other half, and writes a
    plan (JSON) and a picture of it. After Ctrl-C the same command goes on where it stopped: all that was tried lies
    beside the plan, in a .tried.jsonl. Use the plan wherever a policy is spelled: --policy plan.json. With --check
    nothing is searched: what a plan gives on held-out labels, and how fast it is here, is measured again.
    """
    plan = plan or checked or Path("out/plan.json")
    if plan.suffix != ".json":
        raise ValueError(f"{plan}: a plan is known by its name: let it end in .json")
    if checked and (other := [name for name in typed(ctx) if name not in CHECKS]):
        raise ValueError(f"--check searches nothing, so {flag(ctx, other[0])} can't be had: leave it out")
    import matplotlib  # noqa: F401 (missing: said now, not after ten minutes)
    import torch

    from skipdit.aside import writable
    from skipdit.cli.ours import ours
    from skipdit.plan import picture
    from skipdit.plan.plan import Plan
    from skipdit.plan.shapes import Goal
    from skipdit.plan.tune import check
    from skipdit.plan.tune import tune as search

    if checked is None:
        goal = Goal(speedup, psnr, flops)
    writable(plan, plan.with_suffix(".png"), plan.with_suffix(".tried.jsonl"))
    if threads:
        torch.set_num_threads(threads)
    loaded = ours(model).to(device_of(device)).eval()
    with progress(quiet=as_json) as bar:
        task = bar.add_task("tuning", total=tries)

        def tell(done: int, total: int, what: str) -> None:
            bar.update(task, completed=min(done, total), total=total, description=what)

        if checked is not None:
            found = check(loaded, Plan.load(checked), held_out, tell=tell)
            found.save(plan)
        else:
            said: dict[str, Any] = dict(steps=steps, guidance=guidance, sampler=sampler, seed=seed, pictures=pictures)
            said |= dict(held_out=held_out, tries=tries, minutes=minutes, tell=tell)
            found = search(loaded, model, goal, plan, **said)
    picture.draw(found, plan.with_suffix(".png"))
    if as_json:
        return print_json({"out": str(plan), **found.as_dict()})
    _show(found, plan)


def _show(plan: Any, path: Path) -> None:
    evidence, console = plan.evidence, out()
    computed = set(plan.computed["span"])
    bar = "".join("[green]█[/]" if step in computed else "[dim]░[/]" for step in range(plan.steps))
    rival, ahead = evidence["fewer_steps"], evidence["ahead_of_fewer_steps"]
    console.print(f"[bold]{path}[/]: {evidence['masks_tried']} schedules tried, {evidence['seconds']:.0f} s")
    console.print(bar)
    console.print(f"{len(computed)} of {plan.steps} steps computed [dim](filled)[/]; {plan.where}, {plan.what}")
    console.print(
        f"measured speed-up [bold]{evidence['measured_speedup']:.2f}x[/] "
        f"(predicted {evidence['predicted_speedup']:.2f}x)"
    )
    console.print(f"calibration  {_spread(evidence['calibration_psnr'])}")
    console.print(f"held out     {_spread(evidence['held_out_psnr'])}")
    console.print(f"{rival['steps']:>2} steps     {_spread(rival['psnr'])} in the same time")
    console.print(f"ahead by     {_spread(ahead)}")


def _spread(figures: dict[str, Any]) -> str:
    low, high = figures["ci95"]
    return f"[bold]{figures['mean']:.2f} dB[/] [dim](95 % interval {low:.2f} ... {high:.2f}, {figures['pictures']})[/]"
