"""skipdit methods: the caching methods by name."""

from typing import Annotated

import typer

from skipdit.catalog import Catalog
from skipdit.cli.terminal import examples, out, print_json


def add_to(app: typer.Typer) -> None:
    app.command("methods", epilog=examples("skipdit methods", "skipdit methods skip_cache"))(methods)


def methods(
    name: Annotated[str | None, typer.Argument(help="Show one method's parameters.", show_default=False)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print {name: caption} as one JSON line.")] = False,
) -> None:
    """List the caching methods, or explain one of them."""
    catalog = Catalog("skipdit.methods")
    if name is not None:
        _explain(catalog, name)
    elif as_json:
        print_json(catalog.captions())
    else:
        for method, caption in catalog.captions().items():
            out().print(f"[bold cyan]{method}[/]  {caption}", soft_wrap=True)
        out().print(
            '\n[dim]Say --policy "NAME(parameter=value)" to sample and inspect; skipdit methods NAME explains.[/]'
        )


def _explain(catalog: Catalog, name: str) -> None:
    import inspect

    try:
        method = catalog.method(name)
    except AttributeError as error:
        raise ValueError(str(error)) from None
    parameters = ", ".join(str(p.replace(annotation=p.empty)) for p in inspect.signature(method).parameters.values())
    console = out()
    console.print(f"{name}({parameters})", style="bold cyan", markup=False)
    console.print(inspect.getdoc(method) or "", markup=False)
