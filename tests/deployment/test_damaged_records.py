"""What a silo and a server keep of themselves, damaged: one line each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fedloom.deployment.job import Job
from fedloom.deployment.shapes import read_event, read_nodes
from fedloom.deployment.silo import silo_status
from fedloom.errors import BadInput

DEEP = "[" * 100_000


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (DEEP, "nested too deeply"),
        ('{"kit": 3}', "kit = '3': expected text"),
        ('{"pid": 1' + "0" * 400 + "}", "too large a number"),
        ('{"state": ["up"]}', "state"),
        ("[]", "expected an object"),
        (r'{"server": "\u001b[2J"}', "control character"),
    ],
)
def test_a_silos_record(tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / "silo.json").write_text(content)
    with pytest.raises(BadInput, match=r"silo\.json") as caught:
        silo_status(tmp_path)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [DEEP, '{"a": 1}', '{"a": {}}', '{"a": {"node": 7}}', '{"a": {"node": "x"}}'])
def test_the_list_of_nodes(tmp_path: Path, content: str) -> None:
    (tmp_path / "nodes.json").write_text(content)
    with pytest.raises(BadInput, match=r"nodes\.json"):
        read_nodes(tmp_path / "nodes.json")


@pytest.mark.parametrize(
    "event",
    [
        {"event": "stage", "arguments": [1, None]},
        {"event": "stage", "arguments": ["a", "many"]},
        {"event": "at", "arguments": ["a", "b"]},
        {"event": "notes", "arguments": [[1]]},
        {"event": "notes", "arguments": ["a"]},
        {"event": "round", "arguments": [{"round": "a"}]},
        {"event": "end", "arguments": [{"seed": -1}]},
        {"event": "begin", "arguments": [{"folder": 1, "rounds": 1}]},
        {"event": "over", "folder": None, "error": 3},
        {"event": "process", "pid": 0},
    ],
)
def test_events(event: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match=r"^here: ") as caught:
        read_event(json.dumps(event).encode(), "here")
    assert "\n" not in str(caught.value)


def test_events_that_are_right() -> None:
    for event in (
        {"event": "stage", "arguments": ["a", None]},
        {"event": "at", "arguments": [3, ""]},
        {"event": "notes", "arguments": [["a", "b"]]},
        {"event": "round", "arguments": [{"round": 1, "losses": {"a": 1e300}}]},
        {"event": "phase", "arguments": [0, "training"]},
    ):
        assert read_event(json.dumps(event).encode(), "here") == event


@pytest.mark.parametrize("text", [DEEP, "{}", "[1]", '{"config": {}, "more": 1}', "1" + "0" * 400])
def test_a_job_that_is_none(text: str) -> None:
    with pytest.raises(BadInput, match="the job that was submitted cannot be read"):
        Job.read(text)
    job = Job({"seed": 1}, out="/a")
    assert Job.read(json.dumps(job.to_json())) == job
