"""Fetching from a hub on this machine: what is asked for, what is verified, what survives being stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import namedtuple

import pytest

from fedloom.errors import BadInput, FedloomError
from fedloom.weights import hub_arguments, placed
from fedloom.weights.catalogue import File, Source, source_of, sources
from fedloom.weights.fetch import check_room, fetch, needed_bytes, remaining, target_of
from fedloom.weights.hub import NoConnection
from fedloom.weights.lock import faults, revision_of
from fedloom.weights.order import order_of
from fedloom.weights.place import LOCK, MARK
from tiny_hub import COMMIT, NAME, bring, sha256

CHUNK = 10 << 20  # bytes that huggingface_hub reads at a time
WANTED = {"config.json", "vocab.txt", "model.safetensors"}


def test_a_repository_is_fetched_verified_and_sealed(hub, root):
    assert placed(NAME) == NAME
    target = bring(root)
    assert placed(NAME) == str(target.folder)
    assert {p.name for p in target.folder.iterdir()} == WANTED | {LOCK}
    lock = json.loads((target.folder / LOCK).read_text())
    assert (lock["name"], lock["revision"], revision_of(target.folder)) == (NAME, COMMIT, COMMIT)
    assert lock["files"] == {
        path: {"bytes": len(hub.repos[NAME][path]), "sha256": sha256(hub.repos[NAME][path])} for path in WANTED
    }
    assert faults(target.source, target.folder) == []
    asked = len(hub.asked)
    bring(root)
    assert len(hub.asked) == asked, "a second call asks nothing"


def test_what_was_fetched_loads_offline(hub, root, tmp_path, monkeypatch):
    import torch
    from transformers import AutoModel, BertConfig, BertModel

    sizes = {"num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8, "vocab_size": 12}
    model = BertModel(BertConfig(hidden_size=8, **sizes))
    model.save_pretrained(tmp_path / "made")
    hub.repos[NAME] = {p.name: p.read_bytes() for p in (tmp_path / "made").iterdir()}
    bring(root)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    loaded = AutoModel.from_pretrained(placed(NAME), **hub_arguments(NAME))
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name


def test_a_transfer_that_keeps_breaking_keeps_what_is_there(hub, root, monkeypatch):
    monkeypatch.setattr("fedloom.weights.hub.RETRY_WAITS", ())
    hub.cut["model.safetensors"] = 700_000
    hub.dead.add("model.safetensors")
    with pytest.raises(NoConnection, match="What is there is kept"):
        bring(root)
    target = target_of(source_of(NAME), root)
    assert target.state == "unfinished"
    assert placed(NAME) == NAME
    assert remaining(target, order_of(target.source, target.folder)) == 1_280_000 - 700_000
    hub.dead.clear()
    bring(root)
    assert target.state == "ready"


def test_a_killed_fetch_goes_on_in_the_next_call(hub, root):
    hub.repos[NAME]["model.safetensors"] = bytes(range(256)) * 100_000
    hub.stall["model.safetensors"] = 2 * CHUNK + 700_000
    part = root / NAME / "model.safetensors.incomplete"
    command = [sys.executable, "-m", "fedloom.cli", "fetch", NAME, "--yes"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    deadline = time.monotonic() + 600
    while not (part.is_file() and part.stat().st_size == 2 * CHUNK):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    target = target_of(source_of(NAME), root)
    assert target.state == "unfinished"
    hub.asked.clear()
    bring(root)
    assert target.state == "ready"
    assert faults(target.source, target.folder) == []
    assert not [path for path, *_ in hub.asked if path.startswith("/api/")], "the order was kept"
    assert [(p.rsplit("/", 1)[1], r) for p, r, _ in hub.asked if p.startswith("/cdn")] == [
        ("model.safetensors", f"bytes={2 * CHUNK}-")
    ]
    assert sum("config.json" in path for path, *_ in hub.asked) == 0


@pytest.mark.parametrize("path", ["model.safetensors", "vocab.txt"])
def test_a_damaged_file_is_loaded_again(hub, root, path):
    wrong = bytearray(hub.repos[NAME][path])
    wrong[3] ^= 1
    hub.swapped = [(path, bytes(wrong))]
    assert faults(source_of(NAME), bring(root).folder) == []
    assert sum(asked.endswith(path) for asked in hub.contents()) in (2, 4)  # large files: twice two hosts


def test_a_file_that_stays_wrong_is_not_kept(hub, root):
    wrong = b"x" * len(hub.repos[NAME]["model.safetensors"])
    hub.swapped = [("model.safetensors", wrong)] * 2
    with pytest.raises(FedloomError, match=r"model\.safetensors: what came is damaged or another file: its sha256"):
        bring(root)
    folder = root / NAME
    assert not list(folder.glob("model.safetensors*"))
    assert placed(NAME) == NAME


def test_the_catalogues_digest_binds(hub, root):
    data = hub.repos[NAME]["model.safetensors"]
    names = (File("config.json"), File("model.safetensors", len(data), "0" * 64))
    with pytest.raises(FedloomError, match=r"the hub says .* fedloom's catalogue 0000"):
        bring(root, Source(NAME, revision=COMMIT, files=names))
    right = (names[0], File("model.safetensors", len(data), sha256(data)))
    target = bring(root, Source(NAME, revision=COMMIT, files=right))
    assert {p.name for p in target.folder.iterdir()} == {"config.json", "model.safetensors", LOCK}
    assert f"/tiny/bert/resolve/{COMMIT}/model.safetensors" in hub.contents()


def test_a_file_that_the_hub_lacks(hub, root):
    with pytest.raises(FedloomError, match=r"tiny/bert at main: the hub lists no vocab\.json"):
        bring(root, Source(NAME, files=(File("config.json"), File("vocab.json"))))


def test_pickled_weights_where_there_are_no_others(hub, root):
    del hub.repos[NAME]["model.safetensors"]
    folder = bring(root).folder
    assert {p.name for p in folder.iterdir()} == {"config.json", "vocab.txt", "pytorch_model.bin", LOCK}


def test_parts_of_a_pipeline_that_is_not_catalogued(hub, root):
    unet = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.fp16.safetensors")
    paths = ("model_index.json", "v1.safetensors", "unet/config.json", *(f"unet/{name}" for name in unet))
    more = (
        "vae/diffusion_pytorch_model.bin",
        "safety_checker/model.safetensors",
        "a/b/c.json",
        "../out.json",
    )
    hub.repos[NAME] = dict.fromkeys((*paths, *more), b"{}")
    folder = bring(root).folder
    found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    vae = "vae/diffusion_pytorch_model.bin"
    assert found == {"model_index.json", "unet/config.json", f"unet/{unet[0]}", vae, LOCK}


def test_an_order_holds_what_the_hub_lists(hub, root):
    order = order_of(source_of(NAME), root / NAME)
    assert order.revision == COMMIT
    assert {file.path: file.bytes for file in order.files} == {p: len(hub.repos[NAME][p]) for p in WANTED}
    digests = {file.path: file.sha256 for file in order.files}
    assert digests == dict.fromkeys(WANTED) | {"model.safetensors": sha256(hub.repos[NAME]["model.safetensors"])}
    assert all((file.blob is None) == (file.sha256 is not None) for file in order.files)


def test_a_folder_of_the_former_format_is_continued(hub, root):
    """Marks of earlier versions: the same keys."""
    data = hub.repos[NAME]["config.json"]
    piece = {"path": "config.json", "url": f"{hub.url}/{NAME}/resolve/{COMMIT}/config.json", "bytes": len(data)}
    (root / NAME).mkdir(parents=True)
    mark = {"name": NAME, "revision": COMMIT, "pieces": [piece | {"sha256": sha256(data), "blob": None}]}
    (root / NAME / MARK).write_text(json.dumps(mark))
    assert {p.name for p in bring(root).folder.iterdir()} == {"config.json", LOCK}


@pytest.mark.parametrize(
    ("code", "reason", "message"),
    [
        (401, "RepoNotFound", r"access is refused \(401\)\. There may be no such repository, .* hf auth login"),
        (403, "GatedRepo", r"access is refused \(403\)\. .* its terms must be accepted on its page first"),
        (404, "RevisionNotFound", "the server answers 404 Not Found"),
    ],
)
@pytest.mark.parametrize("what", [NAME, "model.safetensors"])
def test_what_the_hub_refuses_is_one_line(hub, root, what, code, reason, message):
    hub.refused[what] = (code, reason)
    with pytest.raises(FedloomError, match=f"^{hub.url}/tiny/bert.*: {message}") as caught:
        bring(root)
    assert "\n" not in str(caught.value)


def test_an_answer_that_is_no_listing(hub, root, monkeypatch):
    monkeypatch.setattr(type(hub), "listing", lambda self, name: ["no", "listing"])
    with pytest.raises(FedloomError, match=r"tiny/bert: http.* did not answer with a list of files"):
        bring(root)


def test_no_connection(hub, root):
    hub.stop()
    with pytest.raises(NoConnection, match=r"no connection to 127\.0\.0\.1"):
        bring(root)
    assert not (root / NAME).exists()


def test_offline_the_hub_is_not_asked(hub, root, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(NoConnection, match="HF_HUB_OFFLINE"):
        bring(root)
    assert hub.asked == []


def test_what_is_on_no_hub(hub, root):
    with pytest.raises(FedloomError, match=r"no/such.*404"):
        bring(root, source_of("no/such"))
    with pytest.raises(BadInput, match="no hub name"):
        bring(root, source_of("../up"))
    hub.repos["tiny/empty"] = {"README.md": b"", "config.json": b"{}"}
    with pytest.raises(FedloomError, match="no weights that can be loaded"):
        bring(root, source_of("tiny/empty"))


def test_no_room(hub, root, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(10, 9, 1_200_000))
    target = target_of(source_of(NAME), root)
    wanted = needed_bytes(target, order_of(target.source, target.folder))
    assert wanted == sum(len(hub.repos[NAME][path]) for path in WANTED)
    with pytest.raises(
        FedloomError,
        match=r"1\.28 MB are needed, 1\.2 MB are free\. Make room, or choose another folder with --to",
    ):
        check_room(root, wanted)


def test_a_folder_that_cannot_be_written_is_one_line(hub, root):
    (root / "tiny" / ".bert.lock").mkdir(parents=True)
    with pytest.raises(FedloomError, match=r"^cannot write .*tiny/bert: Is a directory\.$"):
        bring(root)


def test_a_check_finds_what_was_changed(hub, root):
    folder = bring(root).folder
    (folder / "model.safetensors").write_bytes(b"y" * 1_280_000)
    (folder / "vocab.txt").unlink()
    found = faults(source_of(NAME), folder)
    assert found == [
        "model.safetensors is damaged or another file: its sha256 differs",
        "vocab.txt is missing",
    ]
    (folder / LOCK).write_text("{")
    assert faults(source_of(NAME), folder) == [f"its {LOCK} is damaged"]


def test_weights_placed_by_hand_are_left_alone(hub, root):
    folder = root / "google-bert" / "bert-base-uncased"
    folder.mkdir(parents=True)
    for path in ("config.json", "model.safetensors"):
        (folder / path).write_bytes(b"mine")
    source = sources()["google-bert/bert-base-uncased"]
    bring(root, source)
    assert hub.asked == []
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert faults(source, folder) == ["model.safetensors has 4 bytes, not 440449768"]


def test_two_at_once_load_once(hub, root):
    order = order_of(source_of(NAME), root / NAME)
    target = target_of(source_of(NAME), root)
    threads = [threading.Thread(target=fetch, args=(target, order)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert target.state == "ready"
    assert sum(path.startswith("/cdn") for path, *_ in hub.asked) == 1
