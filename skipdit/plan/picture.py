"""A plan as a picture: which steps are computed, how far the held value moves, and what else was tried."""

from pathlib import Path

from skipdit.aside import written_aside
from skipdit.plan.plan import Plan

TITLE = dict(loc="left", fontsize=10)


def draw(plan: Plan, path: Path) -> None:
    """Write a PNG. Raises ImportError without matplotlib, which `pip install skipdit[train]` brings."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 7), layout="constrained")
    bar, curves, pareto = figure.subplots(3, 1, height_ratios=[1 + 0.3 * len(plan.computed), 3, 4])
    evidence = plan.evidence
    for row, (kind, steps) in enumerate(plan.computed.items()):
        for step in range(plan.steps):
            face = "#2f6f4f" if step in steps else "#e7e7e3"
            bar.add_patch(_cell(step, row, face))
        bar.text(plan.steps + 0.5, row + 0.5, f"{kind} {len(steps)}/{plan.steps}", va="center", fontsize=8)
    bar.set(xlim=(0, plan.steps), ylim=(0, len(plan.computed)), yticks=[])
    bar.set_title(f"{plan.model}, {plan.sampler}: computed steps (dark); {plan.what!r}", **TITLE)
    for gap, values in evidence.get("curves", {}).items():
        places = [int(gap) + i for i in range(len(values))]
        curves.plot(places, values, label=f"gap {gap}", linewidth=1.2)
    curves.set(xlabel="step", ylabel="relative error", xlim=(0, plan.steps))
    curves.set_title("error of holding the value over a gap", **TITLE)
    if evidence.get("curves"):
        curves.legend(frameon=False, fontsize=8)
    shapes = sorted({line["shape"] for line in evidence.get("tried", ())})
    for shape in shapes:
        lines = [line for line in evidence["tried"] if line["shape"] == shape]
        pareto.scatter([t["speedup"] for t in lines], [t["psnr"] for t in lines], s=9, alpha=0.6, label=shape)
    _held_out(plan, pareto)
    pareto.set(xlabel="speed-up (tried: predicted; held out: measured)", ylabel="PSNR to uncached, dB")
    pareto.set_title("what was tried on calibration pictures, and the plan on held-out ones", **TITLE)
    pareto.legend(frameon=False, fontsize=7, ncols=2)
    for axes in (curves, pareto):
        axes.spines[["top", "right"]].set_visible(False)
    with written_aside(path) as aside:
        figure.savefig(aside, dpi=130)


def _held_out(plan: Plan, axes: object) -> None:
    """The plan and the same time spent on fewer steps, with 95 % intervals."""
    evidence = plan.evidence
    if "held_out_psnr" not in evidence:
        return
    rival = evidence["fewer_steps"]
    for figures, label, colour in (
        (evidence["held_out_psnr"], "this plan, held out", "black"),
        (rival["psnr"], f"{rival['steps']} steps, held out", "#b03a2e"),
    ):
        low, high = figures["ci95"]
        axes.errorbar(  # type: ignore[attr-defined]
            evidence["measured_speedup"],
            figures["mean"],
            yerr=[[figures["mean"] - low], [high - figures["mean"]]],
            fmt="D",
            markersize=5,
            capsize=3,
            color=colour,
            label=label,
        )


def _cell(step: int, row: int, face: str) -> object:
    from matplotlib.patches import Rectangle

    return Rectangle((step + 0.06, row + 0.1), 0.88, 0.8, facecolor=face)
