"""Each file of benchmarks/ does what it is for, at its smallest. `gpu*` and `measured` have tests of their own.

Where a script starts processes, an ordinary test calls what they would do in this one; `make conformance` starts them.
"""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

HERE = Path(__file__).resolve()
ROOT = HERE.parents[2]
BENCHMARKS = ROOT / "benchmarks"
sys.path.append(str(BENCHMARKS / "bare_flower" / "app"))

Call = Callable[..., str]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Call:
    """Calls a script's command line in an empty folder; what it prints."""
    monkeypatch.chdir(tmp_path)

    def main(name: str, *words: object) -> str:
        module = __import__(name)
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, words)])
        capsys.readouterr()
        module.main()
        return capsys.readouterr().out

    return main


def numbers(line: str) -> list[float]:
    """The cells of a Markdown row that are one number, or begin with one."""
    cells = [cell.split()[0].replace(",", "") for cell in line.split("|") if cell.split()]
    return [float(cell) for cell in cells if cell.lstrip("+-").replace(".", "").replace("e-", "").isdigit()]


def test_every_file_has_a_test() -> None:
    """Whoever adds a benchmark names it in a test."""
    told = "".join(path.read_text() for path in HERE.parent.glob("*.py"))
    names = {path.stem for path in BENCHMARKS.rglob("*.py")} - {"__init__"}
    assert {name for name in names if name not in told} == set()


