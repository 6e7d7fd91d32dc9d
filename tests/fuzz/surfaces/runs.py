"""What a run leaves on disk and is read again: its folder, checkpoints, the silo's state, the cache."""

from __future__ import annotations

import hashlib
import json
import os
import re
import zlib
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import yaml
from safetensors.numpy import save

from fedloom.cli.inspect import per_round
from fedloom.federation import WireContract
from fedloom.federation.host import ClientHost, ClientSpec
from fedloom.federation.ledger import Ledger
from fedloom.federation.messages import Empty
from fedloom.reporting.html import write_report
from fedloom.reporting.ledger import flows
from fedloom.reporting.text import ledger_table
from fedloom.results import load_run
from fedloom.runs import CheckpointStore, RunFolder, cached
from fuzz.harness import Refused, Surface, Unsure
from fuzz.inputs import Input, Special
from fuzz.mutate import change_tree, json_bytes
from fuzz.truth import core_yaml, json_lines, json_object, strict_json, tensors

FILES = {"summary": "summary.json", "environment": "environment.json", "split": "split.json"}
LINES = {"rounds": "metrics.jsonl", "ledger": "ledger.jsonl"}


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def draw_run(rng: Random) -> Input:
    """A run folder of a few rounds."""
    clients, rounds = {"image": ["image-0", "image-1"], "text": ["text-0"]}, range(rng.randrange(1, 4))
    names = [name for group in clients.values() for name in group]
    rows = [_row(rng, t, names) for t in rounds]
    ledger = [_message(t, way, name) for t in rounds for name in names for way in ("down", "up")]
    last = rows[-1]
    summary = {
        "method": "fedmmkt", "data": "flora", "seed": 0, "rounds": len(rows) - 1, "clients": clients,
        "image_accuracy": {"before": 0.25, "after": last["image_accuracy"], "per_client": last["per_client"]},
        "t2i_accuracy": {"before": None, "after": 0.5}, "labels": last["labels"], "bytes_up": 640, "bytes_down": 1280,
        "seconds": {"setup": 1.5, "total": 9.25}, "peak_memory_bytes": 123456789, "judge": {"real_test_accuracy": 0.97},
        "version": "0.1.0", "retrieval": {"server": {"i2t_r1": 0.5, "images": 100, "folds": 1}},
    }  # fmt: skip
    summary |= {
        "class_names": ["rose", "café"],
        "test_sets": {"image": {"samples": 20, "chance": 0.5}, "generator": {"samples": 24, "chance": 0.5}},
        "warnings": [{"name": "one-seed", "level": "caution", "message": "one seed", "advice": "compare"}],
    }
    environment = {
        "run": "4f",
        "command": "fedloom run",
        "started": "2025-01-01",
        "packages": {"fedloom": "0.1.0"},
    }
    split = {"classes": ["rose", "café"], "clients": {name: [3, 0] for name in names}}
    config = {
        "method": "fedmmkt",
        "seed": 0,
        "rounds": 3,
        "data": {"name": "flora"},
        "settings": {"gamma": 0.5},
    }
    files = {
        "config.yaml": yaml.safe_dump(config).encode(),
        "environment.json": _json(environment),
        "split.json": _json(split),
        "metrics.jsonl": b"".join(_json(row) + b"\n" for row in rows),
        "ledger.jsonl": b"".join(_json(row) + b"\n" for row in ledger),
    }
    if rng.random() < 0.8:
        files["summary.json"] = _json(summary)
    return Input(dict(files))


def _row(rng: Random, t: int, names: list[str]) -> dict[str, Any]:
    return {
        "round": t, "image_accuracy": round(rng.random(), 3), "text_accuracy": None, "t2i_accuracy": 0.5, "fid": 60.5,
        "labels": _labels() if t else None, "tested": dict.fromkeys(names, 20),
        "per_client": {name: round(rng.random(), 3) for name in names},
        "bytes_up": 320 * t, "bytes_down": 640 * t, "formula_up": 300 if t else None, "losses": {"generator": 1.5},
        "missing": [{"verb": "infer", "client": names[0], "error": "timeout", "detail": "no answer"}] if t == 2 else [],
        "seconds": {"synthesis": 1.5, "evaluation": 2}, "per_class": {"server": [0.5, 0.25]},
        "retrieval": {"server": {"i2t_r1": 0.5, "images": 100, "folds": 1}},
        "facts": {"led": 0.5},
    }  # fmt: skip


def _labels() -> dict[str, Any]:
    classes = {"drawn_classes": [12, 12], "voted_classes": [20, 4], "kept_classes": [12, 0]}
    return {
        "kept_share": 0.5,
        "samples": 24,
        "kept": 12,
        "voted_accuracy": 0.75,
        "prompt_accuracy": 0.5,
        **classes,
    }


