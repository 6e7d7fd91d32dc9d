"""How long files and functions may be, and that one public class name means one thing; read with ast."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

from sources import PACKAGE, trees

LONGEST_FILE, LONGEST_FUNCTION = 350, 50  # lines


def test_no_file_is_too_long():
    """Of the package, its tests and its benchmarks."""
    root = Path(__file__).resolve().parents[1]
    files = [*trees(), *(root / "tests").rglob("*.py"), *(root / "benchmarks").rglob("*.py")]
    lines = {str(file.relative_to(root)): len(file.read_text("utf-8").splitlines()) for file in files}
    long = {name: n for name, n in lines.items() if n > LONGEST_FILE}
    assert not long, f"lines of files, allowed: {LONGEST_FILE}"


def test_no_function_is_too_long():
    long = {}
    for file, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
                place, lines = f"{file.relative_to(PACKAGE)}:{node.name}", node.end_lineno - node.lineno + 1
                if lines > LONGEST_FUNCTION:
                    long[place] = lines
    assert not long, f"lines of functions, allowed: {LONGEST_FUNCTION}"


def test_one_public_class_name_means_one_thing():
    places = defaultdict(list)
    for file, tree in trees().items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(str(file.relative_to(PACKAGE)))
    assert not {name: files for name, files in places.items() if len(files) > 1}
