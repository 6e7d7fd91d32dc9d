"""The equations stand alone."""

from __future__ import annotations

import ast
from pathlib import Path

import fedloom.functional

ALLOWED = ("fedloom.errors", "fedloom.functional.")


def test_functional_knows_only_errors_and_itself() -> None:
    for file in Path(fedloom.functional.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = (
                [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else [a.name for a in node.names]
                if isinstance(node, ast.Import)
                else []
            )
            for name in names:
                assert not name.startswith("fedloom") or name.startswith(ALLOWED), f"{file.name}: {name}"
