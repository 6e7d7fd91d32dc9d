"""A made-up run folder: random pictures and numbers that look like a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from fedloom.reporting.pictures import label_panel, sample_grid
from fedloom.reporting.scores import STREAMS
from fedloom.runs import RunFolder

CLASSES = (
    *("poppy", "buttercup", "lily", "clematis", "daisy", "coneflower"),
    *("iris", "trillium", "periwinkle", "bellflower", "cosmos", "aster"),
)
IMAGE, TEXT = ["image-0", "image-1", "image-2"], ["text-0", "text-1"]
PAIR = ["pair-0", "pair-1"]
JOINT = ["joint-0", "joint-1"]
ROUNDS = 4
TESTED = 400  # test samples of a client
# What tells how far the scores can be trusted.
SOUND = {
    "class_names": list(CLASSES),
    "test_sets": {
        **{m: {"samples": TESTED, "classes": 12, "chance": 0.1} for m in ("image", "text", "joint", "server")},
        "pair": {"samples": 500, "classes": None, "chance": 0.002},
        "generator": {"samples": 144, "classes": 12, "chance": 1 / 12},
    },
    "judge": {"real_test_accuracy": 0.973, "real_test_samples": TESTED, "chance": 0.1},
    "clip": {"real_test_accuracy": 0.81, "real_test_samples": 128, "chance": 0.1},
}


def pictures(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A disc in the colour of its class on a noisy ground, uint8 (N, 32, 32, 3)."""
    y, x = np.mgrid[:32, :32] - 15.5
    disc = (np.hypot(x, y) < 10)[..., None]
    colours = np.random.default_rng(1).integers(0, 255, (len(CLASSES), 3))
    noise = rng.integers(90, 120, (len(labels), 32, 32, 3))
    return np.where(disc, colours[labels][:, None, None], noise).astype(np.uint8)


def message(round: int, direction: str, client: str, verb: str, counted: bool = True) -> dict[str, Any]:
    """A ledger line."""
    up = [("probabilities", "float32", [64, 12], 3072), ("representations", "float16", [64, 32], 4096)]
    down = [("images", "uint8", [64, 32, 32, 3], 196608), ("labels", "int64", [64], 512)]
    fields = [dict(zip(("name", "dtype", "shape", "bytes"), f)) for f in (up if direction == "up" else down)]
    payload = sum(f["bytes"] for f in fields)
    return {
        "round": round,
        "direction": direction,
        "client": client,
        "verb": verb,
        "message": "Opinion" if direction == "up" else "Pairs",
        "fields": fields,
        "payload_bytes": payload,
        "encoded_bytes": payload + 120,
        "counted": counted,
    }


def row(round: int, seed: int, text: bool = True) -> dict[str, Any]:
    """A line of metrics."""
    rng = np.random.default_rng([seed, round])
    gain = 1 - np.exp(-0.6 * round)
    image, words, t2i = 0.42 + 0.2 * gain, 0.55 + 0.11 * gain, 0.38 + 0.28 * gain
    per = {name: image + rng.normal(0, 0.03) for name in IMAGE}
    per |= {name: words + rng.normal(0, 0.03) for name in TEXT} if text else {}
    labels = {
        "prompt_accuracy": 0.6 + 0.2 * gain,
        "voted_accuracy": 0.7 + 0.2 * gain,
        "kept_accuracy": 0.82 + 0.1 * gain,
        "dropped_accuracy": 0.4 + 0.1 * gain,
        "kept_prompt_accuracy": 0.66 + 0.2 * gain,
        "kept_share": 0.55 + 0.2 * gain,
        "samples": 240,
        "kept": int(240 * (0.55 + 0.2 * gain)),
        "drawn_classes": [20] * 12,
        "voted_classes": [18, 22] * 6,
        "kept_classes": [11, 14] * 6,
        "true_classes": [20] * 12,
        "right_classes": [10, 13, 11, 7, 11, 14] * 2,
        "kept_share_classes": [11 / 18, 14 / 22] * 6,
        "accuracy_classes": [10 / 11, 13 / 14, 1.0, 0.5, 1.0, 1.0] * 2,
        "votes_classes": [3.5, 2.25] * 6,
    }
    late = [{"verb": "infer", "client": "image-2", "error": "timeout", "detail": "no answer in 30 s"}]
    return {
        "round": round,
        "image_accuracy": image,
        "text_accuracy": words if text else None,
        "t2i_accuracy": t2i,
        "clip_score": 24.1 + 2.2 * gain,
        "fid": 61.0 - 20 * gain,
        "inception_score": None,
        "per_client": per,
        "tested": dict.fromkeys(per, TESTED),
        "labels": labels if round else None,
        "bytes_up": 36_440 * bool(round),
        "bytes_down": 986_200 * bool(round),
        "formula_up": 35_840 if round else None,
        "formula_down": 985_600 if round else None,
        "missing": late if round == 2 else [],
        "losses": {"generator": 1.2 - 0.2 * gain},
        **({"facts": {"weight_entropy": 0.9 + 0.01 * round}} if round else {}),
        "seconds": {
            "synthesis": 4.1,
            "inference": 1.2,
            "fusion": 0.1,
            "generator": 9.3,
            "retraining": 3.3,
            "evaluation": 2.2,
        },
    }