def _message(t: int, way: str, client: str) -> dict[str, Any]:
    fields = [
        {"name": "images", "dtype": "uint8", "shape": [2, 4], "bytes": 8},
        {"name": "w[a]", "dtype": "int64", "shape": [], "bytes": 8},
    ]
    return {
        "round": t, "direction": way, "client": client, "verb": "infer", "message": "Pairs", "fields": fields,
        "payload_bytes": 16, "encoded_bytes": 64, "counted": t > 0,
    }  # fmt: skip


def damage_values(rng: Random, given: Input) -> Input:
    """A node of one of the JSON files changed, so that it stays JSON."""
    name = rng.choice(
        [n for n in given.files if n.endswith((".json", ".jsonl")) and isinstance(given.files[n], bytes)] or [""]
    )
    data = given.files.get(name)
    if not isinstance(data, bytes) or not data:
        return given
    lines = data.split(b"\n") if name.endswith("l") else [data]
    at = rng.randrange(len(lines))
    try:
        lines[at] = json_bytes(rng, change_tree(rng, json.loads(lines[at])))
    except (ValueError, RecursionError):
        return given
    return given.replace(name, b"\n".join(lines))


def read_run(folder: Path, given: Input) -> Any:
    """Everything that `load_run` gives, after all that is shown of it as text was made."""
    run = load_run(folder)
    found = {key: getattr(run, key) for key in ("config", "summary", "environment", "rounds", "ledger", "split")}
    before = json.dumps(found, default=str)
    _ = [warning.tree() for warning in run.warnings]
    _ = run.metrics, run.finished, run.samples, run.label_panels
    sums = per_round(run.ledger, run.rounds)
    json.dumps([sums, [vars(flow) for flow in flows(run.ledger, arrays=True)]])
    ledger_table(run.ledger)
    assert json.dumps(found, default=str) == before
    again = RunFolder.open(folder)
    again.same_config(run.config)
    _ = again.run_id
    ledger = Ledger(folder / "ledger.jsonl")
    ledger.totals()
    again.rewind(1)
    ledger.truncate(1)
    kept = [row for row in found["rounds"] if row.get("round", 0) <= 1]
    assert again.read_rounds() == kept
    assert ledger.rows() == [row for row in found["ledger"] if row["round"] <= 1]
    return found


def true_run(folder: Path, given: Input) -> Any:
    config = given.files.get("config.yaml")
    if not isinstance(config, bytes):
        raise Unsure if isinstance(config, Special) and config.kind == "link" else Refused("no config.yaml")
    found: dict[str, Any] = {"config": core_yaml(config)}
    for key in ("summary", "environment", "rounds", "ledger", "split"):
        data = given.files.get(FILES.get(key) or LINES[key])
        if isinstance(data, Special):
            raise Unsure
        empty: Any = {} if key in FILES else []
        found[key] = empty if data is None else json_object(data) if key in FILES else json_lines(data)
    found["split"] = found["split"] or None
    return found


def read_report(folder: Path, given: Input) -> Any:
    page = write_report([folder]).read_text(encoding="utf-8")
    assert "<script" not in page.lower()
    assert "http://" not in re.sub(r"http://www\.w3\.org", "", page)


def true_report(folder: Path, given: Input) -> Any:
    raise Unsure


# ------------------------------------------------------------------------------------------------ checkpoints


class Toy:
    """A client that is what its state is."""

    def __init__(self) -> None:
        self.kept: Any = None

    def state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        return self.kept

    def load_state(self, tensors: dict[str, Any], meta: dict[str, Any]) -> None:
        self.kept = tensors, meta


def make_toy(name: str) -> Toy:
    return Toy()


def _site() -> ClientHost:
    return ClientHost(ClientSpec("image-0", "image", f"{__name__}:make_toy"), WireContract({"rest": (Empty, Empty)}))


def draw_checkpoints(rng: Random) -> Input:
    """Two checkpoints of one client, each with its manifest."""
    files: dict[str, Any] = {}
    for t in (1, 2):
        draws = np.random.default_rng(rng.randrange(2**32))
        data = save(
            {
                "w": draws.normal(size=(2, 3)).astype("float32"),
                "n": np.array(t),
                "none": np.zeros((0, 4), "uint8"),
            }
        )
        record = {
            "client": "image-0",
            "tag": {"round": t},
            "crc32": zlib.crc32(data),
            "meta": {"calls": t, "names": ["é"]},
        }
        files |= {
            f"round_{t:04d}/image-0.safetensors": data,
            f"round_{t:04d}/image-0.json": json.dumps(record).encode(),
        }
        files |= {f"round_{t:04d}/manifest.json": _manifest(files, t)}
    return Input(files)


