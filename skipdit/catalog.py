"""A folder is a registry: names come from its files, captions from their first docstring lines, without importing."""

import ast
import difflib
import importlib
import importlib.util
import inspect
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # it needs torch, and names alone are to be had at once
    from skipdit.core.policy import Policy

PLAN = re.compile(r"""(.+\.json)(?:@([^/'"]*))?""", re.DOTALL)  # a plan's file, and steps to rescale it to
SHOWN = 40  # names in a complaint


class Namesakes(ModuleType):
    """A package whose modules are known by what they define under their own name: `methods.fora` is the function."""

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, ModuleType) and name in vars(value):
            value = vars(value)[name]
        super().__setattr__(name, value)

    @classmethod
    def adopt(cls, package: str) -> None:
        """Make a package one of these, from within its __init__."""
        sys.modules[package].__class__ = cls


class Catalog:
    """The methods in a package's folder."""

    def __init__(self, package: str):
        self.package = package

    def names(self) -> list[str]:
        """Every method's name, in alphabetical order."""
        return sorted(p.stem for p in self._folder().glob("*.py") if not p.stem.startswith("_"))

    def captions(self) -> dict[str, str]:
        """{name: first docstring line}, read without importing."""
        return {name: self.about(name).split("\n")[0] for name in self.names()}

    def about(self, name: str) -> str:
        """The docstring of a method's file, read without importing."""
        return ast.get_docstring(ast.parse((self._folder() / f"{name}.py").read_text())) or ""

    def method(self, name: str) -> Any:
        """The method of that name: in `fora.py`, what is called `fora`. Raises AttributeError with near matches."""
        if name.startswith("_") or name not in self.names():
            raise AttributeError(f"no method {name!r}{near(name, self.names())}")
        return getattr(importlib.import_module(f"{self.package}.{name}"), name)

    def _folder(self) -> Path:
        spec = importlib.util.find_spec(self.package)
        assert spec is not None
        assert spec.submodule_search_locations
        return Path(next(iter(spec.submodule_search_locations)))


def parse(spelling: str) -> "Policy":
    """ "skip_cache(every=2)" -> a policy: one spelling in Python, on the command line, in results and plan files.

    Only a method's name and literal arguments are understood; an expression is refused. Also takes the paper's
    spelling "N2-700-50", and a plan's file, "plan.json", or "plan.json@25" to have it rescaled to 25 steps. Raises
    ValueError by name, and OSError for a plan that isn't there.
    """
    if PLAN.fullmatch(spelling):
        return importlib.import_module("skipdit.plan.plan").spelled(spelling)
    if spelling[:1] == "N" and spelling[1:2].isdigit():
        return Catalog("skipdit.methods").method("skip_cache").named(spelling)
    return called(spelling, Catalog("skipdit.methods"), "policy", "skip_cache(every=2)")


def called(spelling: str, catalog: Catalog, kind: str, example: str) -> Any:
    """What a catalog's method gives for a spelling. `kind` is what it gives, in words. Raises ValueError by name."""
    try:
        call = ast.parse(spelling.strip(), mode="eval").body
        name, args, kwargs = _call(call)
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"{kind} {spelling!r} is not spelled like {example}: {error}") from error
    try:
        make = catalog.method(name)
    except AttributeError as error:
        raise ValueError(f"{kind} {spelling!r}: {error}") from error
    parameters = inspect.signature(make).parameters
    known = list(parameters)
    for keyword in kwargs:
        if keyword not in known:
            raise ValueError(f"{kind} {spelling!r}: {name} has no parameter {keyword!r}{near(keyword, known)}")
    needed = [word for word in known[len(args) :] if word not in kwargs and parameters[word].default is inspect._empty]
    if needed:
        raise ValueError(f"{kind} {spelling!r}: {name} needs {', '.join(needed)}: skipdit methods {name} explains")
    try:
        return make(*args, **kwargs)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{kind} {spelling!r}: {error}") from error


def near(word: str, known: list[str], most: int = 5) -> str:
    """What a misspelt word may have meant, as the end of an error message: names with it inside, then alike ones."""
    holding = [name for name in known if word and word in name]
    holding.sort(key=lambda name: (word not in name.split(), len(name)))  # whole words first, short names first
    close = list(dict.fromkeys(holding + difflib.get_close_matches(word, known, n=most, cutoff=0.5)))[:most]
    if close:
        return f"; did you mean {', '.join(close)}?"
    return f"; choose from {', '.join(known[:SHOWN])}{', ...' if len(known) > SHOWN else ''}"


def _call(node: ast.expr) -> tuple[str, list[Any], dict[str, Any]]:
    if isinstance(node, ast.Name):
        return node.id, [], {}
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        raise ValueError("expected a method's name and its arguments")
    if any(keyword.arg is None for keyword in node.keywords):
        raise ValueError("** is not understood")
    kwargs = {str(keyword.arg): _literal(keyword.value) for keyword in node.keywords}
    return node.func.id, [_literal(value) for value in node.args], kwargs


def _literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError as error:
        raise ValueError(f"{ast.unparse(node)} is no number, text in quotes, list or the like") from error
