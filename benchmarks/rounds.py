"""A round of FedMD, FedMEKT and CreamFL against a plain loop of the same steps: CPU seconds of one thread, bytes.

    OMP_NUM_THREADS=1 python benchmarks/rounds.py --rounds 8

Both have the same eight clients (the default ones), data, public set, steps, batches, training views and losses. The
plain loop calls models and optimisers directly, in one process: no messages, no contract, no ledger, no recovery. It
and fedloom take turns, a round each; the first round of both is left out.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from fedloom.config import load_config
from fedloom.experiment.build import Link, build_federation, pretrained_models, server_tools
from fedloom.experiment.clients import build_client, client_specs
from fedloom.experiment.datasets import cached_dataset
from fedloom.experiment.resolve import resolve
from fedloom.federation.ledger import Ledger
from fedloom.functional.contrast import contrast_weights
from fedloom.functional.ensemble import grouped
from fedloom.methods.base import UNCOUNTED
from fedloom.methods.context import rows
from fedloom.methods.creamfl import inter_contrast, intra_contrast
from fedloom.models.fit import index_batches
from fedloom.processes import settle_process
from fedloom.progress import Observer

METHODS = ("fedmd", "fedmekt", "creamfl")
# Beside its clients' steps CreamFL's server trains two encoders; left out of both, the loop being one of clients.
SETTINGS = {"creamfl": ("settings.server_steps=0",)}


class Loop:
    """The same federation as plain Python."""

    def __init__(self, method: str, sites: list[Any], settings: Any, public: Any) -> None:
        self.method, self.sites, self.s, self.t = method, sites, settings, 0
        self.inputs = [s.raw(public.images if s.modality == "image" else public.texts) for s in sites]

    def round(self) -> None:
        """Look, average, learn."""
        self.t += 1
        seen = [self.look(s, x) for s, x in zip(self.sites, self.inputs)]
        getattr(self, self.method)(seen)

    @staticmethod
    @torch.no_grad()
    def look(site: Any, inputs: Any) -> Any:
        """Representations and logits of the public set."""
        site.model.eval()
        z = torch.cat(
            [
                site.model.encode(**{k: v[i : i + 256] for k, v in inputs.items()})
                for i in range(0, len(next(iter(inputs.values()))), 256)
            ]
        )
        return z, site.model.classify(z)

    def train(self, site: Any, inputs: Any, steps: int, loss_of: Callable[[Any, Any], Any], name: str) -> None:
        """`steps` steps on training views."""
        rng, draws = site.rng(self.t, name, "batches"), site.draws(self.t, name, "views")
        parameters = list(site.model.parameters())
        site.model.train()
        for index in index_batches(len(next(iter(inputs.values()))), site.batch, steps, rng):
            i = torch.from_numpy(index)
            loss = loss_of(site.views(rows(inputs, i), draws), i)
            loss.item()
            site.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            site.optimizer.step()

    def private(self, site: Any) -> None:
        """Steps on private data."""

        def loss(views: Any, i: Any) -> Any:
            return F.cross_entropy(site.model(**views), site.private_labels[i])

        self.train(site, site.private, self.s.private_steps, loss, "private")

    def fedmd(self, seen: list[Any]) -> None:
        """Mean scores per modality, then their mean."""
        means = []
        for m in ("image", "text"):
            means.append(torch.stack([y for s, (_, y) in zip(self.sites, seen) if s.modality == m]).mean(0))
        target = torch.stack(means).mean(0)
        for site, inputs in zip(self.sites, self.inputs):

            def loss(views: Any, i: Any, site: Any = site) -> Any:
                return (site.model(**views) - target[i]).abs().mean()

            self.train(site, inputs, self.s.retrain_steps, loss, "shared")
            self.private(site)

    def fedmekt(self, seen: list[Any]) -> None:
        """Mean representations."""
        mean = torch.stack([z for z, _ in seen]).mean(0)
        temperature = self.s.kl_temperature
        for site, inputs in zip(self.sites, self.inputs):
            draw = site.rng(self.t, "own")

            def loss(views: Any, i: Any, site: Any = site, draw: Any = draw) -> Any:
                own = torch.from_numpy(draw.integers(0, len(site.private_labels), len(i)))
                known = F.cross_entropy(site.model(**site.ready(rows(site.private, own))), site.private_labels[own])
                student = (site.model.encode(**views) / temperature).log_softmax(1)
                teacher = (mean[i] / temperature).log_softmax(1)
                return known + self.s.kl_weight * F.kl_div(teacher, student, log_target=True, reduction="batchmean")

            self.train(site, inputs, self.s.retrain_steps, loss, "shared")
            self.private(site)

    def creamfl(self, seen: list[Any]) -> None:
        """Contrast between and within modalities."""
        of = {m: torch.stack([z for s, (z, _) in zip(self.sites, seen) if s.modality == m]) for m in ("image", "text")}
        means = {m: z.mean(0) for m, z in of.items()}
        swap = {"image": "text", "text": "image"}
        targets = {
            m: grouped(z, contrast_weights(z, means[swap[m]], self.s.weigh_temperature, True)) for m, z in of.items()
        }
        for site, inputs, (said, _) in zip(self.sites, self.inputs, seen):
            draw = site.rng(self.t, "own")

            def loss(views: Any, i: Any, site: Any = site, said: Any = said, draw: Any = draw) -> Any:
                z, t = site.model.encode(**views), self.s.contrast_temperature
                own = torch.from_numpy(draw.integers(0, len(site.private_labels), len(i)))
                known = F.cross_entropy(site.model(**site.ready(rows(site.private, own))), site.private_labels[own])
                apart = inter_contrast(z, targets[swap[site.modality]], i, t)
                near = intra_contrast(z, targets[site.modality][i], said[i], t)
                return known + self.s.contrast_weight * (apart + near)

            self.private(site)
            self.train(site, inputs, self.s.retrain_steps, loss, "shared")


def written() -> tuple[int, int]:
    """Bytes that this process has asked to be written anywhere, and that went to storage."""
    facts = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(facts["wchar"]), int(facts["write_bytes"])


def measure(method: str, rounds: int, ledger: Path | None, preset: str | None = None, more: Sequence[str] = ()) -> None:
    """Print the row of a method."""
    own = [f"method={method}", "settings.shared=public", *SETTINGS.get(method, ()), *more]
    config = load_config(preset=preset, overrides=own)
    kind, settings = resolve(config)
    config = config.model_copy(update={"settings": settings.model_dump(mode="json")})
    scene = cached_dataset(config.data)
    settle_process(1)
    assets, _ = pretrained_models(config, kind, settings, scene, Observer(), print)
    server = kind.server(server_tools(config, kind, settings, scene, assets), settings)
    federation = build_federation(
        config, kind, settings, assets, Ledger(ledger, uncounted=UNCOUNTED), Link(None, "", scene)
    )
    specs = client_specs(config, "standalone", {}, assets)
    sites = [build_client(name=s.name, **s.arguments).context for s in specs]  # type: ignore[arg-type]
    public = server.draw(1, federation)
    plain = Loop(method, sites, settings, public)
    found: list[tuple[float, float, int, int]] = []
    with federation:
        for t in range(rounds + 1):
            federation.round = t + 1
            io, begun = written(), time.process_time()
            server.round(federation)
            ours, after = time.process_time() - begun, written()
            begun = time.process_time()
            plain.round()
            theirs = time.process_time() - begun
            if t:
                found.append((ours, theirs, after[0] - io[0], after[1] - io[1]))
    ours, theirs = ([f[i] for f in found] for i in (0, 1))
    ratios = [a / b for a, b in zip(ours, theirs)]
    cells = (
        f"{statistics.median(ours):.2f} ({min(ours):.2f} to {max(ours):.2f})",
        f"{statistics.median(theirs):.2f} ({min(theirs):.2f} to {max(theirs):.2f})",
        f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
        f"{np.median([f[2] for f in found]):.0f}",
        f"{np.median([f[3] for f in found]):.0f}",
    )
    print(f"| {method} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    """All methods."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--ledger", type=Path, help="write the ledger there, as a run does; default: in memory")
    parser.add_argument("--methods", type=lambda s: s.split(","), default=list(METHODS), help=", ".join(METHODS))
    parser.add_argument("--preset", help="start all of them from it, such as smoke: a try of the script")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="for all of them")
    given = parser.parse_args()
    if unknown := set(given.methods) - set(METHODS):
        parser.error(f"--methods: {min(unknown)!r}, allowed: {', '.join(METHODS)}")
    torch.set_num_threads(1)
    print("| method | fedloom, CPU s | plain loop, CPU s | ratio | bytes written a round | to storage |")
    print("|---|---|---|---|---|---|")
    for method in given.methods:
        ledger = given.ledger and given.ledger / f"{method}.jsonl"
        measure(method, given.rounds, ledger, given.preset, given.set)


if __name__ == "__main__":
    main()
