"""The package's own source as syntax trees, each file parsed once a process."""

from __future__ import annotations

import ast
import functools
import gc
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "fedloom"
FILES = sorted(PACKAGE.rglob("*.py"))


@functools.cache
def trees() -> dict[Path, ast.Module]:
    """File of the package -> its syntax tree. Read only.

    They stay, and the garbage collector need not look at them: with all other objects of a long session it would take
    most of the time.
    """
    gc.disable()
    try:
        return {file: parse(file) for file in FILES}
    finally:
        gc.freeze()
        gc.enable()


def parse(file: Path) -> ast.Module:
    """The syntax tree of any file."""
    return ast.parse(file.read_text(encoding="utf-8"), str(file))
