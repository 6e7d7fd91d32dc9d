"""What a silo allows: each bound with a server that asks for more; refused at both ends, undone, never forgotten."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
from numpy.typing import NDArray
from toy_clients import Opinion, Probe, Toy, Wish
from toy_federations import PROBE

from fedloom.config.bounds import SiloBounds
from fedloom.config.silo import SiloSettings
from fedloom.config.trees import validate
from fedloom.errors import BadInput, FedloomError
from fedloom.federation import Ledger, Tensors, WireContract
from fedloom.federation.engines.flower.client_app import make_client_app
from fedloom.federation.engines.flower.grid import GridFederation
from fedloom.federation.engines.silo.envelopes import Join
from fedloom.federation.engines.silo.gate import BEYOND
from fedloom.federation.engines.silo.host import RUNS_KEPT, Recipe, SiloHost
from fedloom.federation.engines.silo.store import SPENT, SiloStore
from fedloom.federation.messages import BoundBreach
from fedloom.limits import one_more_step
from in_process_grid import InProcessGrid


@dataclass(frozen=True)
class Model:
    parameters: Annotated[Mapping[str, NDArray[Any]], Tensors("float32")]
    note: str | None = None


OWN = WireContract({"infer": (Probe, Opinion), "retrain": (Wish, Wish), "fit": (Model, Model)})


class Trainer(Toy):
    """Takes as many steps as a Wish has seconds; exports."""

    def retrain(self, message: Wish, round: int) -> Wish:
        for _ in range(int(message.seconds)):
            self.weights = self.weights + np.float32(1)
            one_more_step()
            time.sleep(0.002)
        return Wish(f"{self.weights[0, 0]:g}")

    def fit(self, message: Model, round: int) -> Model:
        return Model(message.parameters, "said" if round == 2 else None)

    def export(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        (folder / "model").write_text(f"{self.weights[0, 0]:g}")


def prepare(offer: dict[str, Any], files: dict[str, Any], folder: Path) -> WireContract:
    return OWN


def trainer(*, name: str, offer: dict[str, Any], public: str, warm: bool, bounds: Any = None) -> Trainer:
    for _ in range(offer.get("warm", 0)):
        one_more_step()
    return Trainer(name, 5, 5)


class Clinic:
    """One silo with bounds, behind a grid."""

    def __init__(self, root: Path, **bounds: Any) -> None:
        self.root, self.bounds = root, validate(SiloBounds, bounds)
        self.grid = InProcessGrid({11: (make_client_app(lambda letter, node: self.host.answer(letter)), {})})
        self.restart()

    def restart(self) -> None:
        recipe = Recipe("image", "test_silo_bounds:prepare", "test_silo_bounds:trainer", {}, {})
        self.store = SiloStore(self.root)
        self.host = SiloHost(self.store, "clinic", recipe, private_errors=True, bounds=self.bounds)

    def federation(self, run: str = "r1", **offer: Any) -> GridFederation:
        join = Join(json.dumps(OWN.to_names()), "", json.dumps({"x": 1, **offer}), {})
        return GridFederation(self.grid, {}, OWN, Ledger(), run=run, join=join, silos=1, patience=5.0)

    def spent(self, run: str = "r1") -> Any:
        return json.loads((self.root / "runs" / run / SPENT).read_text())


def say(f: GridFederation, verb: str, message: Any, round: int = 1) -> Any:
    """What the one client says, or the line of its refusal."""
    f.round = round
    (reply,) = f.ask(verb, message)
    assert reply.ok or reply.error == "refused", reply
    return reply.message if reply.ok else reply.detail


def test_steps_are_counted_as_they_are_taken_and_what_is_refused_is_undone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clinic = Clinic(tmp_path, round={"steps": 10}, run={"steps": 15})
    with clinic.federation() as f:
        assert say(f, "retrain", Wish("", 4.0)).what == "4"
        line = say(f, "retrain", Wish("", 1e6))
        assert line == (
            "beyond this silo's bounds: round 1 has had 10, and 1 more are asked for; bounds.round.steps = 10"
        )
        assert line in caplog.text  # at the silo and at the server, in one line
        assert f.missing[-1].detail == line
        assert say(f, "retrain", Wish("", 2.0), 2).what == "6"  # from where it was before
        assert "bounds.run.steps = 15" in say(f, "retrain", Wish("", 9.0), 3)
    assert clinic.spent()["run"]["refused"] == 2


def test_a_restart_forgets_nothing(tmp_path: Path) -> None:
    """Of the worker, and of the run: joined anew, under the name of another round."""
    clinic = Clinic(tmp_path, run={"queries": 4})
    with clinic.federation() as f:
        say(f, "retrain", Wish("", 1.0))
    clinic.restart()
    with clinic.federation() as f:
        say(f, "retrain", Wish("", 1.0), 7)
        assert "bounds.run.queries = 4" in say(f, "retrain", Wish("", 1.0), 8)  # two of them were joins
    clinic.restart()
    with pytest.raises(FedloomError, match=r"clinic cannot take part: .*bounds\.run\.queries = 4"):
        clinic.federation()


def test_a_query_counts_before_it_is_answered(tmp_path: Path) -> None:
    """So that a server gains nothing from a request over which the worker dies."""
    clinic = Clinic(tmp_path)
    with clinic.federation() as f:
        clinic.host._clients["clinic"].host.client.infer = lambda message, round: exit_now()  # type: ignore[attr-defined]
        with pytest.raises(SystemExit):
            say(f, "infer", PROBE)
    assert clinic.spent()["run"]["queries"] == 2


def exit_now() -> None:
    raise SystemExit


def test_old_rounds_do_not_start_anew(tmp_path: Path) -> None:
    clinic = Clinic(tmp_path, round={"queries": 1})
    with clinic.federation() as f:
        for t in range(100, 170):
            say(f, "retrain", Wish(""), t)
        assert "bounds.round.queries = 1" in say(f, "retrain", Wish(""), 3)
        assert "bounds.round.queries = 1" in say(f, "retrain", Wish(""), 169)


def test_seconds_end_a_training(tmp_path: Path) -> None:
    clinic = Clinic(tmp_path, round={"seconds": 0.2})
    with clinic.federation() as f:
        begun = time.monotonic()
        assert "bounds.round.seconds = 0.2" in say(f, "retrain", Wish("", 1e6))
        assert time.monotonic() - begun < 5
        assert "bounds.round.seconds = 0.2" in say(f, "retrain", Wish(""))  # nothing more in this round
        assert say(f, "retrain", Wish("", 1.0), 2).what == "1"


def test_samples_are_counted_before_anything_is_computed(tmp_path: Path) -> None:
    clinic = Clinic(tmp_path, run={"samples": 5})
    with clinic.federation() as f:
        say(f, "infer", PROBE)
        say(f, "infer", PROBE, 2)
        before = clinic.host._clients["clinic"].host.client.calls  # type: ignore[attr-defined]
        assert "has had 4, and 2 more are asked for; bounds.run.samples = 5" in say(f, "infer", PROBE, 3)
        assert clinic.host._clients["clinic"].host.client.calls == before  # type: ignore[attr-defined]


def test_bytes_up(tmp_path: Path) -> None:
    clinic = Clinic(tmp_path, round={"bytes_up": 200})
    with clinic.federation() as f:
        say(f, "retrain", Wish(""))
        assert "bounds.round.bytes_up = 200" in say(f, "infer", PROBE)
        ledger = [json.loads(line) for line in (tmp_path / "runs/r1/ledger.jsonl").read_text().splitlines()]
        assert [row["verb"] for row in ledger if row["direction"] == "up"] == ["retrain"]


def test_fields_that_may_leave(tmp_path: Path) -> None:
    clinic = Clinic(tmp_path, fields=["Opinion.labels", "entropies", "Model.parameters"])
    with clinic.federation() as f:
        assert "Opinion.representations would leave; bounds.fields = Opinion.labels" in say(f, "infer", PROBE)
        model = Model({"w": np.zeros(3, np.float32)})
        assert say(f, "fit", model).note is None  # an optional field that is not used is none
        assert "Model.note would leave" in say(f, "fit", model, 2)


def test_what_the_server_may_send(tmp_path: Path) -> None:
    clinic = Clinic(tmp_path, parameters=5, public_bytes=1200)
    with clinic.federation() as f:
        assert say(f, "fit", Model({"w": np.zeros(5, np.float32)})).parameters["w"].size == 5
        wide = {"w": np.zeros(3, np.float32), "v": np.zeros(3, np.float32)}
        assert "a model of 6 weights; bounds.parameters = 5" in say(f, "fit", Model(wide))
        assert "bounds.public_bytes = 1200" in say(f, "infer", Probe(np.zeros((30, 4, 4, 3), np.uint8)))
    with pytest.raises(FedloomError, match=r"the message has \d+ bytes; bounds\.public_bytes = 1200"):
        clinic.federation("r2", padding="x" * 1200)


def test_a_warm_start_is_work(tmp_path: Path) -> None:
    clinic = Clinic(tmp_path, run={"steps": 30})
    clinic.federation(warm=20).close()
    assert clinic.spent()["run"]["steps"] == 20
    with pytest.raises(FedloomError, match=r"bounds\.run\.steps = 30"):
        clinic.federation("r2", warm=10**9)


def test_exports_are_never_deleted_by_a_server(tmp_path: Path) -> None:
    clinic = Clinic(tmp_path)
    with clinic.federation() as f:
        say(f, "retrain", Wish("", 3.0))
        f.conclude()
        say(f, "retrain", Wish("", 1.0), 2)
        f.conclude()
    for n in range(RUNS_KEPT + 2):
        clinic.federation(f"later-{n}").close()
    exports = tmp_path / "runs/r1/export"
    assert {p.name: (p / "model").read_text() for p in exports.iterdir()} == {"clinic": "4", "clinic.1": "3"}
    assert {p.name for p in exports.parent.iterdir()} == {"export", "ledger.jsonl", SPENT}
    yielding = Clinic(tmp_path, delete_exports=True)
    yielding.federation("last").close()
    assert not exports.exists()


def test_damaged_counts_are_not_taken_for_none(tmp_path: Path) -> None:
    clinic = Clinic(tmp_path)
    clinic.federation().close()
    for text in ("{", '{"run": {"steps": -1}}', '{"run": 3}'):
        (tmp_path / "runs/r1" / SPENT).write_text(text)
        clinic.restart()
        with pytest.raises(FedloomError, match="clinic cannot take part"):
            clinic.federation()


def test_a_bound_is_told_whatever_private_errors_says() -> None:
    assert str(BoundBreach(f"{BEYOND}x")).startswith("beyond this silo's bounds")


@pytest.mark.parametrize("server", ["fed.example.org:9092", "10.0.0.7:9092", "[2001:db8::1]:9092"])
def test_methods_are_named_where_the_server_is_elsewhere(server: str) -> None:
    given = {"name": "a", "modality": "image", "model": {"arch": "vit"}, "server": server}
    with pytest.raises(BadInput, match=r"bounds\.methods: needed where the server is another machine"):
        validate(SiloSettings, given)
    assert validate(SiloSettings, {**given, "bounds": {"methods": ["fedmmkt"]}}).bounds.methods == ("fedmmkt",)


@pytest.mark.parametrize("server", ["127.0.0.1:9092", "localhost:1", "[::1]:9092"])
def test_on_loopback_any_method_will_do(server: str) -> None:
    given = {"name": "a", "modality": "image", "model": {"arch": "vit"}, "server": server}
    assert validate(SiloSettings, given).bounds.methods is None
