"""The runs, comparisons and federations in a folder, newest first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fedloom.errors import FedloomError
from fedloom.reporting.listing import round_text, run_entry, score_texts
from fedloom.reporting.pages import Cell, Table
from fedloom.runs.load import read_run
from fedloom.watch.files import Mark, is_at_work, mark_of
from fedloom.watch.views import View, section, table

READ = ("config.yaml", "metrics.jsonl", "summary.json", "report.html")  # of a run, for its line
OTHERS = {"plan.json": "comparison", "nodes.json": "federation"}  # what else has a page, by a file that it has


class FolderWatch:
    """A folder of runs, looked at again and again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.runs = RunList(path)

    def mark(self) -> Mark:
        """What changes when the view does."""
        return self.runs.mark(), tuple(self._others())

    def view(self) -> View:
        """The runs, and links to what else there is."""
        entries = self.runs.entries()
        found = self._others()
        n = len(entries)
        return {
            "title": self.path.resolve().name,
            "state": "",
            "facts": [f"{n} run{'s' * (n != 1)}", *([] if n or found else ["fedloom run starts one"])],
            "folder": str(self.path),
            "sections": [
                one
                for one in (
                    section("Runs", "The newest first.", table=table(runs_table(entries))),
                    section("Comparisons and federations", "", table=table(_links(found))),
                    section("Not listed", "", lines=self.runs.broken),
                )
                if one
            ],
        }

    def _others(self) -> list[tuple[str, str]]:
        return [(p.parent.name, kind) for name, kind in OTHERS.items() for p in sorted(self.path.glob(f"*/{name}"))]


def _links(found: list[tuple[str, str]]) -> Table:
    return Table(("Folder", "What it is"), [(Cell(name, href=name), kind) for name, kind in found])


class RunList:
    """The runs in a folder; one that has not changed is not read again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.broken: list[str] = []
        self._known: dict[Path, tuple[Mark, dict[str, Any]]] = {}

    def mark(self) -> Mark:
        """What changes when an entry does."""
        return tuple(self._mark(path) for path in self._folders())

    def entries(self) -> list[dict[str, Any]]:
        """What `reporting.listing` says of each run, the newest first; what cannot be read is told in `broken`."""
        found, self.broken = [], []
        for path in self._folders():
            mark = self._mark(path)
            try:
                if path not in self._known or self._known[path][0] != mark:
                    self._known[path] = mark, run_entry(read_run(path))
                found.append({**self._known[path][1], "running": is_at_work(path / ".lock")})
            except (FedloomError, OSError) as error:
                self.broken.append(f"{path.name}: {error}")
        return sorted(found, key=lambda entry: str(entry["when"]), reverse=True)

    def _folders(self) -> list[Path]:
        folders = (file.parent for file in self.path.glob("*/config.yaml"))
        return sorted(folder for folder in folders if not folder.is_symlink())  # which may lead elsewhere

    def _mark(self, path: Path) -> Mark:
        return (path.name, *mark_of(*(path / name for name in READ)), is_at_work(path / ".lock"))


def is_done(entry: dict[str, Any]) -> bool:
    """Whether the run of that entry is finished."""
    return str(entry["state"]).startswith("finished")


def runs_table(entries: list[dict[str, Any]], below: str = "") -> Table:
    """A line a run. below: the folder that they lie in, seen from that of the page."""
    rows = []
    for entry in entries:
        name = Path(entry["run"]).name
        running = entry.get("running") and not is_done(entry)
        state = Cell("running", "up") if running else Cell(entry["state"])
        when = entry["when"][:16].replace("T", " ")
        link = Cell(name, href=f"{below}/{name}" if below else name)
        facts = [str(entry[key]) for key in ("method", "data", "seed")]
        rows.append((link, *facts, round_text(entry), state, score_texts(entry), when))
    return Table(("Run", "Method", "Data", "Seed", "Rounds", "State", "Scores", "Changed"), rows, numbers=(3, 4))
