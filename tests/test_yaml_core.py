"""Settings in YAML: what a word means, what is refused, and that what is written reads back."""

from __future__ import annotations

import math

import pytest
import yaml

from fedloom.config.yaml_core import YamlProblem, dump, parse


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[no, yes, on, off, y, n, Yes, NO]", ["no", "yes", "on", "off", "y", "n", "Yes", "NO"]),
        ("[true, True, FALSE, false]", [True, True, False, False]),
        (
            "[12:30, 1:2:3, 1_000, 2024-05-01, 0b11, NA, =]",
            ["12:30", "1:2:3", "1_000", "2024-05-01", "0b11", "NA", "="],
        ),
        ("[012, 08, 0o14, 0x0c, +3, -3]", [12, 8, 12, 12, 3, -3]),
        ("[1e-3, 1E5, .5, 5., -2.5e+1]", [1e-3, 1e5, 0.5, 5.0, -25.0]),
        ("[1e, e1, ., 1.2.3, 0o8, 0x]", ["1e", "e1", ".", "1.2.3", "0o8", "0x"]),
        ("[null, ~, Null, NULL, '~', 'null']", [None] * 4 + ["~", "null"]),
        ("a:", {"a": None}),
        ("[.inf, -.inf]", [math.inf, -math.inf]),
        (
            "b: &b {x: 1}\nd: &d {<<: *b, x: 2}\nc: {<<: *d, x: 3}",
            {"b": {"x": 1}, "d": {"x": 2}, "c": {"x": 3}},
        ),
        ("", None),
        ("# nothing\n", None),
    ],
)
def test_the_core_schema(text, value):
    assert parse(text) == value
    assert str(parse(text)) == str(value)  # 1 == 1.0 == True


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: 1\nb: 2\na: 3", "the key 'a' is given twice, in line 1 and in line 3"),
        ("x:\n  b: 1\n  'b': 1", "the key 'b' is given twice, in line 2 and in line 3"),
        ("x: [{c: 1, d: 2,\n c: 3}]", "the key 'c' is given twice, in line 1 and in line 2"),
        ("<<: {a: 1}\n<<: {b: 1}", "the key '<<' is given twice"),
        ("1: 2", "line 1, column 1: the key '1', allowed: words"),
        ("true: 2", "the key 'true', allowed: words"),
        ("? [a]\n: 1", "a sequence as key, allowed: words"),
        ("a:\n\tb: 1", "line 2, column 1: not YAML, a tab; indent with spaces"),
        ("a: [1", "not YAML"),
        ("a: 'x", "not YAML"),
        ("a: %x", "line 1, column 4"),
        ("--- 1\n--- 2", "another document"),
        ("a: \x01", "line 1: the character '\\x01' is not allowed"),
        ("x: &a [*a]", "holds itself"),
        ("x: &a {b: {c: *a}}", "holds itself"),
        ("a: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
        ("a: !!set {b}", "could not determine a constructor"),
        ("a: !!int x", "'x' is no integer"),
        ("a: !!bool no", "'no' is no boolean"),
        ("a: " + "9" * 5000, "too many digits"),
        ("[" * 3000, "nest"),
        ("- " * 3000, "nest"),
        ("x" * 600_000, "allowed: 500000"),
    ],
)
def test_what_is_refused(text, told):
    with pytest.raises(YamlProblem) as raised:
        parse(text)
    assert told in str(raised.value)
    assert "\n" not in str(raised.value)


def test_aliases_that_grow_without_bound():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    with pytest.raises(YamlProblem, match="more than 100000 values, aliases written out"):
        parse("\n".join(lines))
    assert len(parse("\n".join(lines[:3]))["a2"]) == 9


def test_what_is_written_reads_back_by_both_schemas():
    words = [
        "no",
        "1e-3",
        "08",
        "0o7",
        "1_000",
        "12:30",
        "2020-01-01",
        "~",
        "",
        "null",
        "=",
        "<<",
        "a: b",
        "é",
        "0x1",
    ]
    value = {"words": words, "n": [True, None, 1e-5, 3, 1.0], "again": words, "two\nlines": "x\ny\t"}
    text = dump(value)
    assert "&" not in text
    assert parse(text) == yaml.safe_load(text) == value


def test_places():
    tree = parse("a: 1\nb:\n  c: 2\n", "mine.yaml")
    assert tree.places == {"a": "mine.yaml, line 1", "b": "mine.yaml, line 2"}
    assert tree["b"].places == {"c": "mine.yaml, line 3"}
    assert parse("a: 1").places == {}
