"""How long files and functions may be, and that one public class name means one thing; read with ast."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "fedloom"
LONGEST_FILE, LONGEST_FUNCTION = 350, 50  # lines


def trees() -> dict[str, tuple[int, ast.Module]]:
    """File, below the package -> (lines, syntax tree)."""
    texts = {str(path.relative_to(PACKAGE)): path.read_text("utf-8") for path in sorted(PACKAGE.rglob("*.py"))}
    return {name: (len(text.splitlines()), ast.parse(text, name)) for name, text in texts.items()}


def test_no_file_is_too_long():
    long = {name: lines for name, (lines, _) in trees().items() if lines > LONGEST_FILE}
    assert not long, f"lines of files, allowed: {LONGEST_FILE}"


def test_no_function_is_too_long():
    long = {}
    for name, (_, tree) in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
                place, lines = f"{name}:{node.name}", node.end_lineno - node.lineno + 1
                if lines > LONGEST_FUNCTION:
                    long[place] = lines
    assert not long, f"lines of functions, allowed: {LONGEST_FUNCTION}"


def test_one_public_class_name_means_one_thing():
    places = defaultdict(list)
    for name, (_, tree) in trees().items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(name)
    assert not {name: files for name, files in places.items() if len(files) > 1}