def test_picture(call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Labels above the first grid and the last; a run that has drawn but once is named."""
    samples = tmp_path / "run" / "samples"
    samples.mkdir(parents=True)
    (tmp_path / "run" / "summary.json").write_text(json.dumps({"class_names": ["a", "b", "c"]}))
    for name, size in (("labels_0001", (30, 20)), ("round_0000", (10, 40))):
        Image.new("RGB", size, "red").save(samples / f"{name}.png")
    with pytest.raises(SystemExit):
        call("picture", tmp_path / "run", "out.png")
    assert "found 1" in capsys.readouterr().err
    Image.new("RGB", (10, 40), "blue").save(samples / "round_0002.png")
    Image.new("RGB", (10, 40), "green").save(samples / "round_0001.png")
    call("picture", tmp_path / "run", "out.png")
    sheet = Image.open(tmp_path / "out.png")
    assert sheet.size == (10 + 12 + 10, 20 + 12 + 40 + 40)
    at = {"labels": (2, 0), "white": (2, 25), "before": (0, 111), "gap": (15, 111), "after": (31, 111)}
    red, white, blue = (255, 0, 0), (255, 255, 255), (0, 0, 255)
    seen = {name: sheet.getpixel(place) for name, place in at.items()}
    assert seen == {"labels": red, "white": white, "before": red, "gap": white, "after": blue}
    (tmp_path / "run" / "summary.json").write_text(json.dumps({"class_names": list("abcdefgh")}))
    call("picture", tmp_path / "run", "out.png")
    assert Image.open(tmp_path / "out.png").size == (4 * 10 + 3 * 12, 20 + 12 + 40 + 20)  # two blocks


# ------------------------------------------------------------------------------------------------- of the methods


@pytest.mark.parametrize("method", ["fedmd", "fedmekt", "creamfl"])
def test_rounds(call: Call, method: str, tmp_path: Path) -> None:
    few = [w for key in ("private_steps", "retrain_steps") for w in ("--set", f"settings.{key}=1")]
    words = ("--rounds", 1, "--preset", "smoke", "--methods", method, "--ledger", tmp_path)
    said = call("rounds", *words, *few)
    (row,) = (line for line in said.splitlines() if line.startswith(f"| {method} |"))
    assert len(numbers(row)) == 5
    assert all(x > 0 for x in numbers(row)[:3])
    assert (tmp_path / f"{method}.jsonl").stat().st_size > 0


def test_rounds_of_no_method(call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        call("rounds", "--methods", "fedmkd")
    assert "'fedmkd', allowed: fedmd, fedmekt, creamfl" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------- of the kernels


@pytest.mark.parametrize("name", ["contrast", "ensemble"])
def test_kernels(call: Call, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Each measurement is a process of its own there; here what that process does, in this one."""
    import contextlib
    import io

    module = __import__(name)

    def run(command: list[str], **how: Any) -> Any:
        assert command[:2] == [sys.executable, module.__file__]
        with monkeypatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as said:
            patch.setattr(sys, "argv", command[1:])
            module.main()
        return SimpleNamespace(stdout=said.getvalue())

    monkeypatch.setattr(module.subprocess, "run", run)
    monkeypatch.setattr(module.torch, "set_num_threads", lambda n: None)
    given = {"contrast": ("--repeats", 1), "ensemble": ("--clients", 2)}[name]
    said = call(name, "--sizes", "64,96", "--width", 8, *given)
    assert [numbers(line)[0] for line in said.splitlines()[2:] if "over" not in line] == (
        [64, 64, 96, 96] if name == "contrast" else [64, 96]
    )
    if name == "contrast":
        apart = [float(line.split()[-3]) for line in said.splitlines() if "mean difference" in line]
        assert len(apart) == 2
        assert max(apart) < 1e-4


def test_limits_of_a_card(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clients' and the fusion's; those of the generators take half a minute: `make conformance`."""
    import gpu_limits

    for name in ("drawing", "training"):
        monkeypatch.setattr(gpu_limits, name, list)
    assert call("gpu", "limits", "--card", "H200").count("\n") == 2 + 2 + 3


@pytest.mark.conformance
def test_all_limits_of_a_card(call: Call) -> None:
    assert call("gpu", "limits", "--card", "H200").count("\n") == 2 + 5 + 2 + 3


def test_what_the_weights_and_the_flowers_are_made_by(call: Call, tmp_path: Path) -> None:
    assert call("random_weights", "weights", "--size", "tiny", "--only", "microsoft/resnet-18") == (
        "weights/microsoft/resnet-18\n"
    )
    assert (tmp_path / "weights/microsoft/resnet-18/config.json").is_file()
    words = ("flowers", "--side", 16, "--classes", 2, "--per-class", 1, 1, 1)
    assert call("made_flowers102", *words) == "flowers\n"
    assert len(list((tmp_path / "flowers" / "jpg").iterdir())) == 6


# -------------------------------------------------------------------------------------------------- of the engine


def _plan(sizes: str = "0,1000") -> dict[str, Any]:
    return {"sizes": sizes, "modes": "down,echo", "repeats": 1, "pull": 0.01, "timeout": 60.0}


@pytest.fixture
def our_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else is carrying."""
    from bare import loop

    monkeypatch.setattr(loop, "wait_for_turn", lambda out: None)


def carried(out: Path) -> list[tuple[int, str, int]]:
    """What a loop has written: all that counts, and that it is done."""
    *rows, last = map(json.loads, out.read_text().splitlines())
    assert last == {"done": True}
    return [(row["size"], row["mode"], row["repeat"]) for row in rows]


ALL = [(0, "down", -1), (0, "down", 0), (1000, "down", 0), (1000, "echo", 0)]


@pytest.mark.parametrize("carrier", ["bare", "fedloom"])
def test_carriers_over_a_grid(carrier: str, our_turn: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`bare_flower/simulate.py` with the bare client and the one of `toys`, over a grid in this process."""
    pytest.importorskip("flwr")
    from in_process_grid import InProcessGrid

    def run_simulation(server: Any, client: Any, nodes: int, backend_config: Any) -> None:
        assert backend_config["init_args"]["object_store_memory"] > 200_000_000
        grid = InProcessGrid({7: (client, {"partition-id": 0, "num-partitions": nodes})})
        server(grid, SimpleNamespace())

    monkeypatch.setattr("flwr.simulation.run_simulation", run_simulation)
    config = _plan() | {"out": str(tmp_path / "rows.jsonl")}
    script = BENCHMARKS / "bare_flower" / "simulate.py"
    monkeypatch.setattr(sys, "argv", [str(script), carrier, json.dumps(config)])
    monkeypatch.setattr(sys, "path", list(sys.path))
    runpy.run_path(str(script))
    assert carried(tmp_path / "rows.jsonl") == ALL


def test_the_apps_of_a_deployment(our_turn: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What their two pairs of modules hand over: the bare one's whole way, ours up to the silo's worker."""
    pytest.importorskip("flwr")
    from in_process_grid import InProcessGrid

    monkeypatch.syspath_prepend(str(BENCHMARKS / "fedloom_carrier" / "app"))
    from bare.client_app import app as client
    from bare.server_app import app as server
    from fedloom_bench import client_app, server_app

    config = _plan() | {"out": str(tmp_path / "rows.jsonl")}
    server(InProcessGrid({7: (client, {})}), SimpleNamespace(run_config=config))
    assert carried(tmp_path / "rows.jsonl") == ALL

    given: list[dict[str, Any]] = []
    monkeypatch.setattr(server_app, "over_grid", lambda grid, config: given.append(config))
    monkeypatch.setattr(server_app, "look_often", lambda module: None)
    server_app.app(InProcessGrid({}), SimpleNamespace(run_config=config))
    assert given == [config | {"resident": True}]
    from fedloom.federation.engines.silo.envelopes import Envelope

    monkeypatch.setattr(client_app, "to_resident", lambda letter, node: Envelope({"well": True}))
    assert client_app.answer(Envelope({}), {}).header == {"failed": "torch was imported"}  # it is, in this process


@pytest.mark.parametrize("where", ["local", "workers"])
def test_engine_on_this_machine(call: Call, where: str, tmp_path: Path) -> None:
    """Processes as they are, which import no torch: what `engine.py`, `watch` and `fedloom_carrier/rounds.py` do."""
    words = (
        "--sizes",
        "0,1e3",
        "--repeats",
        1,
        "--out",
        tmp_path / "rows.jsonl",
        "--keep",
        tmp_path / "kept",
    )
    said = call("engine", "fedloom", "--where", where, *words)
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert [(row["size"], row["mode"], row["repeat"]) for row in rows] == ALL[1:]
    assert all(row["server_peak"] > 0 and row["carrier"] == "fedloom" for row in rows)
    assert said.count(f"| {where} |") == 3
    assert call("engine", "summary", tmp_path / "rows.jsonl") == said


def test_engine_that_cannot_be(call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        call("engine", "bear", "--where", "local", "--out", tmp_path / "x")
    assert "'bear', allowed: bare, fedloom" in capsys.readouterr().err


def test_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its keys are good for one another, and its commands those of a SuperLink and a SuperNode; nothing is started."""
    pytest.importorskip("cryptography")
    from bare_flower import network
    from bare_flower.watch import Watch

    sys.path.append(str(HERE.parents[1] / "deployment"))
    from test_pki import handshake

    started: dict[str, tuple[str, ...]] = {}

    class Started(network.Network):
        def _spawn(self, name: str, *command: str) -> None:
            started[name] = command
            words = [sys.executable, "-I", "-S", "-c", "input()"]
            self.children[name] = subprocess.Popen(words, stdin=subprocess.PIPE)

        def _flwr(self, *words: str) -> dict[str, Any]:
            return {"success": True, "run-id": 5, "runs": [{"status": "finished"}]}

    monkeypatch.setattr(network.urllib.request, "urlopen", lambda *given, **more: None)
    with Started(tmp_path, silos=2, node_config={"a": "b"}) as up, Watch(up.roots, every=0.01) as watch:
        assert up.submit(tmp_path, {"sizes": "0"}) == "5"
        assert up.status("5") == "finished"
        assert set(up.roots) == {"link", "node0", "node1"}
        while not watch.cpu:
            time.sleep(0.01)
    assert all(child.poll() is not None for child in up.children.values())
    assert started["link"][0] == "flower-superlink"
    assert started["node1"][-1] == 'partition-id=1 num-partitions=2 silo="silo-1" a="b"'
    assert len(watch.seen) == 3
    keys = tmp_path / "pki"
    for host in ("localhost", "127.0.0.1"):
        handshake(keys / "server.pem", keys / "server.key", keys / "ca.crt", host)


@pytest.mark.parametrize("code", [0, 2])
def test_a_round_on_an_accelerator(code: int, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights and flowers are made, and the run is called; the run itself is `make conformance`."""
    import gpu_round
    import torch

    called: list[list[str]] = []

    def run(command: list[str], **how: Any) -> Any:
        called.append(command)
        return SimpleNamespace(returncode=code)

    monkeypatch.setattr(gpu_round.subprocess, "run", run)
    monkeypatch.setattr(gpu_round, "phases", lambda run: [{"what": str(run)}])
    monkeypatch.setitem(gpu_round.FLOWERS, "tiny", {"side": 16, "classes": 2, "per_class": (1, 1, 1)})
    rows = partial(gpu_round.rows, weights, "tiny", torch.device("cpu"), tmp_path, [])
    if code:
        with pytest.raises(SystemExit, match=r"the run failed \(exit code 2\); its folder: "):
            rows()
    else:
        assert rows() == [{"what": str(tmp_path / "run-tiny")}]
    assert (tmp_path / "flowers102-tiny" / "setid.mat").is_file()
    assert len(called) == 1


@pytest.mark.conformance
@pytest.mark.parametrize("section", ["drawing", "training", "fusion", "round"])
def test_what_an_accelerator_is_measured_by(call: Call, section: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDLOOM_WEIGHTS", "")  # main() sets it: put back afterwards
    words = ("--device", "cpu", "--size", "tiny", "--repeats", 1, "--precision", "fp32", "--out", "gpu.jsonl")
    call("gpu", section, *words)
    assert call("gpu", "summary", "--out", "gpu.jsonl").count("\n") > 2


@pytest.mark.conformance
@pytest.mark.parametrize("where", ["deployment", "simulation"])
def test_engine_on_flower(call: Call, where: str, tmp_path: Path) -> None:
    words = (
        "--sizes",
        "0,1e3",
        "--repeats",
        1,
        "--out",
        tmp_path / "rows.jsonl",
        "--keep",
        tmp_path / "kept",
    )
    assert call("engine", "bare,fedloom", "--where", where, *words).count(f"| {where} |") == 9


def test_smoke_figures(tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    call_failing = pytest.raises(SystemExit)
    one, other = tmp_path / "one.json", tmp_path / "other.json"
    one.write_text(json.dumps({"methods": {"fedmd": {"rounds": [{"round": 0, "losses": {"clients": 1.0}}]}}}))
    other.write_text(one.read_text().replace("1.0", "1.5"))
    assert "0 differences" in call("smoke_figures", "compare", one, one)
    assert "/fedmd/rounds/0/losses/clients: 1.0 and 1.5" in call("smoke_figures", "compare", one, other)
    with call_failing:
        call("smoke_figures", "run")
