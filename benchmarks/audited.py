"""How far attacks get at each epsilon: runs with canaries and kept messages, audited, a line each.

python benchmarks/audited.py --out audited.csv
python benchmarks/audited.py --methods fedavg --epsilons none,8 --shadows 0 --set preset=smoke
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from pathlib import Path
from typing import Any

import fedloom
from fedloom.audits import AuditSettings, audit

CLIENTS = (
    *("rounds=4", "clients.image=[{arch: vit, patch: 6, count: 2}]", "clients.text=[{arch: bert, count: 2}]"),
    *("clients.warm_steps=60", "clients.batch=64", "engine.keep_messages=true", "data.canaries.count=50"),
)
COLUMNS = (
    *("method", "epsilon", "seed", "shadows", "image_accuracy", "text_accuracy"),
    *("auc_loss", "advantage_loss", "auc_ratio", "advantage_ratio", "l1_classes"),
    *("canaries", "guesses", "right", "bound", "delta"),
)


def mean(told: dict[str, Any], *path: str) -> float | None:
    """Over the attacked clients, of a figure or the first number of an interval."""
    values = []
    for client in told["clients"].values():
        for key in path:
            client = client.get(key) or {}
        if client != {}:
            values.append(client[0] if isinstance(client, list) else client)
    return round(sum(values) / len(values), 4) if values else None


def row(method: str, epsilon: str, seed: int, shadows: int, more: list[str]) -> dict[str, Any]:
    """A run, in a folder that is removed, and what its audit found."""
    private = () if epsilon == "none" else (f"clients.privacy.epsilon={epsilon}",)
    preset = next((word.removeprefix("preset=") for word in more if word.startswith("preset=")), None)
    own = () if preset else CLIENTS
    overrides = (*own, *CLIENTS[-2:], *private, *(word for word in more if not word.startswith("preset=")))
    with tempfile.TemporaryDirectory() as folder:
        run = fedloom.run(method=method, seed=seed, preset=preset, overrides=overrides, out=Path(folder) / "run")
        attacks = ("membership", "labels", "canaries")
        told = audit(run.path, AuditSettings(attacks=attacks, shadows=shadows, seed=seed))
    scores = {key: (run.summary.get(key) or {}).get("after") for key in ("image_accuracy", "text_accuracy")}
    found = {
        f"{figure}_{way}": mean(told, "membership", way, figure)
        for way in ("loss", "ratio")
        for figure in ("auc", "advantage")
    }
    canaries = {key: told["canaries"].get(key) for key in ("canaries", "guesses", "right", "delta")}
    bound = round(told["canaries"].get("epsilon", 0.0), 3)
    which = {"method": method, "epsilon": epsilon, "seed": seed, "shadows": shadows}
    return {**which, **scores, **found, "l1_classes": mean(told, "labels", "l1"), **canaries, "bound": bound}


def main() -> None:
    """A line a run, as it is done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default="fedavg,fedmmkt")
    parser.add_argument("--epsilons", default="none,8,4,2,1")
    parser.add_argument("--seed", type=int, default=100)
    parser.add_argument("--shadows", type=int, default=16)
    parser.add_argument("--out", type=Path, help="a table to add lines to")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of every run")
    asked = parser.parse_args()
    print(",".join(COLUMNS))
    for method in asked.methods.split(","):
        for epsilon in asked.epsilons.split(","):
            found = row(method, epsilon, asked.seed, asked.shadows, asked.set)
            line = ["" if (value := found.get(name)) is None else value for name in COLUMNS]
            print(",".join(map(str, line)), flush=True)
            if asked.out:
                fresh = not asked.out.exists()
                with asked.out.open("a", newline="") as file:
                    csv.writer(file, lineterminator="\n").writerows([COLUMNS, line] if fresh else [line])


if __name__ == "__main__":
    main()
