"""skipdit inspect: what a model is made of, and what a policy, or every method, would spare."""

from pathlib import Path
from typing import Annotated, Any

import typer

from skipdit.cli import describe, saved, side_by_side
from skipdit.cli.bar import bar, scale
from skipdit.cli.options import Sampler
from skipdit.cli.rehearse import Asked, rehearsed
from skipdit.cli.terminal import examples, out, print_json


def add_to(app: typer.Typer) -> None:
    app.command(
        "inspect",
        epilog=examples(
            "skipdit inspect emoji-skip",
            'skipdit inspect emoji-skip --policy "skip_cache(every=3, hi=950)" --steps 50',
            "skipdit inspect emoji-skip --policy N2-700-50",
            'skipdit inspect emoji-skip --policy "fora(every=2)" --draw out/fora.png',
            "skipdit inspect emoji-skip --methods",
            'skipdit inspect emoji-skip --methods --policy "dbcache(front=2)" --draw out/methods.png',
            'skipdit inspect path/to/a/pipeline --policy "skip_cache(every=2)"',
        ),
    )(inspect)


def inspect(
    model: Annotated[
        str,
        typer.Argument(
            help="A shipped name, a folder (diffusers' models and pipelines too), or owner/name of the hub."
        ),
    ],
    policy: Annotated[
        list[str] | None,
        typer.Option(help='Such as "skip_cache(every=2)"; see skipdit methods. May be repeated.', show_default=False),
    ] = None,
    methods: Annotated[
        bool, typer.Option("--methods", help="Every method with its defaults, or as --policy says of it.")
    ] = False,
    draw: Annotated[
        Path | None, typer.Option(help="A PNG to write: what is computed at each step, in each block.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Denoising steps that the policy is held against.")] = 50,
    sampler: Sampler = None,
    call: Annotated[
        str | None, typer.Option(help="For a pipeline of an unknown class: the arguments of a call, as JSON.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all of it as one JSON line.")] = False,
) -> None:
    """Show a model's blocks, parts and skip branches, and what policies would spare.

    A policy that decides by what it sees, a gate, has no plan beforehand: among --methods and in a picture it is shown
    as it decided while one picture was drawn.

    Of a folder that diffusers saved, every transformer is shown. Where its class is unknown, a pipeline is run for one
    step to find out how it is laid out: say how with --call.
    """
    from skipdit import parse
    from skipdit.aside import writable
    from skipdit.backbones.dit import DiT, described
    from skipdit.convert import own_class

    writable(draw)
    asked = Asked([parse(spelling) for spelling in policy or []], methods, steps, sampler, draw)
    if saved.holds_foreign(Path(model)):
        shown = saved.described(Path(model), asked, call)
        return print_json({"model": model, **shown}) if as_json else describe.show(model, shown)
    own = own_class(described(model)[1].get("_class_name")) or DiT  # which refuses what is not of ours
    loaded = own.from_pretrained(model).eval()
    found = _described(loaded)
    if asked.anything:
        found |= rehearsed(loaded, model, asked, quiet=as_json)
    if as_json:
        return print_json({"model": model, **found})
    _show(model, found)


def _described(model: Any) -> dict[str, Any]:
    """What there is to know without running the model."""
    from skipdit.core.backbone import Backbone
    from skipdit.core.flops import count_flops
    from skipdit.core.stack import trunk_of
    from skipdit.rehearse.rehearsal import one_image
    from skipdit.sample import shape_of

    backbone, config = Backbone.of(model), model.config
    blocks = backbone.blocks(model)
    contract = next(iter(backbone.stacks.values()))
    joins = trunk_of(model, backbone).joins
    parts = {name: sum(p.numel() for p in child.parameters()) for name, child in model.named_children()}
    parts |= {name: p.numel() for name, p in model.named_parameters(recurse=False)}
    return {
        "class": type(model).__name__,
        "input": list(shape_of(config)),
        "prediction": config.prediction,
        "classes": config.num_classes,
        "styles": list(config.get("style_names") or []) or config.get("num_styles", 0),
        "parameters": {**parts, "": sum(p.numel() for p in model.parameters())},
        "blocks": {"list": ", .".join(backbone.stacks), "count": len(blocks), "class": type(blocks[0]).__name__},
        "contract": {"names": contract.names, "returns": contract.returns},
        "parts": dict(backbone.parts),
        "skips": {"form": config.skips, "pairs": sorted((source, target) for target, (source, _) in joins.items())},
        "flops": count_flops(model, (one_image(model), {}))[""],
    }