def _manifest(files: dict[str, Any], t: int) -> bytes:
    own = {
        name.partition("/")[2]: data
        for name, data in files.items()
        if name.startswith(f"round_{t:04d}/image") and isinstance(data, bytes)
    }
    rows = {name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in own.items()}
    return json.dumps({"format": 1, "round": t, "files": rows}).encode()


def mend_checkpoints(rng: Random, given: Input) -> Input:
    """Checksums as the files are now: damage that was there before they were taken."""
    files = dict(given.files)
    for t in (1, 2):
        data, record = (files.get(f"round_{t:04d}/image-0.{end}") for end in ("safetensors", "json"))
        if isinstance(data, bytes) and isinstance(record, bytes):
            files[f"round_{t:04d}/image-0.json"] = re.sub(rb'"crc32": \d+', b'"crc32": %d' % zlib.crc32(data), record)
        if rng.random() < 0.8:
            files[f"round_{t:04d}/manifest.json"] = _manifest(files, t)
    return Input(files)


def read_checkpoints(folder: Path, given: Input) -> Any:
    newest = CheckpointStore(folder).latest()
    if newest is None:
        return None
    site = _site()
    site.load(newest.path, {"round": newest.round})
    found, meta = site.client.state()
    return newest.round, dict(sorted(found.items())), meta


def true_checkpoints(folder: Path, given: Input) -> Any:
    """The newest round whose manifest fits its files, each read by its own layout."""
    if any(isinstance(entry, Special) for entry in given.files.values()):
        raise Unsure
    folders = {name.partition("/")[0] for name in given.files}
    rounds = sorted((int(f[6:]) for f in folders if re.fullmatch(r"round_\d{4,}", f, re.ASCII)), reverse=True)
    for t in rounds:
        own: dict[str, Any] = {
            n.partition("/")[2]: d for n, d in given.files.items() if n.startswith(f"round_{t:04d}/")
        }
        try:
            listed = strict_json(own["manifest.json"])["files"]
            sound = all(
                len(own[n]) == f["bytes"] and hashlib.sha256(own[n]).hexdigest() == f["sha256"]
                for n, f in listed.items()
            )
        except (Refused, KeyError, TypeError, AttributeError):
            continue
        if not sound:
            continue
        if not {"image-0.safetensors", "image-0.json"} <= own.keys():
            raise Refused("the client's files are not there")
        record = strict_json(own["image-0.json"], finite=False, halves=True, own=True)
        data = own["image-0.safetensors"]
        if (record["client"], record["tag"], record["crc32"]) != ("image-0", {"round": t}, zlib.crc32(data)):
            raise Refused("of another client, round or file")
        return t, tensors(data), record["meta"]
    if rounds:
        raise Refused("no sound checkpoint")
    return None


# ------------------------------------------------------------------------------------------------------- cache

KEY = {"what": "numbers", "n": 3}
BUILT = {"a.npy": b"\x93NUMPY" + bytes(range(60)), "sub/b.json": b'{"a": 1}'}


def _build(folder: Path) -> None:
    for name, data in BUILT.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def draw_cache(rng: Random) -> Input:
    """An entry as `cached` leaves it."""
    entry = hashlib.sha256(json.dumps(KEY, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    rows = {name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in BUILT.items()}
    manifest = json.dumps({"kind": "thing", "key": KEY, "files": rows}).encode()
    return Input({f"thing/{entry}/{name}": data for name, data in {**BUILT, "manifest.json": manifest}.items()})


def read_cache(folder: Path, given: Input) -> Any:
    os.environ["FEDLOOM_CACHE"] = str(folder)
    for manifest in folder.rglob("manifest.json"):
        if manifest.is_file():  # what is wrong has come later than the manifest
            os.utime(manifest, (0, 0))
    entry = cached("thing", KEY, _build)
    return {name: (entry / name).read_bytes() for name in BUILT}


def true_cache(folder: Path, given: Input) -> Any:
    """What the builder makes, whatever lies there."""
    return BUILT


SURFACES = (
    Surface("run folder", draw_run, read_run, true_run, (damage_values, damage_values), share=2),
    Surface("report", draw_run, read_report, true_report, (damage_values, damage_values), share=0.02),
    Surface("checkpoints", draw_checkpoints, read_checkpoints, true_checkpoints, (), mend_checkpoints, share=2),
    Surface("cache", draw_cache, read_cache, true_cache),
)
