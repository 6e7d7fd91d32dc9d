"""What the site is made of, as far as it can be checked without building it (`make docs` does that)."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest

from fedloom.registry import METHODS

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
NOTEBOOKS = sorted((DOCS / "tutorials").glob("*.ipynb"))
PAGES = sorted((DOCS / "methods").glob("*.md"))


@pytest.fixture(scope="module")
def beside() -> ModuleType:
    """The hook that puts code beside pseudocode."""
    spec = importlib.util.spec_from_file_location("beside", DOCS / "hooks" / "beside.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("folder", "kind"), [("tutorials", "ipynb"), ("guide", "md")])
def test_every_page_is_in_the_navigation(folder: str, kind: str) -> None:
    named = re.findall(folder + r"/([\w-]+)\.md", (ROOT / "mkdocs.yml").read_text("utf-8"))
    assert sorted(named) == sorted(path.stem for path in (DOCS / folder).glob(f"*.{kind}"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_tutorial_is_committed_without_outputs_and_is_python(path: Path) -> None:
    cells = json.loads(path.read_text("utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in code)
    for cell in code:
        text = "".join(cell["source"])
        magic, _, rest = text.partition("\n")
        if not magic.startswith("%%bash"):
            compile(rest if magic.startswith("%%") else text, path.name, "exec")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_code_that_a_page_shows_is_there(page: Path, beside: ModuleType) -> None:
    text = page.read_text("utf-8")
    built = beside.on_page_markdown(text)
    assert "<!-- code:" not in built
    assert "<!-- docstring:" not in built
    assert built.count('<div class="beside"') == text.count("<!-- code:")


def test_every_method_is_explained() -> None:
    told = "".join(page.read_text("utf-8") for page in PAGES)
    modules = {METHODS.about(name).item.partition(":")[0].rpartition(".")[2] for name in METHODS.builtin()}
    shown = set(re.findall(r"<!-- (?:code|docstring): (\w+)", told))
    assert modules - shown <= {"oracle_vote", "fedafd_oracle"}, "bounds, not methods, have no pseudocode"


def test_nothing_is_loaded_from_elsewhere() -> None:
    site = (ROOT / "mkdocs.yml").read_text("utf-8")
    assert "font: false" in site
    assert "iframe-worker.js" in site
    assert not re.findall(r"https?://", re.sub(r"#.*", "", site))