# ---- for people -----------------------------------------------------------------------------------------------------


def _show(name: str, found: dict[str, Any]) -> None:
    from rich.table import Table

    counts, blocks, contract = found["parameters"], found["blocks"], found["contract"]
    shape = " x ".join(map(str, found["input"]))
    styles, kind = found["styles"], "image" if len(found["input"]) == 3 else "video"
    back = "the main stream" if contract["returns"] is None else f"places {contract['returns']}"
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column()
    table.add_row("input", f"{shape}, {found['classes']:,} classes, {_styles(styles)}")
    table.add_row("predicts", found["prediction"])
    table.add_row("blocks", f"{blocks['count']} {blocks['class']} in .{blocks['list']}")
    table.add_row("contract", f"enters as {', '.join(contract['names'])}, returns {back}")
    table.add_row("parts", ", ".join(f"{part} (.{path})" for part, path in found["parts"].items()))
    table.add_row("skips", _pairs(found["skips"]))
    table.add_row("parameters", f"[bold]{counts[''] / 1e6:.2f} M[/]")
    for part, count in counts.items():
        if part:
            table.add_row("", f"{count / counts['']:6.1%}  {part}")
    table.add_row("compute", f"{found['flops'] / 1e9:.3f} GFLOPs a pass and {kind}, twice that with guidance")
    console = out()
    console.print(f"[bold]{name}[/] ({found['class']})\n")
    console.print(table)
    if "policy" in found:
        _show_policy(found["policy"])
    if "methods" in found:
        side_by_side.show(found["methods"], found["steps"], found["sampler"])
    if "out" in found:
        console.print(f"\n[bold]{found['out']}[/]", soft_wrap=True)


def _styles(styles: Any) -> str:
    return ("styles " + ", ".join(styles)) if styles and not isinstance(styles, int) else f"{styles or 'no'} styles"


def _pairs(skips: dict[str, Any]) -> str:
    if not skips["pairs"]:
        return "none"
    return f"{skips['form']}: " + ", ".join(f"{source} -> {target}" for source, target in skips["pairs"])


def _show_policy(policy: dict[str, Any]) -> None:
    console = out()
    console.print(f"\n[bold cyan]{policy['spelling']}[/]")
    if policy["plan"] is None:
        console.print("A gate: it decides during the run by what it sees, so there is no plan beforehand.")
        return
    console.print(bar(policy["plan"]))
    times, report = policy["timesteps"], policy["report"]
    if policy.get("pictures"):
        console.print(f"[dim]a gate, which decides by what it sees: measured on {policy['pictures']} picture[/]")
    console.print(scale(times[0], times[-1], len(times)))
    console.print(
        f"{report['computed']} of {report['steps']} steps computed [dim](filled)[/], {report['stood_in']} stood in; "
        f"{report['blocks_run']} of {report['blocks_in_full']} blocks run"
    )
    spared, full = report["spared_flops"], report["flops"] + report["spared_flops"]
    console.print(
        f"{spared / 1e9:.2f} of {full / 1e9:.2f} GFLOPs an image spared ({spared / full:.0%}): "
        f"ideal speed-up [bold]{report['ideal_speedup']:.2f}x[/]; {report['bytes_held'] / 1e3:.0f} kB held an image"
    )
