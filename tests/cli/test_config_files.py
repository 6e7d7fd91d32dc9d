"""Configuration files as people have them: encodings, keys given twice, words that look like something else."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from fedloom.config import load_config
from fedloom.config.silo import SiloSettings
from fedloom.config.trees import read_settings
from fedloom.data.io.files import read_json
from fedloom.data.registry import load_dataset, loader_of
from fedloom.data.sizes import data_sizes
from fedloom.errors import BadInput


def refusal(**given) -> str:
    with pytest.raises(BadInput) as raised:
        load_config(**given)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ("rounds: 3\n".encode("utf-16"), "mine.yaml: not UTF-8 but UTF-16 text"),
        ("rounds: 3\n".encode("utf-16-le"), "mine.yaml: a NUL byte in line 1; it seems to be UTF-16"),
        ("rounds: 3\n".encode("utf-32"), "mine.yaml: not UTF-8 but UTF-32"),
        (
            "rounds: 3\ndata: {root: Café}\n".encode("latin-1"),
            "mine.yaml: not UTF-8 text at line 2, byte 26 (0xe9); it seems to be Windows-1252",
        ),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "mine.yaml: not a text file but a PNG picture"),
        (b"\x89HDF", "mine.yaml: not UTF-8 text at line 1, byte 0 (0x89)"),
        (
            b"rounds: 3\nseed: 1\nrounds: 4\n",
            "mine.yaml: the key 'rounds' is given twice, in line 1 and in line 3",
        ),
        (
            b"clients:\n  batch: 1\nclients.batch: 2\n",
            "the key 'clients.batch' is given twice, in line 2 and in line 3",
        ),
        (b"clients: 1\nclients.batch: 2\n", "the key 'clients' is given twice, in line 1 and in line 2"),
        (b"rounds: true", "mine.yaml, line 1: rounds = true: expected a number"),
        (
            b"clients:\n  image:\n  - {arch: vit, hidden: 16, heads: true}",
            "clients.image.0.heads = true: expected a",
        ),
        (b"[1, 2]", "mine.yaml: holds a list, expected keys and values"),
        (b"rounds:3", "mine.yaml: holds a text, expected keys and values"),
        (b"rounds:\n\t3", "mine.yaml, line 2, column 1: not YAML, a tab; indent with spaces"),
        (b"a..b: 3", "mine.yaml: the key 'a..b', expected words with dots between, such as clients.batch"),
        (b"seed: 1\nronds: 3", "mine.yaml, line 2: unknown key 'ronds'. Did you mean 'rounds'?"),
        (
            b"\nclients:\n  image:\n  - {arch: vit, hiden: 3}",
            "mine.yaml, line 4: unknown key 'clients.image.0.hiden'",
        ),
        (b"clients.bach: 3", "mine.yaml, line 1: unknown key 'clients.bach'. Did you mean 'clients.batch'?"),
        (
            b"clients: {augment: maybe}",
            "mine.yaml, line 1: clients.augment = 'maybe': expected true or false",
        ),
        (b"method: null", "mine.yaml, line 1: method = None: expected a word; in quotes it is one: 'null'"),
        (b"method: 012", "method = 12: expected a word; in quotes it is one: '12'"),
        (b"clients:\n  text: [{arch: vit}]", "mine.yaml: clients: 'vit' is no text model"),
    ],
)
def test_files_that_are_refused(tmp_path, data, told):
    file = tmp_path / "mine.yaml"
    file.write_bytes(data)
    assert told in refusal(file=file)


def test_a_byte_order_mark_and_other_line_ends_are_fine(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_bytes("\ufeffrounds: 3\r\ndata: {root: Café}\r\n".encode())
    config = load_config(file=file)
    assert (config.rounds, config.data.root) == (3, "Café")


def test_no_file(tmp_path):
    assert "Is a directory" in refusal(file=tmp_path)
    assert "more than 2000000 bytes" in refusal(file="/dev/zero")
    assert "null byte" in refusal(file="a\0b")


def test_a_named_pipe_is_read(tmp_path):
    """`--config <(command)`"""
    end, start = os.pipe()
    os.write(start, b"rounds: 3\n")
    os.close(start)
    assert load_config(file=f"/dev/fd/{end}").rounds == 3
    os.close(end)


def test_an_option_that_replaces_a_value_of_a_file_is_not_put_down_to_the_file(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("rounds: 3\n")
    assert refusal(file=file, overrides=("rounds=-1",)).startswith("rounds = -1")
    assert refusal(file=file, values={"rounds": -1}).startswith("rounds = -1")


@pytest.mark.parametrize(
    ("given", "value"),
    [
        ("[no, yes]", ["no", "yes"]),
        ("[on, off, y, n, NA]", ["on", "off", "y", "n", "NA"]),
        ("[12:30, 2024-05-01, 1_000]", ["12:30", "2024-05-01", "1_000"]),
        ("['null', \"~\", 'true']", ["null", "~", "true"]),
    ],
)
def test_class_names_that_look_like_something_else(tmp_path, given, value):
    """The same in a file and in --set."""
    file = tmp_path / "mine.yaml"
    file.write_text(f"data: {{name: folder, options: {{classes: {given}}}}}\n")
    for config in (load_config(file=file), load_config(overrides=(f"data.options.classes={given}",))):
        assert config.data.options["classes"] == value
    _, options = loader_of("folder", "x", config.data.options)
    assert options["classes"] == value


@pytest.mark.parametrize("word", ["null", "~", "true", "False"])
def test_class_names_that_are_none(word):
    config = load_config(overrides=(f"data.options.classes=[a, {word}]",))
    with pytest.raises(BadInput, match=r"data.options.classes.1 = .*in quotes it is one: '"):
        loader_of("folder", "x", config.data.options)


def test_numbers_may_be_class_names():
    assert loader_of("folder", "x", {"classes": [3, "four"]})[1] == {"classes": ["3", "four"]}


def test_truth_in_words():
    for word, value in (
        ("no", False),
        ("off", False),
        ("yes", True),
        ("on", True),
        ("true", True),
        ("0", False),
    ):
        assert load_config(overrides=(f"clients.augment={word}",)).clients.augment is value
        assert loader_of("ag_news", "x", {"cleaned": word})[1] == {"cleaned": value}
    assert "clients.augment = 'nope': expected true or false" in refusal(overrides=("clients.augment=nope",))
    with pytest.raises(BadInput, match=r"data.options.cleaned = 'nope': expected true or false"):
        load_dataset("ag_news", "x", cleaned="nope")


@pytest.mark.parametrize("nothing", ["", " ", "null", "~"])
def test_nothing_is_no_value_in_files_and_in_overrides(tmp_path, nothing):
    file = tmp_path / "mine.yaml"
    keys = ("engine.timeout", "data.root", "settings.a")
    file.write_text("".join(f"{key}: {nothing}\n" for key in keys))
    for config in (load_config(file=file), load_config(overrides=[f"{key}={nothing}" for key in keys])):
        assert (config.engine.timeout, config.data.root, config.settings) == (None, None, {"a": None})
    assert "rounds = None: expected an integer" in refusal(overrides=(f"rounds={nothing}",))


def test_an_empty_text_is_written_in_quotes():
    assert load_config(overrides=("settings.a=''",)).settings == {"a": ""}


def test_options_are_taken_by_their_kind():
    for value, said in (("large", "'large': expected a number"), (".inf", "inf: expected a finite number")):
        options = load_config(overrides=(f"data.options.confusion={value}",)).data.options
        with pytest.raises(BadInput, match=rf"data.options.confusion = {said}"):
            load_dataset("flora", **options)
    with pytest.raises(BadInput, match=r"data.options.size = 'large': expected an integer"):
        load_dataset("flora", size="large")
    config = load_config(overrides=("data.options.size='24'",))
    assert data_sizes(config.data).side == 24


def test_dotted_keys_are_groups(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("clients.batch: 16\nclients: {rate: 0.5}\nserver.clip.steps: 7\ndata.options.size: 24\n")
    overrides = ("clients={warm_steps: 3, text: []}", "server={generator.steps: 5}")
    config = load_config(file=file, values={"clients.decay": 0.25, "data": {"alpha": 2}}, overrides=overrides)
    c = config.clients
    assert (c.batch, c.rate, c.decay, c.warm_steps) == (16, 0.5, 0.25, 3)
    assert (config.server.clip.steps, config.server.generator.steps) == (7, 5)
    assert (config.data.options, config.data.alpha) == ({"size": 24}, 2)
    assert "'clients.batch' is given twice" in refusal(values={"clients.batch": 1, "clients": {"batch": 2}})
    assert "--set 'clients..batch=3': the key 'clients..batch'" in refusal(overrides=("clients..batch=3",))


def test_keys_of_readers_and_methods_keep_their_dots():
    config = load_config(values={"settings": {"a.b": 1}, "data": {"options": {"files": {"x.jpg": 1}}}})
    assert config.settings == {"a.b": 1}
    assert config.data.options == {"files": {"x.jpg": 1}}


def test_a_silos_file(tmp_path):
    file = tmp_path / "silo.yaml"
    text = "name: b\nmodality: image\nmodel.arch: resnet\ninsecure: no\n"
    file.write_text(text)
    silo = read_settings(SiloSettings, file, {})
    assert silo.model is not None
    assert (silo.model.arch, silo.insecure) == ("resnet", False)
    for more, told in (
        ("name: c\n", "'name' is given twice, in line 1 and in line 5"),
        ("sever: x\n", "silo.yaml, line 5"),
    ):
        file.write_text(text + more)
        with pytest.raises(BadInput, match=told):
            read_settings(SiloSettings, file, {})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"0": "a",\n "1": "b",\n "0": "c"}', "key '0' is given 2 times in one object (lines 1 and 3)"),
        ('{"a": {"x": 1, "x": 1}}', "key 'x' is given 2 times in one object (lines 1 and 1)"),
        ("[" * 100_000, "not JSON that can be read"),
    ],
)
def test_json_with_a_key_twice(tmp_path, text, told):
    (tmp_path / "labels.json").write_text(text)
    with pytest.raises(BadInput, match=re.escape(told)):
        read_json(tmp_path / "labels.json")


def test_by_the_command_line(cli, tmp_path):
    for data, told in (
        (b"rounds: 1\nrounds: 2\n", "the key 'rounds' is given twice, in line 1 and in line 2"),
        ("rounds: 1\n".encode("utf-16"), "not UTF-8 but UTF-16 text"),
    ):
        Path("mine.yaml").write_bytes(data)
        for command in ("run", "partition", "submit", "compare"):
            shown = cli(command, "--config", "mine.yaml", *(["--methods", "fedmd"] if command == "compare" else []))
            assert (shown.code, shown.out, shown.err.count("\n")) == (2, "", 1), (command, shown.err)
            assert told in shown.err, command
        shown = cli("silo", "up", "--config", "mine.yaml")
        assert shown.code == 2
        assert told in shown.err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine.yaml"]


def test_a_pipe_that_nobody_writes_to_is_not_waited_for(tmp_path):
    file = tmp_path / "mine.yaml"
    os.mkfifo(file)
    with pytest.raises(BadInput, match=r"mine\.yaml: expected a file, this is a pipe"):
        load_config(file=file)


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        ("ro\x07unds=3", "expected words with dots between before the ="),
        ("\nrounds=3", "expected words with dots between before the ="),
        ("settings.gamma=\x1c", "is no YAML value"),
        ("- " * 90_000, "...': expected key=value"),
        ("rounds=true", "rounds = true: expected a number"),
        ("clients.devices=cuda", "clients.devices = 'cuda': expected a list, in brackets, such as [a, b]"),
        ("clients.image={arch: vit}", "clients.image = {'arch': 'vit'}: expected a list, in brackets"),
        ("data=flora", "data = 'flora': expected keys and values, such as {name: value}"),
    ],
)
def test_overrides_that_are_none(argument, told):
    with pytest.raises(BadInput) as error:
        load_config(overrides=(argument,))
    assert told in str(error.value)
    assert len(str(error.value)) < 500
    assert "\n" not in str(error.value)
