"""Who may know whom: the layers, late imports, and what must never be pulled in. Read from the source with ast."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "fedloom"
FILES = sorted(PACKAGE.rglob("*.py"))
LATE = ("transformers", "diffusers", "flwr", "opacus", "peft")
TOP_LEVEL_ALLOWED = {
    *("models/generators/pixel_pipeline.py", "models/clients/gru.py"),
    *("models/generators/glide/networks.py", "models/generators/glide/pipeline.py"),
}

# Of fedloom, a layer may import nothing that begins with these.
FORBIDDEN = {
    "data": ("methods", "federation", "experiment", "cli"),
    "models": ("methods", "federation", "experiment", "cli"),
    "metrics": ("methods", "federation", "experiment", "cli"),
    "privacy": ("methods", "federation", "experiment", "cli"),
    "federation": ("methods", "experiment", "cli"),
    "reporting/health": ("methods", "models", "federation", "data", "experiment", "cli"),
    "reporting": ("methods", "models", "federation", "experiment", "cli"),
    "runs": ("methods", "federation", "experiment", "cli"),
    "methods": ("experiment", "cli", "runs", "report"),
}


def imported(tree: ast.AST) -> Iterator[str]:
    """Dotted names that the imports inside a node reach, `from a import b` as `a` and `a.b`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute"
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def at_import(tree: ast.AST) -> Iterator[str]:
    """The imports that run when the module is imported: not those in functions or under TYPE_CHECKING."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from imported(ast.Module([node], []))
        else:
            yield from at_import(node)


def below(name: str, *packages: str) -> bool:
    return any(name == p or name.startswith(f"{p}.") for p in packages)


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def of(layer: str) -> list[Path]:
    files = [f for f in FILES if f.is_relative_to(PACKAGE / layer)]
    assert files, layer
    return files


def breaches(files: list[Path], *packages: str) -> list[str]:
    found = [(f.relative_to(ROOT), name) for f in files for name in imported(parse(f)) if below(name, *packages)]
    return [f"{file} imports {name}" for file, name in dict.fromkeys(found)]


@pytest.mark.parametrize(("layer", "parts"), FORBIDDEN.items())
def test_layers(layer, parts):
    assert breaches(of(layer), *(f"fedloom.{part}" for part in parts)) == []


def test_functional_knows_errors_alone():
    for file in of("functional"):
        ours = {name for name in imported(parse(file)) if below(name, "fedloom")}
        assert {n for n in ours if not below(n, "fedloom.errors", "fedloom.functional")} == set(), file


def test_federation_knows_no_torch():
    assert breaches(of("federation"), "torch") == []


@pytest.mark.parametrize("file", [str(f.relative_to(PACKAGE)) for f in FILES])
def test_adapters_are_imported_late(file):
    early = {name for name in at_import(parse(PACKAGE / file)) if below(name, *LATE)}
    assert not early or file in TOP_LEVEL_ALLOWED, early


def test_nothing_uses_torchvision():
    folders = [ROOT / name for name in ("src", "tests", "examples", "benchmarks")]
    assert breaches([f for folder in folders for f in folder.rglob("*.py")], "torchvision") == []


def test_starting_is_light():
    """What is imported before a command is chosen, and to show the help: nothing that takes time."""
    heavy = ("torch", "transformers", "diffusers", "matplotlib", "pandas", "sklearn", "scipy", "numpy", "PIL")
    code = (
        "import contextlib, io, sys, fedloom; from fedloom.cli.main import main\n"
        "with contextlib.redirect_stdout(io.StringIO()): assert main(['--help']) == 0\n"
        f"print([m for m in {heavy!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
