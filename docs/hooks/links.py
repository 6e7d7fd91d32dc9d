"""The pages of the repository's root in the site, folders in the navigation, and links that lead out of docs/."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
ROOT_PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
}
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\((?!https?:|mailto:|#)([^)#\s]+)(#[^)\s]*)?\)")
FENCE = re.compile(r"(^```.*?^```$)", re.DOTALL | re.MULTILINE)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Entries of the navigation that end in / become the pages of that folder; what stands elsewhere is left out."""
    named = re.findall(r"[\w/.-]+\.md", repr(config.nav))

    def filled(entry: Any) -> Any:
        if isinstance(entry, dict):
            return {title: filled(below) for title, below in entry.items()}
        if isinstance(entry, list):
            return [filled(below) for below in entry]
        if not entry.endswith("/"):
            return entry
        pages = sorted(p.name for p in Path(config.docs_dir, entry).glob("*.md"))
        first = [entry + "index.md"]
        return first + [entry + name for name in pages if entry + name not in (*named, *first)]

    config.nav = filled(config.nav)
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The pages of the root, and an index of each folder that has none of its own."""
    for source, page in ROOT_PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    for folder in ("decisions", "methods", "results"):
        if files.get_file_from_path(f"{folder}/index.md") is None:
            files.append(File.generated(config, f"{folder}/index.md", content=_index(Path(config.docs_dir, folder))))
    return files


def _index(folder: Path) -> str:
    """Title and link of each page."""
    titles = {p.name: p.read_text("utf-8").partition("\n")[0].lstrip("# ") for p in sorted(folder.glob("*.md"))}
    return "\n".join([f"# {folder.name.capitalize()}", "", *(f"- [{title}]({name})" for name, title in titles.items())])


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links as the site has them: to its own pages, or to the repository, or, where that has no address, plain text."""
    source = next((s for s, p in ROOT_PAGES.items() if p == page.file.src_uri), f"docs/{page.file.src_uri}")

    def link(match: re.Match[str]) -> str:
        image, text, target, anchor = match.groups(default="")
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        inside = ROOT_PAGES.get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else None)
        if inside is not None:
            inside = re.sub(r"\.ipynb$", ".md", inside if posixpath.splitext(inside)[1] else f"{inside}/index.md")
            return f"{image}[{text}]({posixpath.relpath(inside, posixpath.dirname(page.file.src_uri))}{anchor})"
        if not (ROOT / path).exists():
            return match[0]  # mkdocs says that it leads nowhere
        return f"{image}[{text}]({config.repo_url.rstrip('/')}/blob/HEAD/{path}{anchor})" if config.repo_url else text

    parts = FENCE.split(markdown)
    return "".join(part if part.startswith("```") else LINK.sub(link, part) for part in parts)