def with_recalls(row: dict[str, Any]) -> dict[str, Any]:
    """The row of a run with image-text clients and a server that is scored by retrieval, and without a generator."""
    gain, found = 1 - np.exp(-0.6 * row["round"]), {}
    for n, name in enumerate((*PAIR, "server")):
        first = 0.08 + 0.05 * n + 0.15 * gain
        shares = (first, 2.1 * first, 2.7 * first, 0.8 * first, 1.8 * first, 2.4 * first)
        keys = ("i2t_r1", "i2t_r5", "i2t_r10", "t2i_r1", "t2i_r5", "t2i_r10")
        found[name] = {**dict(zip(keys, shares)), "images": 500, "folds": 1 + 4 * (name == "server")}
    sums = {name: r["i2t_r1"] + r["t2i_r1"] for name, r in found.items()}
    each = {name: sums[name] / 2 for name in PAIR}
    return {
        **row,
        **dict.fromkeys(("t2i_accuracy", "clip_score", "fid", "labels")),
        "pair_recall": sum(each.values()) / len(each),
        "server_recall": sums["server"],
        "retrieval": found,
        "per_client": {**row["per_client"], **each},
    }


def with_streams(row: dict[str, Any], kinds: tuple[str, str] = ("audio", "image")) -> dict[str, Any]:
    """The row of a run with multimodal clients alone, the first kind of whose data is the strong one."""
    t = row["round"]
    gain = 1 - np.exp(-0.6 * t)
    first, second = 0.1 + 0.7 * gain, 0.1 + 0.3 * gain
    scores = {"joint_accuracy": 0.1 + 0.5 * gain, "server_accuracy": 0.1 + 0.8 * gain, "server_spread": 0.2}
    for kind, own in zip(kinds, (first, second)):
        scores |= {f"{kind}_own": own, f"{kind}_zeros": own - 0.05, f"{kind}_filled": own - 0.02}
        scores |= {f"{kind}_probe": own + 0.1}
    each = np.linspace(0, 1, len(CLASSES))
    classes = {
        "server": [0.9] * len(each),
        f"{kinds[0]}_own": list(each),
        f"{kinds[1]}_own": list(each[::-1]),
    }
    usual = ("image_accuracy", "text_accuracy", "t2i_accuracy", "clip_score", "fid", "labels")
    return {
        **row,
        **dict.fromkeys(usual),
        **scores,
        "per_class": classes,
        "facts": {
            "dominance": 1.5 if t > 1 else None,
            "led": 0.75 if t > 1 else None,
            "flips": None,
            "odd <b>": 2.0,
        },
        "per_client": dict.fromkeys(JOINT, scores["joint_accuracy"]),
    }


