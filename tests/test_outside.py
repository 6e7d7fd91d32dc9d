"""The one measure of what comes from outside: nesting, size, numbers, characters; in JSON, in YAML, on the way out."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fedloom import strict_json
from fedloom.config import Config
from fedloom.config.trees import override, read_settings
from fedloom.config.yaml_core import YamlProblem, dump
from fedloom.config.yaml_core import parse as parse_yaml
from fedloom.errors import BadInput
from fedloom.outside import DEEPEST, escaped, problem, text_problem, too_deep
from fedloom.runs.disk import json_line, parse_object


def nested(levels: int) -> list[Any]:
    found: list[Any] = []
    for _ in range(levels - 1):
        found = [found]
    return found


def test_depth_is_counted_in_levels() -> None:
    assert not too_deep(nested(DEEPEST))
    assert too_deep(nested(DEEPEST + 1))
    assert too_deep({"a": nested(DEEPEST)})
    assert not too_deep("[" * 1000)
    loop: list[Any] = []
    loop.append(loop)
    assert too_deep(loop)


@pytest.mark.parametrize("text", ["a", "a\n\tb", "ü 🌼 \u200d", "\u2028"])
def test_texts_that_are_whole(text: str) -> None:
    assert text_problem(text) is None
    assert escaped(text) == text


@pytest.mark.parametrize("text", ["\0", "\r", "\x1b[2J", "\x7f", "\x85", "\ud800"])
def test_texts_that_are_not(text: str) -> None:
    assert text_problem(text) is not None
    for tree in ([text], {text: 1}, {"a": {"b": (text,)}}):
        assert problem(tree) is not None
    if text != "\ud800":
        assert text_problem(escaped(text)) is None


def test_a_file_name_that_is_not_utf8() -> None:
    assert text_problem("caf\udce9") is not None
    assert text_problem("caf\udce9", names=True) is None
    assert text_problem("caf\ud800", names=True) is not None
    assert strict_json.parse('"caf\\udce9"', halves=True) == "caf\udce9"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[" * 100_000, "nested too deeply, allowed: 64 levels"),
        ("[" * 500 + "]" * 500, "nested too deeply"),
        ('{"a":' * 65 + "1" + "}" * 65, "nested too deeply"),
        ("9" * 400, "too large a number"),
        ("-" + "9" * 5000, "too large a number"),
        ('"\\ud800"', "half a character"),
        ('"\\u001b[2J"', r"control character .*1b"),
        ('{"\\u0000": 1}', r"control character .*00"),
        ('"\x7f"', r"control character .*7f"),
        ('"a\\r"', "control character"),
        ("1" * 100, "100 bytes, allowed: 99"),
    ],
)
def test_json_that_is_refused(text: str, says: str) -> None:
    for finite in (True, False):
        with pytest.raises(ValueError, match=says) as caught:
            strict_json.parse(text, finite=finite, most=99 if "99" in says else 1 << 20)
        assert "\n" not in str(caught.value)
    if not set(text) <= {"1"}:
        with pytest.raises(BadInput, match=r"^here: not JSON"):
            parse_object(text.encode(), "here")


def test_json_that_looks_like_it() -> None:
    for value in ("\\b \\u001b", "a\nb\t", {"é": [[1.5, None, True]] * 40}, [{"a": [1]}] * 200, 10**300):
        assert strict_json.parse(json.dumps(value)) == value
    assert strict_json.parse('"\\u001b"', own=True) == "\x1b"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[" * 100_000, "too deeply|not YAML"),
        ("{a: " * 70 + "1" + "}" * 70, "too deeply"),
        ('a: "\\e[2J"', "control character"),
        ('"\\x07": 1', "control character"),
        ('a: "\\ud800"', "half a character|not YAML"),
        ("a: " + "9" * 400, "too many digits"),
    ],
)
def test_yaml_that_is_refused(text: str, says: str) -> None:
    with pytest.raises(YamlProblem, match=says) as caught:
        parse_yaml(text)
    assert "\n" not in str(caught.value)


def test_settings_from_any_side() -> None:
    for read in (
        lambda: override('data.root="a\\e"'),
        lambda: read_settings(Config, None, {"data": {"root": "a\x1b"}}),
        lambda: read_settings(Config, None, {"settings": {"a": nested(70)}}),
        lambda: read_settings(Config, None, {"settings": {"a": 10**400}}),
    ):
        with pytest.raises(BadInput):
            read()
    assert parse_yaml(dump({"a": "é\n\t", "b": float("inf")})) == {"a": "é\n\t", "b": float("inf")}


def test_what_is_written_can_be_read() -> None:
    row = {"a\x1b": "b\x9b\r", "c": "d\n\t", "caf": "\udce9"}
    found = parse_object(json_line(row).encode(errors="backslashreplace"), "here")
    assert found == {"a\\x1b": "b\\x9b\\x0d", "c": "d\n\t", "caf": "\udce9"}
