"""Settings: configurations of runs, silos and servers, plans, `--set`, and what a server tells of its jobs."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import yaml

from fedloom.comparison.plan import ComparisonPlan, read_plan
from fedloom.config import Config, load_config
from fedloom.config.silo import HostSettings, SiloSettings
from fedloom.config.trees import override, read_settings
from fedloom.deployment.silo import silo_status
from fedloom.deployment.submit import jobs
from fedloom.errors import BadInput
from fuzz.harness import Refused, Surface, Unsure
from fuzz.inputs import Input
from fuzz.mutate import change_tree
from fuzz.odd_values import ODD_TEXTS
from fuzz.truth import core_yaml, same_number, same_truth

_RUN = {
    "method": "fedmmkt", "seed": 3, "rounds": 2,
    "data": {"name": "folder", "root": "my data", "options": {"classes": ["no", "yes"], "size": 16}, "alpha": 0.5},
    "clients": {"image": [{"arch": "vit", "count": 2}], "batch": 16, "rate": 1e-3, "devices": ["cpu"]},
    "server": {"generator": {"steps": 20}, "vocabulary": 200}, "engine": {"workers": 2, "timeout": None},
    "settings": {"gamma": 0.25},
}  # fmt: skip
_SILO = {
    "name": "ward-7", "modality": "image", "model": {"arch": "vit", "patch": 4}, "server": "fed.example.org:9092",
    "bounds": {"methods": ["fedmmkt"], "round": {"steps": 100}},
    "data": {"name": "folder", "root": "scans", "options": {"size": 16}}, "threads": 2, "private_errors": True,
}  # fmt: skip
_HOST = {"folder": "here", "host": "0.0.0.0", "port": 9000, "insecure": False}
_PLAN = {
    "title": "ours", "seeds": [0, 1], "scores": ["image_accuracy", "text_accuracy"], "base": {"rounds": 2},
    "rows": [{"method": "fedavg"}, {"name": "wide", "method": "fedmmkt", "set": {"settings": {"gamma": 0.5}}}],
    "columns": [{"name": "iid", "set": {"data": {"partition": "iid"}}}, {"name": "skewed"}], "reference": "fedavg",
}  # fmt: skip
MODALITIES: dict[str, tuple[dict[str, Any], Any]] = {
    "run": (_RUN, lambda path: load_config(file=path)),
    "silo": (_SILO, lambda path: read_settings(SiloSettings, path, {})),
    "host": (_HOST, lambda path: read_settings(HostSettings, path, {})),
    "plan": (_PLAN, lambda path: read_plan(file=path)),
}


def draw_settings(rng: Random) -> Input:
    """A configuration as YAML, in block or flow style."""
    kind = rng.choice(list(MODALITIES))
    text = yaml.safe_dump(
        MODALITIES[kind][0], sort_keys=False, allow_unicode=True, default_flow_style=rng.random() < 0.2
    )
    return Input({"mine.yaml": text.encode()}, {"kind": kind})


def damage_settings(rng: Random, given: Input) -> Input:
    """A node of the tree changed, or YAML that is more than it looks."""
    data: Any = given.files["mine.yaml"]
    if rng.random() < 0.2:
        return given.replace("mine.yaml", data + rng.choice(_YAML))
    tree = change_tree(rng, yaml.safe_load(data))
    return given.replace("mine.yaml", yaml.safe_dump(tree, sort_keys=False, allow_unicode=True).encode())


_LAUGHS = b"".join(b"l%d: &l%d [%s]\n" % (i, i, b",".join([b"*l%d" % (i - 1)] * 9) if i else b"ha") for i in range(12))
_YAML = (
    *(
        b"\nseed: 4\n",
        b"\nrounds: 0o17\n",
        b"\nrounds: 1_000\n",
        b"\nseed: yes\n",
        b"\nrounds: 12:30\n",
        b"\n<<: {seed: 9}\n",
    ),
    *(
        b"\nself: &a [*a]\n",
        b"\n? [a]\n: 1\n",
        b"\n1: 2\n",
        b"\nx: !!python/object/apply:os.system [ls]\n",
        b"\n---\na: 1\n",
    ),
    *(
        b"\n\tseed: 1\n",
        b"\nseed: 2024-01-01\n",
        b"\nclients.batch: 16\n",
        b"\ndata.options.size: 8\n",
        b"\nseed: '3'\n",
        _LAUGHS,
    ),
    *(
        b"\nseed: true\n",
        b"\nseed: 3.0\n",
        b"\nseed: 3.5\n",
        b"\nrate: .nan\n",
        b"\nsettings: {gamma: .inf}\n",
        b"\nseed: -0\n",
    ),
)


def read_any(folder: Path, given: Input) -> Any:
    """Of the settings those that the file gives."""
    settings: Config | SiloSettings | HostSettings | ComparisonPlan = MODALITIES[given.options["kind"]][1](
        folder / "mine.yaml"
    )
    whole = settings.model_dump(mode="json")
    json.dumps(whole)
    try:
        return _given(whole, core_yaml(given.files["mine.yaml"]) or {})  # type: ignore[arg-type]
    except (Refused, Unsure):  # as `true_settings` will say
        return whole


def _given(taken: Any, tree: Any) -> Any:
    """Of what was taken what the tree gives; whole numbers and texts as the tree has them where they are the same."""
    if isinstance(tree, dict) and isinstance(taken, dict):
        pairs = ((key, taken.get(key), value) for key, value in tree.items())
        return {key: value if _same_name(key, a, value) else _given(a, value) for key, a, value in pairs}
    if isinstance(tree, list) and isinstance(taken, list) and len(tree) == len(taken):
        return [_given(a, b) for a, b in zip(taken, tree)]
    if same_number(taken, tree) or same_truth(taken, tree):
        return tree  # `rate: 1`, `rounds: 1e3`, `seed: '3'`
    return tree if tree is None else taken  # null is the default of what it is null in


def _same_name(key: str, taken: Any, given: Any) -> bool:
    """Whether it is the name of an item, which may be written in other letters' case."""
    return key in ("arch", "method") and isinstance(given, str) and taken == given.lower()


