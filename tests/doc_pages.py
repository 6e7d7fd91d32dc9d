"""README and guide as what they tell people to type: shell commands, Python, files.

In a page, `<!-- docs-check: not run: REASON -->` above a block keeps its commands from being run: they need a
network or several machines, say. Their options must exist all the same.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from fedloom.config import presets
from fedloom.runs.folder import flatten

ROOT = Path(__file__).resolve().parents[1]
PAGES = {path.stem: path for path in (ROOT / "README.md", *sorted((ROOT / "docs" / "guide").glob("*.md")))}
COMMAND = re.compile(r"(\$ )?((?:fedloom|make|python benchmarks/\S+)( .*)?)")
BLOCK = re.compile(r"(?:<!-- docs-check: not run: (?P<why>.+?) -->\n+)?```(?P<kind>\w*)\n(?P<text>.*?)```", re.DOTALL)
# What reads or lists, or writes a file at once: run by every `make test`.
FAST = ("methods", "datasets", "models", "init", "partition", "doctor")


@dataclass(frozen=True)
class Block:
    """A fenced block: `kind` is its language, `why` the reason that its commands are not run."""

    kind: str
    text: str
    why: str | None

    @property
    def commands(self) -> list[list[str]]:
        """The words of each command in a block without a language."""
        if self.kind:
            return []
        found = [
            match for line in self.text.replace("\\\n", " ").splitlines() if (match := COMMAND.fullmatch(line.rstrip()))
        ]
        prompted = [match for match in found if match[1]]  # with a prompt, the other lines are what was printed
        return [shlex.split(match[2], comments=True) for match in prompted or found]

    @property
    def file(self) -> str | None:
        """The name of the file that the block shows, from a first line such as `# mine.yaml`."""
        match = re.match(r"# ([\w.]+\.yaml)\b", self.text)
        return match[1] if match and self.kind == "yaml" else None


def blocks(page: str) -> Iterator[Block]:
    """The fenced blocks of a page, in order."""
    for match in BLOCK.finditer(PAGES[page].read_text(encoding="utf-8")):
        yield Block(match["kind"], match["text"], match["why"])


def inline(page: str) -> list[list[str]]:
    """The commands of fedloom in the running text."""
    text = re.sub(r"```.*?```", "", PAGES[page].read_text(encoding="utf-8"), flags=re.DOTALL)
    return [shlex.split(code.replace("'", ""), comments=True) for code in re.findall(r"`(fedloom [^`]+)`", text)]


def is_fast(words: list[str]) -> bool:
    """Whether a command ends at once."""
    return words[0] == "fedloom" and (words[1] in FAST or not {"--plan", "--help", "-h"}.isdisjoint(words[1:]))


def smoke_settings() -> list[str]:
    """The preset smoke as options of `compare`."""
    tree = yaml.safe_load(presets()["smoke"].read_text(encoding="utf-8"))
    pairs = flatten({k: v for k, v in tree.items() if k not in ("method", "engine", "seed")})
    return [part for k, v in pairs.items() for part in ("--set", f"{k}={yaml.safe_dump(v, default_flow_style=True)}")]


def at_smoke_size(words: list[str]) -> list[str]:
    """The command with the preset smoke under what it says, and with the data sets of `make_data`."""
    words = [word.replace("/data/mine", "mine").replace("PRESET", "smoke") for word in words]
    if words[:2] not in (["fedloom", "run"], ["fedloom", "compare"]) or "--plan" in words or "--resume" in words:
        return words
    if words[1] == "compare":
        return [*words, *smoke_settings()]
    # The clients of a group that is set here have the representation width of the preset's other clients.
    words = [re.sub(r"^(clients\.\w+=\[\{)(?!.*width)", r"\1width: 16, ", word) for word in words]
    if "--preset" in words:
        at = words.index("--preset") + 1
        names = words[at].split(",")
        return [*words[:at], ",".join([*names, *(["smoke"] if "smoke" not in names else [])]), *words[at + 1 :]]
    return [*words, "--preset", "smoke"]


def make_data(folder: Path) -> None:
    """A data set of one's own in `folder`, as the guide describes: pictures in class folders, and a table of texts."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    for name in ("daisy", "tulip", "rose"):
        place = folder / "images" / name
        place.mkdir(parents=True)
        for i in range(40):
            Image.fromarray(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(place / f"{i}.png")
    rows = [f"a text about {name} number {i},{name}" for i in range(40) for name in ("daisy", "tulip", "rose")]
    (folder / "texts_train.csv").write_text("\n".join(["text,label", *rows]) + "\n", encoding="utf-8")
