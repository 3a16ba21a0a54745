"""skipdit bench: policies on one model, timed in turns and held against uncached pictures and against fewer steps."""

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from skipdit.cli.options import Device, Guidance, Threads, device_of
from skipdit.cli.terminal import err, examples, out, print_json, progress


def add_to(app: typer.Typer) -> None:
    app.command(
        "bench",
        epilog=examples(
            'skipdit bench emoji-skip --policy "skip_cache(every=2)" --policy "fora(every=3)" --plain emoji-plain',
            'skipdit bench emoji-skip --policy "skip_cache(every=2)" --passes "reuse(every=2)" --steps 50 --steps 25',
            'skipdit bench emoji-plain --policy "taylorseer(every=3)" --sampler ddim --sampler dpm++ --pairs 64',
            'skipdit bench emoji-plain --policy "first_block(threshold=0.1)" --peers --pairs 64 --threads 1',
            'skipdit bench emoji-skip --policy "skip_cache(every=2)" --pairs 8 --profile out/trace.json',
            "skipdit report out/bench.jsonl --out out/report",
        ),
    )(bench)


def bench(
    model: Annotated[str, typer.Argument(help="A shipped name, a folder, or owner/name of the Hugging Face hub.")],
    policy: Annotated[
        list[str] | None,
        typer.Option(help='Such as "skip_cache(every=2)"; see skipdit methods. May be repeated.', show_default=False),
    ] = None,
    passes: Annotated[
        list[str] | None,
        typer.Option(help='Such as "reuse(every=2)": alone and with each policy. May be repeated.', show_default=False),
    ] = None,
    steps: Annotated[
        list[int] | None, typer.Option(min=2, help="Denoising steps. May be repeated.", show_default="50")
    ] = None,
    sampler: Annotated[
        list[str] | None,
        typer.Option(help="ddim, ddpm, dpm++, or euler for flow. May be repeated.", show_default="ddim or euler"),
    ] = None,
    plain: Annotated[
        str | None, typer.Option(help="A model without branches, to compare the time with, too.", show_default=False)
    ] = None,
    peers: Annotated[
        bool, typer.Option("--peers", help="Beside the caches of diffusers, cache-dit and SmoothCache that fit.")
    ] = False,
    pairs: Annotated[int, typer.Option(min=1, help="Labels and seeds that every candidate draws.")] = 32,
    batch: Annotated[int, typer.Option(min=1, help="Pictures drawn at once; each batch is a round of timing.")] = 8,
    guidance: Guidance = 2.0,
    seed: Annotated[int, typer.Option(min=0, help="Of the noise.")] = 0,
    records: Annotated[Path, typer.Option("--out", "-o", help="The .jsonl to write the records to.")] = Path(
        "out/bench.jsonl"
    ),
    profile: Annotated[
        Path | None, typer.Option(help="Write a Chrome trace (.json) of one step computed and one stood in for.")
    ] = None,
    device: Device = None,
    threads: Threads = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the records as one JSON line.")] = False,
) -> None:
    """Measure policies on a model: how much faster, how near to the uncached pictures, and what fewer steps give
    in the same time.

    Every candidate draws the same pairs of label and seed, in turns; labels are those of the model that skipdit tune
    (with its default seed) doesn't calibrate on. The same command goes on where it stopped; more --pairs or another
    --policy cost only what is new. For a page of tables and plots: skipdit report.
    """
    if not policy and not passes and not peers:
        raise ValueError(
            'bench: name at least one --policy or --passes, such as --policy "skip_cache(every=2)", or --peers'
        )
    if profile and not policy:
        raise ValueError("--profile shows a step that a policy stands in for: name a --policy")
    import torch

    from skipdit.aside import writable
    from skipdit.bench.candidates import Setting
    from skipdit.bench.compare import compare
    from skipdit.cli.ours import ours
    from skipdit.diffusion import SAMPLERS

    writable(records, records.with_suffix(".rounds.jsonl"), profile)
    if threads:
        torch.set_num_threads(threads)
    device = device_of(device)
    loaded = ours(model).to(device).eval()
    twin = None if plain is None else (plain, ours(plain).to(device).eval())
    samplers = sampler or [SAMPLERS[loaded.config.prediction][0]]
    settings = [Setting(one, count, guidance, seed, pairs, batch) for one in samplers for count in steps or [50]]
    profiled = _profiled(loaded, settings[0], policy[0]) if profile and policy else None
    with progress(quiet=as_json) as bar:
        task = bar.add_task("drawing", total=None)

        def tell(done: int, total: int, what: str) -> None:
            bar.update(task, completed=done, total=total, description=what)

        trial = _tried(loaded, settings[0], bar) if peers else None
        fit = list(trial.fit) if trial else []
        found = compare(model, loaded, settings, policy or [], records, passes or [], twin, tell, fit)
    if profile and profiled:
        _profile(profiled, profile)
    if as_json:
        import json

        said: dict[str, Any] = {"out": str(records), "records": [json.loads(record.to_json()) for record in found]}
        return print_json(said | ({"peers": asdict(trial)} if trial else {}))
    _show(found, records)
    if trial:
        _show_trial(trial)


