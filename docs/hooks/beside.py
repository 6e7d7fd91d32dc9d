"""Puts our code beside a paper's pseudocode.

A block of pseudocode that `<!-- code: MODULE NAME NAME ... -->` follows becomes the left column, and the source of the
names (of `fedloom.methods.MODULE`, or of `functional.X`) the right one. `<!-- docstring: MODULE -->` becomes what that
module says of itself. In the repository the comments are not seen.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "src" / "fedloom"
MARK = re.compile(r"(^```text\n.*?^```)\n+<!-- code: ([\w.]+) ([\w. ]+?) -->", re.DOTALL | re.MULTILINE)

TOLD = re.compile(r"<!-- docstring: ([\w.]+) -->")


def on_page_markdown(markdown: str, **_: object) -> str:
    """Replaces each mark."""
    return TOLD.sub(_told, MARK.sub(_columns, markdown))


def _told(match: re.Match[str]) -> str:
    """The docstring of a module; what it indents is a block of text."""
    said = ast.get_docstring(ast.parse(_file(match[1]).read_text("utf-8"))) or ""
    return said.partition("\n\n")[2].replace("**", "").replace("*", r"\*")


def _file(module: str) -> Path:
    return PACKAGE / ("" if module.startswith("functional.") else "methods") / f"{module.replace('.', '/')}.py"


def _columns(match: re.Match[str]) -> str:
    pseudocode, module, names = match.groups()
    file = _file(module)
    code = "\n\n\n".join(source(file, name) for name in names.split())
    right = f'```python title="{file.relative_to(PACKAGE.parent)}"\n{code}\n```'
    return f'<div class="beside" markdown="1">\n\n{pseudocode}\n\n{right}\n\n</div>'


def source(file: Path, name: str) -> str:
    """The lines of a function, class or method (`Class.method`), set flush left, without its docstring.

    Raises ValueError where there is no such name.
    """
    text = file.read_text("utf-8")
    body: list[ast.stmt] = ast.parse(text).body
    node: ast.stmt | None = None
    for part in name.split("."):
        named = (n for n in body if isinstance(n, ast.FunctionDef | ast.ClassDef) and n.name == part)
        node = next(named, None)
        if node is None:
            raise ValueError(f"<!-- code: --> names {name}, which {file.name} does not have")
        body = node.body  # type: ignore[attr-defined]
    assert node is not None
    first, lines = body[0], text.splitlines()
    taken = lines[node.lineno - 1 : node.end_lineno]
    if len(body) > 1 and isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
        del taken[first.lineno - node.lineno : (first.end_lineno or 0) - node.lineno + 1]
    return "\n".join(line[node.col_offset :] for line in taken)
