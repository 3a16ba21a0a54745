"""Imports point down only: read from the files themselves."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1] / "skipdit"

# A unit may import the units listed for it, besides itself. Everything may import core.
BELOW = {
    "core": set(),
    "catalog": set(),
    "results": {"aside"},
    "aside": set(),
    "pictures": {"aside"},
    "ddim": set(),
    "diffusion": {"ddim"},
    "pyav": set(),
    "data": {"aside", "pyav"},
    "networks": set(),
    "metrics": {"aside", "networks"},
    "methods": {"catalog"},
    "backbones": set(),
    "attach": {"backbones"},
    "compile": {"backbones"},
    "graphs": {"backbones"},
    "convert": {"backbones"},
    "onepass": set(),
    "traits": {"onepass"},
    "infer": {"onepass", "traits"},
    "branches": set(),
    "passes": {"branches", "catalog"},
    "sample": {"branches", "catalog", "diffusion"},
    "train": {"aside", "catalog", "data", "diffusion"},
    "plan": {"aside", "branches", "catalog", "diffusion", "methods", "metrics", "results", "sample"},
    "probes": {"aside", "results"},
    "report": {"aside", "probes", "results"},
    "rehearse": {"aside", "catalog", "diffusion", "sample"},
    "evaluate": {"aside", "attach", "catalog", "data", "metrics", "networks", "plan", "sample"},
    "bench": {
        *("attach", "backbones", "catalog", "compile", "data", "diffusion", "methods", "metrics", "results", "sample"),
        *("aside", "evaluate", "networks", "pictures", "plan", "rehearse", "train"),
    },
    "films": {"aside", "pictures", "pyav"},
    "demo": {"aside", "convert", "films", "methods", "metrics", "pictures", "results", "sample", "catalog"},
    "": {"attach", "catalog", "compile", "convert", "infer", "methods", "passes", "sample"},
}
CORE = [
    "check",
    "policy",
    "backbone",
    "where",
    "when",
    "what",
    "clock",
    "compiled",
    "foreign",
    "flops",
    "report",
    "run",
    "stack",
    "skips",
    "attach",
]
SHELL = {"cli", "web"}


def imports(path: Path) -> set[str]:
    """Dotted names of ours that a file imports, type-only imports left out."""
    tree = ast.parse(path.read_text())
    skipped = {
        node
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and getattr(block.test, "id", "") == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    found = set()
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "skipdit":
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.split(".")[0] == "skipdit"}
    return found


def unit(parts: list[str]) -> str:
    """The top-level unit of a dotted name below skipdit: a folder or a file, or "" for the package itself."""
    name = parts[1] if len(parts) > 1 else ""
    return name if (ROOT / name).is_dir() or (ROOT / f"{name}.py").exists() else ""


def test_imports_point_down():
    wrong = []
    for path in sorted(ROOT.rglob("*.py")):
        relative = path.relative_to(ROOT)
        own = (
            "" if relative.name == "__init__.py" and len(relative.parts) == 1 else relative.parts[0].removesuffix(".py")
        )
        for name in imports(path):
            other = unit(name.split("."))
            if other in SHELL and own not in SHELL:
                wrong.append(f"{relative} imports the shell: {name}")
            if own in SHELL or other in (own, "core"):
                continue
            if other not in BELOW[own]:
                wrong.append(f"{relative} imports {name}")
    assert not wrong, wrong


def test_core_imports_point_left():
    assert sorted(CORE) == sorted(p.stem for p in (ROOT / "core").glob("*.py") if p.stem != "__init__")
    wrong = [
        f"{name} imports {other}"
        for place, name in enumerate(CORE)
        for other in (dotted.split(".")[2] for dotted in imports(ROOT / "core" / f"{name}.py"))
        if other not in CORE[:place]
    ]
    assert not wrong, wrong


def test_core_needs_only_torch():
    allowed = {"torch", "skipdit"}
    for path in (ROOT / "core").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            modules = []
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                modules = [node.module or ""]
            for module in modules:
                top = module.split(".")[0]
                assert top in allowed or top in __import__("sys").stdlib_module_names, f"{path.name} imports {module}"


def test_every_file_has_a_caption():
    bare = [p for p in ROOT.rglob("*.py") if not (ast.get_docstring(ast.parse(p.read_text())) or "").strip()]
    assert not bare, bare
