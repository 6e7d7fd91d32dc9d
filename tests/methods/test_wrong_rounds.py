"""What a server from outside the package may not do or return in a round: one line, and a run that can be resumed."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import fedloom
from fedloom.cli.main import main
from fedloom.errors import BadInput, FedloomError
from fedloom.federation.messages import ContractBreach
from fedloom.methods.base import Info, LabelInfo, Server, one_round

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
ASK = 'federation.ask("fit", Prototypes(means.astype(np.float32), counts))'
LOSSES = "losses={reply.client: reply.message.loss for reply in replies if reply.ok}"


class MyServer(Server):
    """Returns what it is given."""

    def __init__(self, returned: Any) -> None:
        self.returned = returned

    def round(self, federation: Any) -> Any:
        if isinstance(self.returned, Exception):
            raise self.returned
        return self.returned


def test_a_round_gives_an_info() -> None:
    federation: Any = SimpleNamespace()
    info = Info(losses={"image-0": 0.5})
    assert one_round(MyServer(info), federation, "mine") is info
    for returned, shown in ((None, "None"), ({"loss": 1}, "{'loss': 1}"), (Info, "<class '")):
        with pytest.raises(FedloomError, match=f"^method mine: MyServer.round returned {shown}.*, expected Info$"):
            one_round(MyServer(returned), federation, "mine")
    with pytest.raises(FedloomError, match=r"^method mine: verb 'fit' down: no$") as error:
        one_round(MyServer(ContractBreach("verb 'fit' down: no")), federation, "mine")
    assert not isinstance(error.value, BadInput)  # the run has begun: exit code 1
    with pytest.raises(ZeroDivisionError):  # a bug keeps its traceback
        one_round(MyServer(ZeroDivisionError()), federation, "mine")


def test_numbers_of_an_info_are_pythons_own() -> None:
    info = Info(
        losses={"a": np.float32(0.5), "b": torch.tensor(2.0), "c": None, "d": 3},
        facts={"e": np.array(7)},
        formula=(np.int64(4), 5),  # type: ignore[arg-type]
    )
    assert repr(info.losses) == "{'a': 0.5, 'b': 2.0, 'c': None, 'd': 3}"
    assert (repr(info.facts), repr(info.formula)) == ("{'e': 7}", "(4, 5)")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"losses": {"image-0": "high"}}, r"Info.losses\['image-0'\] = 'high', expected a number"),
        (
            {"losses": {"image-0": torch.zeros(2)}},
            r"Info.losses\['image-0'\] = tensor\(\[0., 0.\]\), expected a number",
        ),
        ({"seconds": {"vote": True}}, r"Info.seconds\['vote'\] = True, expected a number"),
        ({"facts": [1.0]}, r"Info.facts = \[1.0\], expected a mapping of names to numbers"),
        ({"formula": 3}, "Info.formula = 3, expected two numbers, bytes up and down"),
        ({"formula": (3, "4")}, "Info.formula = '4', expected a number"),
        ({"labels": np.zeros(3)}, r"Info.labels = array\(\[0., 0., 0.\]\), expected a LabelInfo"),
    ],
)
def test_what_no_folder_could_hold_is_refused(given: dict[str, Any], says: str) -> None:
    with pytest.raises(BadInput, match=f"^{says}$"):
        Info(**given)


def test_labels_are_one_a_picture() -> None:
    images, labels, kept = np.zeros((2, 4, 4, 3), np.uint8), np.zeros(2, np.int64), np.ones(2, np.bool_)
    LabelInfo(images, ("", ""), labels, labels, kept)
    with pytest.raises(BadInput, match=r"^LabelInfo.voted has the shape \(3,\), expected \(2,\), one value a picture$"):
        LabelInfo(images, ("", ""), labels, np.zeros(3, np.int64), kept)
    with pytest.raises(BadInput, match=r"^LabelInfo.votes has the shape None, expected \(2,\)"):
        LabelInfo(images, ("", ""), labels, labels, kept, [1, 2])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (f"return Info({LOSSES})", "return None", "PrototypeServer.round returned None, expected Info"),
        (LOSSES, "losses={'image-0': 'high'}", "Info.losses['image-0'] = 'high', expected a number"),
        (ASK, 'federation.ask("train", Empty())', "the contract has no verb 'train', allowed: prototypes, fit"),
    ],
    ids=["nothing", "no number", "no verb"],
)
def test_a_run_ends_in_its_first_round(
    old: str, new: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With exit code 1, and resumable: the folder holds round 0."""
    code = (EXAMPLES / "write_a_method.py").read_text()
    assert old in code
    (tmp_path / "mine.py").write_text(code.replace(old, new))
    monkeypatch.chdir(tmp_path)
    clients = "clients={text: [], public_steps: 0, warm_steps: 0, image: [{arch: vit, hidden: 8, layers: 1, heads: 1}]}"
    data = ("--data", "digits", "--set", "data.options.size=8", "--set", "evaluation.grid=1")
    words = ["run", "--quiet", "--preset", "smoke", "--method", "mine.py:METHOD", "--set", clients, *data]
    assert main([*words, "--out", "run"]) == 1
    said = capsys.readouterr().err.strip()
    assert said.startswith(f"error: method prototypes: {says}. ")
    assert said.endswith("fedloom run --resume run")
    assert "\n" not in said
    assert [row["round"] for row in fedloom.load_run(tmp_path / "run").rounds] == [0]