def ends(rows: list[dict[str, Any]], key: str, per_client: list[str] | None = None) -> dict[str, Any] | None:
    """A `{"before", "after"}` entry of the summary."""
    if rows[-1].get(key) is None:
        return None
    entry = {"before": rows[0][key], "after": rows[-1][key]}
    if per_client:
        entry["per_client"] = {n: rows[-1]["per_client"][n] for n in per_client}
    return entry


def make_run(
    path: Path,
    seed: int = 0,
    *,
    text: bool = True,
    finished: bool = True,
    pairs: bool = False,
    joint: bool = False,
) -> Path:
    """Write a run folder at `path`.

    Args:
        pairs: with image-text clients and a server's recalls.
        joint: with multimodal clients alone.
    """
    config = {
        "method": "fedmmkt",
        "data": "flora",
        "seed": seed,
        "rounds": ROUNDS,
        "engine": {"workers": 1},
        "settings": {"quorum": 3, "temperature": 0.5},
    }
    folder = RunFolder.create(path, config)
    rng = np.random.default_rng(seed)
    names = JOINT if joint else IMAGE + (TEXT if text else [])
    counts = rng.integers(0, 40, (len(names), 12)) * rng.integers(0, 2, (len(names), 12))
    folder.write_split(counts, names, CLASSES)
    rows = [row(r, seed, text) for r in range(ROUNDS + 1 if finished else 3)]
    rows = [with_recalls(r) for r in rows] if pairs else [with_streams(r) for r in rows] if joint else rows
    names = names + (PAIR if pairs else [])
    for r in rows:
        folder.append_round(r)
        if joint:
            continue
        labels = np.repeat(np.arange(12), 6)
        blots = pictures(labels, rng)
        sample_grid(blots, CLASSES, folder.sample_picture(r["round"]), side=64)
        if r["round"]:
            truth = np.where(rng.random(72) < 0.3, labels ^ 1, labels)
            vote, kept = np.where(rng.random(72) < 0.8, truth, labels), rng.random(72) < 0.7
            label_panel(blots, labels, vote, kept, truth, CLASSES, folder.label_picture(r["round"]))
    ledger = [message(r, d, c, "infer") for r in range(1, len(rows)) for c in names for d in ("down", "up")]
    ledger += [message(0, "down", c, "setup", counted=False) for c in names]
    folder.ledger.write_text("".join(json.dumps(line) + "\n" for line in ledger))
    folder.log("done")
    if finished:
        streams = {key: ends(rows, key) for key in STREAMS if rows[0].get(key) is not None}
        folder.write_summary(
            {
                "method": "fedmmkt",
                "data": "flora",
                "seed": seed,
                "rounds": ROUNDS,
                "clients": {
                    "image": [] if joint else IMAGE,
                    "text": TEXT if text and not joint else [],
                    **({"pair": PAIR} if pairs else {}),
                    **({"joint": JOINT} if joint else {}),
                },
                **streams,
                "image_accuracy": ends(rows, "image_accuracy", IMAGE),
                "text_accuracy": ends(rows, "text_accuracy", TEXT),
                **({"pair_recall": ends(rows, "pair_recall", PAIR)} if pairs else {}),
                **({"server_recall": ends(rows, "server_recall")} if pairs else {}),
                "t2i_accuracy": ends(rows, "t2i_accuracy"),
                "clip_score": ends(rows, "clip_score"),
                "fid": ends(rows, "fid"),
                "inception_score": None,
                "labels": rows[-1]["labels"],
                "bytes_up": 36_440 * ROUNDS,
                "bytes_down": 986_200 * ROUNDS,
                "bytes_per_round": {"up": 36_440},
                "seconds": {k: v * ROUNDS for k, v in rows[-1]["seconds"].items()},
                "peak_memory_bytes": 1_234_567_890,
                "peak_device_bytes": {"cuda:0": 9_876_543_210},
                **SOUND,
                "version": "0.1.0",
            }
        )
    return path
