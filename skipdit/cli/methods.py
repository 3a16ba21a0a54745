"""skipdit methods: the caching methods by name, and what the sampler can spare."""

from typing import Annotated, Any

import typer
from rich.markup import escape

from skipdit.catalog import Catalog, near
from skipdit.cli.terminal import examples, out, print_json

COMMANDS = {
    "skipdit.methods": "skipdit inspect MODEL --policy",
    "skipdit.passes": "skipdit sample MODEL LABEL --passes",
}


def add_to(app: typer.Typer) -> None:
    app.command("methods", epilog=examples("skipdit methods", "skipdit methods skip_cache"))(methods)


def methods(
    name: Annotated[
        str | None, typer.Argument(help="Explain one: its paper, its parameters.", show_default=False)
    ] = None,
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
    catalogs = {command: Catalog(package) for package, command in COMMANDS.items()}
    known = [each for catalog in catalogs.values() for each in catalog.names()]
    if name not in known:
        raise ValueError(f"no method {name!r}{near(name, known)}")
    for command, catalog in catalogs.items():
        if name in catalog.names():
            _explain_one(name, catalog, command)


def _explain_one(name: str, catalog: Catalog, command: str) -> None:
    """The file's words (paper, equation, what is held), the call, its parameters, and a spelling to begin with."""
    import inspect

    console, method = out(), catalog.method(name)
    example = f'{command} "{_spelling(name, method)}"'
    console.print(catalog.about(name), markup=False)
    console.print(f"\n{_call(name, method)}", style="bold cyan", markup=False)
    console.print(inspect.getdoc(method) or "", markup=False)
    console.print(f"\n[dim]$[/] [cyan]{escape(example)}[/]\n", soft_wrap=True)


def _call(name: str, method: Any) -> str:
    """How a method is called: its parameters with their defaults."""
    import inspect

    parameters = inspect.signature(method).parameters.values()
    return f"{name}({', '.join(str(parameter.replace(annotation=parameter.empty)) for parameter in parameters)})"


def _spelling(name: str, method: Any) -> str:
    """With the method's defaults, or with the places to fill in."""
    import inspect

    parameters = inspect.signature(method).parameters.values()
    needed = [parameter.name for parameter in parameters if parameter.default is parameter.empty]
    return f"{name}({', '.join(f'{word}=...' for word in needed)})" if needed else str(method())
