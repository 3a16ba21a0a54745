"""skipdit methods: the caching methods by name, and what the sampler can spare."""

from typing import Annotated

import typer

from skipdit.catalog import Catalog, near
from skipdit.cli.terminal import examples, out, print_json


def add_to(app: typer.Typer) -> None:
    app.command("methods", epilog=examples("skipdit methods", "skipdit methods skip_cache"))(methods)


def methods(
    name: Annotated[str | None, typer.Argument(help="Show one method's parameters.", show_default=False)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print {name: caption} as one JSON line.")] = False,
) -> None:
    """List the caching methods and what the sampler can spare, or explain one of them."""
    catalog = Catalog("skipdit.methods")
    if name is not None:
        _explain(name)
    elif as_json:
        print_json(catalog.captions())
    else:
        _list(catalog)
        out().print('\n[dim]Say --policy "NAME(parameter=value)" to sample and inspect. Spared by the sampler:[/]\n')
        _list(Catalog("skipdit.passes"))
        out().print('\n[dim]Say --passes "NAME(parameter=value)" to sample; skipdit methods NAME explains.[/]')


def _list(catalog: Catalog) -> None:
    for name, caption in catalog.captions().items():
        out().print(f"[bold cyan]{name}[/]  {caption}", soft_wrap=True)


def _explain(name: str) -> None:
    """Show what goes by this name, as a policy, as passes, or as both. Raises ValueError where nothing does."""
    import inspect

    catalogs = [Catalog("skipdit.methods"), Catalog("skipdit.passes")]
    known = [each for catalog in catalogs for each in catalog.names()]
    if name not in known:
        raise ValueError(f"no method {name!r}{near(name, known)}")
    console = out()
    for method in [catalog.method(name) for catalog in catalogs if name in catalog.names()]:
        parameters = ", ".join(
            str(p.replace(annotation=p.empty)) for p in inspect.signature(method).parameters.values()
        )
        console.print(f"{name}({parameters})", style="bold cyan", markup=False)
        console.print(inspect.getdoc(method) or "", markup=False)