def _tried(model: Any, setting: Any, bar: Any) -> Any:
    """Which peers fit the model, found out on the first pair."""
    from skipdit.bench.peers_here import PEERS, tried

    task = bar.add_task("trying peers", total=len(PEERS))
    found = tried(model, next(setting.batches(model)), lambda name: bar.update(task, advance=1, description=name))
    bar.remove_task(task)
    return found


def _profiled(model: Any, setting: Any, spelling: str) -> tuple[Any, Any, int]:
    """(first batch, policy, the step to profile). Raises ValueError where there is none: before the bench."""
    from skipdit import parse
    from skipdit.bench.trace import stood_in

    study, policy = next(setting.batches(model)), parse(spelling)
    return study, policy, stood_in(study, policy)


def _profile(profiled: tuple[Any, Any, int], path: Path) -> None:
    """Write the trace: after the bench, as a profiler may slow down what comes after it."""
    from skipdit.bench.trace import trace

    _, policy, step = profiled
    trace(*profiled, path)
    err().print(
        f"[bold]{path}[/]: {policy}, step {step - 1} computed and step {step} stood in for; "
        "open it in chrome://tracing or ui.perfetto.dev",
        soft_wrap=True,
    )


# ---- for people -----------------------------------------------------------------------------------------------------


def _show(records: list[Any], path: Path) -> None:
    from itertools import groupby

    console = out()
    for (sampler, steps), rows in groupby(records, key=lambda r: (r.figures["sampler"], r.figures["of_steps"])):
        _show_setting(list(rows), f"{sampler}, {steps} steps")
    where, pairs = records[0].provenance, records[0].figures["pairs"]
    console.print(
        f"[dim]{pairs} pairs, {where.batch} at once; speed-up: median over the batches of the ratio to uncached; PSNR, "
        "SSIM, LPIPS to the uncached pictures; over fewer: dB ahead of fewer steps in the same time\n"
        f"{where.machine}, threads: {where.threads}, torch {where.torch}, {where.dtype}, {where.commit}[/]",
        soft_wrap=True,
    )
    if all(record.figures["lpips"] is None for record in records):
        console.print("[dim]without LPIPS: skipdit weights fetch alexnet (for pictures of 31 pixels or more)[/]")
    hint = f"skipdit report {shlex.quote(str(path))} --out out/report makes a page of it"
    console.print(f"[bold]{path}[/]; {hint}", soft_wrap=True)


def _show_setting(records: list[Any], caption: str) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", title_justify="left")
    table.add_column(caption, overflow="fold", style="cyan")
    wide = out().width >= 120
    plain = any(record.figures["over_plain"] for record in records)
    headings = ["speed-up", *(["over plain"] if plain else []), "ideal", "PSNR", *(["SSIM", "LPIPS"] if wide else [])]
    for heading in (*headings, "held", "over fewer, dB"):
        table.add_column(heading, justify="right", no_wrap=True)
    for record in records:
        f = record.figures
        cells = [f"[bold]{f['speedup']:.2f}x[/]"]
        cells += [f"{f['over_plain']:.2f}x" if f["over_plain"] else ""] if plain else []
        cells += [f"{f['ideal_speedup']:.2f}x" if f["ideal_speedup"] else "?"]
        table.add_row(escape(_name(record)), *cells, *_nearness(f, wide))
    out().print(table)
    out().print()


def _show_trial(trial: Any) -> None:
    """What had to be done for peers, and why the others can't."""
    from rich.markup import escape

    console = out()
    for name, notes in trial.fit.items():
        if notes:
            console.print(f"[dim]{escape(name)}: {escape('; '.join(notes))}[/]", soft_wrap=True)
    for name, reason in trial.refused.items():
        console.print(f"[cyan]{escape(name)}[/] can't be used here: {escape(reason)}", soft_wrap=True)


def _name(record: Any) -> str:
    f = record.figures
    ways = " + ".join(way for way in (record.policy, f["passes"]) if way)
    return ways or {"plain": f["plain"], "fewer steps": f"{f['steps']} steps"}.get(f["kind"], "uncached")


def _nearness(f: dict[str, Any], wide: bool) -> list[str]:
    """PSNR, SSIM, LPIPS, bytes held, and how far ahead of fewer steps."""
    if f["kind"] in ("uncached", "plain"):
        return []
    forms = (("psnr", ".1f"), *((("ssim", ".4f"), ("lpips", ".4f")) if wide else ()))
    cells = [f"{f[name]['mean']:{form}}" if f[name] else "" for name, form in forms]
    cells.append(f"{f['bytes_held'] / 1e6:.2f} MB" if f["bytes_held"] else "")
    rival = f["fewer_steps"]
    if rival and rival["ahead"]:
        low, high = rival["ahead"]["ci95"]
        interval = f" ({low:+.1f} ... {high:+.1f})" if wide else ""
        cells.append(f"{rival['ahead']['mean']:+.1f}{interval}, {rival['steps']} steps")
    return cells