def true_settings(folder: Path, given: Input) -> Any:
    """What the file says."""
    tree = core_yaml(given.files["mine.yaml"]) or {}  # type: ignore[arg-type]
    if isinstance(tree, dict) and given.options["kind"] == "plan" and {"like", "target"} & set(tree):
        raise Unsure
    if isinstance(tree, dict) and isinstance(base := tree.get("base"), dict) and "preset" in base:
        raise Unsure
    return tree


def draw_set(rng: Random) -> Input:
    """`--set key=value`, in words of the command line."""
    key = rng.choice(
        ("rounds", "clients.batch", "data.options.classes", "settings.gamma", "data.root", "clients.devices")
    )
    value = rng.choice(
        (
            "3",
            "16",
            "[no, yes]",
            "0.5",
            "1e-3",
            "a b",
            "null",
            "[cpu, cuda]",
            "",
            "{a: 1}",
            "0x10",
            "012",
            "on",
        )
    )
    return Input({"argument.txt": f"{key}={value}".encode()})


def damage_set(rng: Random, given: Input) -> Input:
    text: Any = given.files["argument.txt"]
    key, _, value = text.decode("utf-8", "replace").partition("=")
    odd = rng.choice(ODD_TEXTS)
    new = rng.choice(
        (
            f"{key}={odd}",
            f"{key}.{odd}={value}",
            f"{odd}={value}",
            f"{key}=[{value}",
            f"{key}={value},{odd}",
            key,
        )
    )
    return given.replace("argument.txt", new.encode("utf-8", "surrogatepass"))


def read_set(folder: Path, given: Input) -> Any:
    text: Any = given.files["argument.txt"]
    return dict(override(text.decode("utf-8", "surrogateescape")))


def true_set(folder: Path, given: Input) -> Any:
    """The path of keys, and the value as YAML."""
    text: Any = given.files["argument.txt"]
    key, equals, value = text.partition(b"=")
    if not equals or not key or b"\0" in text:
        raise BadInput("no key=value")
    tree: Any = core_yaml(value)
    for part in reversed(key.decode().strip(" ").split(".")):
        tree = {part: tree}
    return tree


# ------------------------------------------------------------------------------------------------- a server's folder


def draw_server(rng: Random) -> Input:
    """A server's jobs with their events, and a silo's status."""
    events: list[dict[str, Any]] = [
        {"event": "process", "time": 1.5, "pid": 99_999_999},
        {"event": "stage", "time": 2.5, "arguments": ["waiting"]},
        {"event": "begin", "time": 3.5, "arguments": [{"folder": "runs/a", "rounds": 3}]},
        {"event": "phase", "time": 4.5, "arguments": [1, "infer"]},
        {"event": "over", "time": 9.5, "folder": "runs/a", "error": None, "bad_input": False},
    ]
    record = {"id": "ab12", "flower": "7", "out": "runs/a", "resume": None}
    silo = {"name": "ward-7", "state": "stopped", "server": "x:1", "pids": {"supervisor": 99_999_999}}
    return Input({
        "jobs/ab12.json": json.dumps(record).encode(),
        "jobs/ab12.jsonl": b"".join(json.dumps(e).encode() + b"\n" for e in events[: rng.randrange(6)]),
        "silo.json": json.dumps(silo).encode(),
    })  # fmt: skip


def damage_records(rng: Random, given: Input) -> Input:
    """A node of one of the JSON files changed."""
    name = rng.choice(list(given.files))
    lines = given.files[name].split(b"\n")  # type: ignore[union-attr]
    at = rng.randrange(len(lines))
    lines[at] = json.dumps(change_tree(rng, json.loads(lines[at]))).encode()
    return given.replace(name, b"\n".join(lines))


def read_server(folder: Path, given: Input) -> Any:
    rows = jobs(folder)
    json.dumps([rows, silo_status(folder)])
    return None


def nothing(folder: Path, given: Input) -> Any:
    return None


SURFACES = (
    Surface("settings", draw_settings, read_any, true_settings, (damage_settings, damage_settings), share=2),
    Surface("overrides", draw_set, read_set, true_set, (damage_set,), files_too=False),
    Surface("server folder", draw_server, read_server, nothing, (damage_records, damage_records), share=0.7),
)
