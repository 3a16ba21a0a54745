"""skipdit probe: how much a model's features move from step to step, and how far cached runs drift."""

from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer

from skipdit.cli.options import Device, Guidance, Sampler, Threads, device_of
from skipdit.cli.terminal import examples, out, print_json, progress


def add_to(app: typer.Typer) -> None:
    app.command(
        "probe",
        epilog=examples(
            "skipdit probe emoji-skip",
            'skipdit probe emoji-skip --policy "skip_cache(every=2)" --policy "fora(every=2)" --draw out/probe.png',
            'skipdit probe emoji-plain emoji-skip --policy "fora(every=3)" --out out/probe.jsonl --draw out/probe.png',
        ),
    )(probe)


def probe(
    models: Annotated[list[str], typer.Argument(help="Shipped names, folders, or owner/name of the hub.")],
    policy: Annotated[
        list[str] | None,
        typer.Option(help='Such as "skip_cache(every=2)"; see skipdit methods. May be repeated.', show_default=False),
    ] = None,
    pictures: Annotated[int, typer.Option(min=1, help="Drawn at once; classes spread over all that there are.")] = 4,
    steps: Annotated[int, typer.Option(min=2, help="Denoising steps.")] = 50,
    guidance: Guidance = 2.0,
    sampler: Sampler = None,
    seed: Annotated[int, typer.Option(help="Of the noise.")] = 0,
    records: Annotated[Path | None, typer.Option("--out", "-o", help="A .jsonl to write the records to.")] = None,
    draw: Annotated[Path | None, typer.Option(help="A PNG to write.")] = None,
    device: Device = None,
    threads: Threads = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the records as one JSON line.")] = False,
) -> None:
    """Show how alike features are: each block from step to step, and cached runs beside the uncached one.

    Every model draws the same classes with the same noise: once uncached, watched block by block, and once with each
    policy, whose outputs are held against the uncached run's. Nothing is changed by being watched.
    """
    if draw:
        import matplotlib  # noqa: F401 (missing: said now, not after the work)
    import torch

    from skipdit import parse
    from skipdit.aside import writable
    from skipdit.probes import picture
    from skipdit.results import resumed, write

    writable(records, draw)
    others = resumed(records) if records else []
    policies = [parse(spelling) for spelling in policy or []]
    if threads:
        torch.set_num_threads(threads)
    said: dict[str, Any] = dict(steps=steps, guidance=guidance, sampler=sampler, seed=seed)
    with progress(quiet=as_json) as bar:
        task = bar.add_task("probing", total=steps * len(models) * (1 + len(policies)))
        probed = [
            record
            for name in models
            for record in _records(
                name, policies, pictures, said, device, lambda what: bar.update(task, advance=1, description=what)
            )
        ]
    if records:
        names = {record.name for record in probed}
        write(records, [*(record for record in others if record.name not in names), *probed])
    if draw:
        picture.draw(probed, draw)
    if as_json:
        import json

        return print_json({"records": [json.loads(record.to_json()) for record in probed]})
    _show(probed, [path for path in (records, draw) if path])


def _records(name: str, policies: list[Any], pictures: int, said: dict[str, Any], device: str | None, tell: Any) -> Any:
    """A record of the uncached run, and one of each policy's."""
    from skipdit.cli.ours import ours
    from skipdit.plan.study import conditions
    from skipdit.probes.similarity import cached, uncached
    from skipdit.results import Provenance, Record
    from skipdit.sample import sample

    model = ours(name).to(device_of(device)).eval()
    known = model.config.num_classes
    labels, styles = conditions(model.config, [k * known // pictures for k in range(pictures)], pictures)  # spread

    def draw() -> None:
        sample(model, labels, styles, **said, batch_size=pictures, on_step=lambda done, total: tell(name))

    def record(policy: str, figures: dict[str, Any]) -> Record:
        where = Provenance.here(model.dtype, pictures, said["steps"], said["seed"], str(model.device))
        return Record(f"similarity of {name}", policy, figures, where)

    whole = uncached(model, draw)
    yield record("", whole.figures())
    for policy in policies:
        yield record(str(policy), cached(model, draw, policy, whole).figures())


# ---- for people -----------------------------------------------------------------------------------------------------


def _show(records: list[Any], written: list[Path]) -> None:
    from rich.table import Table

    from skipdit.probes import picture

    console = out()
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("block, from step to step", *(picture.model_of(r) for r in picture.of_steps(records))):
        table.add_column(heading, justify="right" if heading in map(picture.model_of, records) else "left")
    for row in _by_block(picture.of_steps(records)):
        table.add_row(*row)
    console.print(table)
    for record in picture.of_runs(records):
        mean, low = (record.figures["similar_to_uncached"][name] for name in ("mean", "low"))
        worst = min(range(len(mean)), key=mean.__getitem__)
        console.print(
            f"[cyan]{picture.model_of(record)}[/], {record.policy}: output to the uncached run's "
            f"[bold]{sum(mean) / len(mean):.6f}[/] in the mean, least {mean[worst]:.6f} at step {worst} "
            f"[dim](an image {low[worst]:.6f})[/]",
            soft_wrap=True,
        )
    for path in written:
        console.print(f"[bold]{path}[/]", soft_wrap=True)


def _by_block(records: list[Any]) -> Iterator[tuple[str, ...]]:
    """A line a block: the median similarity of the steps, model by model."""
    depths = [len(record.figures["similar_steps"]) for record in records]
    for block in range(max(depths)):
        rows = [record.figures["similar_steps"] for record in records]
        yield (str(block), *(f"{median(r[block]):.6f}" if block < len(r) else "" for r in rows))
