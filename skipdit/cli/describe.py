"""What skipdit inspect tells of a transformer of diffusers: a plain dictionary, and a page for people."""

from typing import Any

from skipdit.cli import side_by_side
from skipdit.cli.bar import bar, scale
from skipdit.cli.terminal import out


def description(model: Any, backbone: Any, config: dict[str, Any]) -> dict[str, Any]:
    """Blocks in running order, contracts, parts, timestep, skips, width, parameters: nothing is run."""
    order = backbone.order(model)
    lists = []
    for path, contract in backbone.stacks.items():
        own = [place for place in order if place.stack == path]
        block = type(model.get_submodule(own[0].path)).__name__
        lists.append(
            {
                "path": path,
                "count": len(own),
                "class": " + ".join(contract.within) if contract.within else block,
                "names": contract.names,
                "returns": contract.returns,
                "layout": contract.layout.__name__ if contract.layout else None,
            }
        )
    counts = {name: sum(p.numel() for p in child.parameters()) for name, child in model.named_children()}
    counts |= {name: p.numel() for name, p in model.named_parameters(recurse=False)}
    return {
        "class": type(model).__name__,
        "lists": lists,
        "zipped": backbone.zipped,
        "depth": backbone.depth(model),
        "parts": dict(backbone.parts),
        "timestep": {"name": backbone.timestep, "units": units(backbone.time)},
        "native": sorted(backbone.native(len(order))),
        "breaks": tuple(backbone.breaks(model)),
        "skips": {"form": config.get("skip_join"), "pairs": config.get("skip_pairs") or []},
        "width": _width(model, backbone),
        "parameters": {**counts, "": sum(p.numel() for p in model.parameters())},
    }


def units(time: Any) -> str:
    """In what form a model is given the timestep."""
    said = (time.__doc__ or "").strip().removeprefix("The model is given ").rstrip(".")
    return said or "t"


def _width(model: Any, backbone: Any) -> int | None:
    try:
        return int(backbone.width_of(model))
    except ValueError:
        return None


def rehearsed(model: Any, backbone: Any, policy: Any, steps: int, pairs: Any = ()) -> dict[str, Any]:
    """What a policy would spare over evenly spaced timesteps: its sites, and the share computed at each step.

    pairs    of skip branches that the model will have when its weights are loaded
    """
    from skipdit.core.attach import refuse_unequal_blocks
    from skipdit.core.policy import Leaf, Step
    from skipdit.core.stack import Trunk

    refuse_unequal_blocks(model, backbone, policy)
    trunk = Trunk(model, backbone)
    trunk.join({target: (source, model) for source, target in pairs})  # for where spans are cut: nothing is run
    sites = policy.where(model, backbone)
    sites = [s for site in sites for s in ([site] if isinstance(site, Leaf) else trunk.cut(site))]
    if not sites:
        raise ValueError(f"{policy.where!r} matches nothing in {type(model).__name__}: nothing would be spared")
    sizes = [1 if isinstance(site, Leaf) else site.stop - site.start for site in sites]
    shown = [site.path if isinstance(site, Leaf) else [site.start, site.stop] for site in sites]
    times = [1000 - 1000 * i / steps for i in range(steps)]
    if policy.when.gate:
        return {"sites": shown, "timesteps": times, "plan": None, "spared": None}
    spared = [0] * steps
    for site, size in zip(sites, sizes, strict=True):
        memory: dict[str, Any] = {}
        for i, t in enumerate(times):
            spared[i] += 0 if policy.when(memory, Step(i, steps, t), site, None) or i == 0 else size
    return {"sites": shown, "timesteps": times, "plan": [1 - n / sum(sizes) for n in spared], "spared": spared}


# ---- for people -----------------------------------------------------------------------------------------------------


def show(name: str, found: dict[str, Any]) -> None:
    console = out()
    console.print(f"[bold]{name}[/] ({found['class']})")
    for component, transformer in found["transformers"].items():
        if component:
            console.print(f"\n[bold]{component}[/] ({transformer['class']})")
        _show_one(transformer)
        if "policy" in transformer:
            _show_policy(transformer["policy"], transformer)
        if "methods" in transformer:
            side_by_side.show(transformer["methods"], found["steps"], "evenly spaced")


def _show_one(found: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column()
    for each in found["lists"]:
        back = "the main stream" if each["returns"] is None else f"places {', '.join(map(str, each['returns']))}"
        table.add_row("blocks", f"{each['count']} {each['class']} in .{each['path']}")
        moved = f", {each['layout']}" if each["layout"] else ""
        table.add_row("", f"[dim]enters as {', '.join(each['names'])}, returns {back}{moved}[/]")
    if len(found["lists"]) > 1:
        table.add_row("order", "they take turns" if found["zipped"] else "one list after the other")
    table.add_row("parts", ", ".join(f"{part} ({_spelled(path)})" for part, path in found["parts"].items()) or "none")
    table.add_row(
        "timestep", f"{found['timestep']['name']}: {found['timestep']['units']}, where t falls from 1000 to 0"
    )
    for label, pairs in (("own skips", found["native"]), ("skips", found["skips"]["pairs"])):
        if pairs or label == "skips":
            form = found["skips"]["form"] if label == "skips" and pairs else ""
            shown = ", ".join(f"{source} -> {target}" for source, target in pairs) or "none"
            table.add_row(label, f"{form}: {shown}" if form else shown)
    if found["breaks"]:
        table.add_row("breaks", f"the flow starts anew before block {', '.join(map(str, found['breaks']))}")
    table.add_row("width", str(found["width"] or "not known"))
    counts = found["parameters"]
    table.add_row("parameters", f"[bold]{counts[''] / 1e6:.2f} M[/]")
    for part, count in counts.items():
        if part and count:
            table.add_row("", f"{count / counts['']:6.1%}  {part}")
    out().print(table)


def _spelled(path: Any) -> str:
    return f".{path}" if isinstance(path, str) else " or ".join(f".{each}" for each in path)


def _show_policy(policy: dict[str, Any], found: dict[str, Any]) -> None:
    console = out()
    spans = [site for site in policy["sites"] if not isinstance(site, str)]
    parts = [site for site in policy["sites"] if isinstance(site, str)]
    blocks = sum(each["count"] for each in found["lists"])
    console.print(f"\n[bold cyan]{policy['spelling']}[/]")
    if spans:
        console.print(f"spares blocks {', '.join(_from_to(*span) for span in spans)} of 0 to {blocks - 1}")
    if parts:
        console.print(f"spares {len(parts)} parts: {', '.join(parts[:3])}{' ...' if len(parts) > 3 else ''}")
    if policy["plan"] is None:
        console.print("A gate: it decides during the run by what it sees, so there is no plan beforehand.")
        return
    steps, most = len(policy["plan"]), max(policy["spared"])
    kept = sum(share == 1 for share in policy["plan"])
    console.print(bar(policy["plan"]))
    console.print(scale(1000, policy["timesteps"][-1], steps))
    console.print(
        f"{kept} of {steps} steps computed in full; {sum(policy['spared'])} of "
        f"{steps * (len(parts) or blocks)} {'parts' if parts else 'blocks'} spared, {most} a step at most"
    )


def _from_to(start: int, stop: int) -> str:
    return str(start) if stop == start + 1 else f"{start} to {stop - 1}"
