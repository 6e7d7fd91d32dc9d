"""Tasks and modalities: their persistent names, and that nothing tells them apart by string literals."""

from __future__ import annotations

import ast
import json
import pickle
from collections.abc import Iterator

from fedloom.config import ClientsSettings
from fedloom.data.containers import CONTAINERS
from fedloom.seeding import stream_seed
from fedloom.tasks import CLIENT_TASKS, MODALITIES, TASKS, ClientTask, Modality
from sources import PACKAGE, trees

NAMES = {"image", "text", "pair", "joint", "audio"}
# Where one of these words is something else than a task or a modality.
ALLOWED = {
    "config/models.py": "the architecture `pair`",
    "config/clients.py": "the architecture `pair`",
    "config/server.py": "the architecture `pair`",
    "models/clients/build.py": "the architecture `pair`",
    "planning/client_models.py": "the architecture `pair`",
    "experiment/silo_offer.py": "the architecture `pair`",
    "experiment/checks.py": "the architecture `pair`",
    "scaffolding/columns.py": "names of columns in tables",
    "scaffolding/place.py": "names of columns in tables",
    "federation/codec.py": "kinds of message fields: `text`",
    "federation/header.py": "kinds of message fields: `text`",
    "federation/messages.py": "kinds of message fields: `text`",
    "data/datasets/crisismmd.py": "which column of labels is read",
    "data/datasets/audio_visual_digits.py": "names of arrays in a file",
}


def comparisons(tree: ast.AST) -> Iterator[ast.AST]:
    """Comparisons with one of the words, membership included, and `case` patterns."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            for side in (node.left, *node.comparators):
                parts = side.elts if isinstance(side, ast.Tuple | ast.List | ast.Set) else [side]
                if any(isinstance(p, ast.Constant) and p.value in NAMES for p in parts):
                    yield node
        elif isinstance(node, ast.MatchValue) and isinstance(node.value, ast.Constant) and node.value.value in NAMES:
            yield node


def test_no_dispatch_on_string_literals() -> None:
    found = {
        f"{path.relative_to(PACKAGE).as_posix()}:{node.lineno}"  # type: ignore[attr-defined]
        for path, tree in trees().items()
        if path.relative_to(PACKAGE).as_posix() not in ALLOWED
        for node in comparisons(tree)
    }
    assert not found, f"compare with fedloom.tasks.ClientTask or Modality: {sorted(found)}"


def test_persistent_names() -> None:
    assert [str(task) for task in CLIENT_TASKS] == ["image", "text", "pair", "joint"]
    assert [str(modality) for modality in MODALITIES] == ["audio", "image", "text"]
    assert f"{ClientTask.RETRIEVAL}-0 {Modality.AUDIO!r}" == "pair-0 'audio'"
    assert json.dumps({ClientTask.RETRIEVAL: Modality.TEXT}) == '{"pair": "text"}'
    assert pickle.loads(pickle.dumps(ClientTask.RETRIEVAL)) is ClientTask.RETRIEVAL
    assert stream_seed(0, "split", ClientTask.RETRIEVAL) == stream_seed(0, "split", "pair")


def test_tables_know_every_task() -> None:
    assert list(TASKS) == list(CONTAINERS) == list(CLIENT_TASKS)
    assert set(CLIENT_TASKS) <= set(ClientsSettings.model_fields)
