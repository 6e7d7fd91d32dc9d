"""Notebooks as pages. With FEDLOOM_TUTORIALS=run they are executed first, each in an empty folder.

Executed ones stay in build/tutorials; without the variable a page shows that one's outputs, where it is of the same
notebook, and else none.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from nbclient import NotebookClient

EXECUTED = Path(__file__).resolve().parents[2] / "build" / "tutorials"
LONGEST = 900  # seconds of a cell
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """A page for each notebook, in place of the file."""
    for file in [f for f in files if f.src_uri.endswith(".ipynb")]:
        assert file.abs_src_path is not None
        files.remove(file)
        page = file.src_uri.removesuffix("ipynb") + "md"
        files.append(File.generated(config, page, content=text(_executed(Path(file.abs_src_path)))))
    return files


def _executed(path: Path) -> Any:
    """The notebook, with outputs where there are any. Raises CellExecutionError, which ends the build."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    kept = EXECUTED / f"{path.stem}-{digest}.ipynb"
    run = os.environ.get("FEDLOOM_TUTORIALS") == "run"
    notebook = nbformat.read(kept if kept.exists() and not run else path, as_version=4)
    if run:
        programs = str(Path(sys.executable).parent)  # `fedloom` of this environment, whether or not it is activated
        os.environ["PATH"] = f"{programs}{os.pathsep}{os.environ['PATH']}"
        with tempfile.TemporaryDirectory() as folder:
            where = {"metadata": {"path": folder}}
            NotebookClient(notebook, timeout=LONGEST, resources=where, coalesce_streams=True).execute()
        EXECUTED.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, kept)
    return notebook


def text(notebook: Any) -> str:
    """The page: cells in order, outputs below their code."""
    parts = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
        elif cell.cell_type == "code":
            shell = cell.source.startswith("%%bash\n")
            parts.append(f"```bash\n{cell.source[7:]}\n```" if shell else f"```python\n{cell.source}\n```")
            told = ("stdout", "stderr") if shell else ("stdout",)
            parts += [shown for output in cell.outputs if (shown := _output(output, told))]
    return "\n\n".join(parts)


def _output(output: Any, told: tuple[str, ...]) -> str:
    """What a cell gave: a picture, a page, or text, of the streams that are `told`."""
    if output.output_type == "stream":
        return _block(output.text if output.name in told else "")
    data = output.get("data", {})
    if "image/png" in data:
        return f'<img alt="output" src="data:image/png;base64,{"".join(data["image/png"].split())}">'
    if "text/html" in data:
        return f"<div>\n{data['text/html']}\n</div>"
    return _block(data.get("text/plain", ""))


def _block(said: str) -> str:
    return f"```text\n{ESCAPES.sub('', said).rstrip()}\n```" if said.strip() else ""
