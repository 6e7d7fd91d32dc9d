"""Several data sets as one: pictures of one, texts of another, pairs of a third, and a public set of pairs.

This is the setting of CreamFL and FedAFD: CIFAR-100 at image clients, AG News at text clients, Flickr30k at image-text
clients, MS-COCO in public. Each part is read by the reader of its set; here they are only put side by side.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fedloom.data.containers import ClientData, FederatedDataset, PublicData, TextSet
from fedloom.data.pairs import ImageTextPairs, Pairs, Part
from fedloom.data.public_split import stratified
from fedloom.data.registry import DATASETS, PAIR_SETS, Dataset, load_dataset, load_pairs
from fedloom.errors import BadInput
from fedloom.seeding import numpy_stream
from fedloom.tasks import CLIENT_TASKS, SINGLE_MODALITY, ClientTask

Which = Mapping[str, Any]


def load(
    image: Which | None = None,
    text: Which | None = None,
    pair: Which | None = None,
    public: Which | None = None,
    size: int = 32,
    public_pairs: int | None = None,
    text_share: float = 0.3,
    seed: int = 0,
) -> FederatedDataset:
    """Read the parts, each a mapping of `name`, `root` if it reads a folder, and its reader's options; join them.

    Args:
        image, text: data sets, all of whose training samples are the clients'. Each keeps its own label space.
        pair, public: sets of captioned pictures, of retrieval clients; of the server, for all its clients: required.
        size: side of all pictures in pixels.
        public_pairs: P, so many (picture, caption) entries, drawn once from the public training part; None: all.
        text_share: share of every class's training texts that is public instead: for vocabulary and text backbones.
        seed: of the draws, and of the readers that are given none.

    Returns:
        The data set. Its public part has the drawn entries, in file order, a picture again for each of its captions,
        labels all 0. public_test, and `test` of the pairs, are the sets' test parts, else their val parts.

    Raises:
        BadInput: no public set, an unknown set or option, an option out of range, or what the readers find.
    """
    if not 0 <= text_share < 1:
        raise BadInput(f"text_share={text_share}, allowed: 0 up to, not including, 1")
    if public is None:
        raise BadInput("mixed: no public set; set public.name and public.root to a set of pairs")
    asked = {task: wanted for task, wanted in zip(SINGLE_MODALITY, (image, text)) if wanted is not None}
    read = {task: _read_dataset(task, wanted, size, seed) for task, wanted in asked.items()}
    pairs = None if pair is None else _read_pairs("pair", pair, size, seed)
    train, test, public_texts = _client_parts(read, pairs, text_share, seed)
    names = [own.names_of(task) for task, own in read.items()]
    shared = _read_pairs("public", public, size, seed)
    parts: list[tuple[str, Any]] = [*read.items(), *([("pair", pairs)] if pairs else []), ("public", shared)]
    return FederatedDataset(
        "mixed",
        names[0] if names else (),
        train,
        test,
        _public_part(shared["train"], public_pairs, public_texts, seed),
        notes={part: own.notes for part, own in parts},
        text_class_names=names[1] if len(names) == 2 else (),
        public_test=shared[_held_out(shared)],
        also_named=next(iter(read.values())).also_named if read else {},
    )


def _client_parts(
    read: Mapping[ClientTask, FederatedDataset], pairs: Pairs | None, text_share: float, seed: int
) -> tuple[dict[ClientTask, ClientData], dict[ClientTask, ClientData], tuple[str, ...]]:
    """The training and test parts of the clients, and the texts that are public."""
    train: dict[ClientTask, ClientData] = {task: own.labelled("train", task) for task, own in read.items()}
    test: dict[ClientTask, ClientData] = {task: own.labelled("test", task) for task, own in read.items()}
    if pairs is not None:
        train[ClientTask.RETRIEVAL], test[ClientTask.RETRIEVAL] = pairs["train"], pairs[_held_out(pairs)]
    texts = train.get(ClientTask.TEXT_CLASSIFICATION)
    if not isinstance(texts, TextSet):
        return train, test, ()
    taken, rest = stratified(texts.labels, text_share, numpy_stream(seed, "public texts"))
    train[ClientTask.TEXT_CLASSIFICATION] = texts.subset(rest)
    return train, test, texts.subset(taken).texts


def _asked(part: str, wanted: Which, allowed: Mapping[str, Any]) -> tuple[str, str | None, dict[str, Any]]:
    """Name, root and options of a part's mapping."""
    if not isinstance(wanted, Mapping) or not isinstance(wanted.get("name"), str):
        raise BadInput(
            f"mixed: {part}={wanted!r}, expected a mapping with `name`, one of: {', '.join(sorted(allowed))}"
        )
    options = {key: value for key, value in wanted.items() if key not in ("name", "root")}
    if "size" in options:
        raise BadInput(f"mixed: {part}.size={options['size']!r}, but all pictures have one size; set size")
    return wanted["name"], wanted.get("root"), options


def _read_dataset(task: ClientTask, wanted: Which, size: int, seed: int) -> FederatedDataset:
    """The data set of a part, all its training samples at the clients."""
    sets = {name: info for name, info in DATASETS.items() if name != "mixed" and task in info.tasks}
    name, root, options = _asked(task, wanted, sets)
    known = DATASETS.get(name)
    if known is not None and (name == "mixed" or task not in known.tasks):
        raise BadInput(f"mixed: {task}.name={name!r} has no {task}s, allowed: {', '.join(sorted(sets))}")
    defaults = {"size": size, "generic_share": 0.0, "seed": seed}
    own = {key: value for key, value in defaults.items() if known is not None and key in known.options}
    try:
        return load_dataset(name, root, **(own | options))
    except BadInput as error:
        raise BadInput(f"mixed: {task}: {error}") from None


def _read_pairs(part: str, wanted: Which, size: int, seed: int) -> Pairs:
    name, root, options = _asked(part, wanted, PAIR_SETS)
    try:
        return load_pairs(name, root, **({"size": size, "seed": seed} | options))
    except BadInput as error:
        raise BadInput(f"mixed: {part}: {error}") from None


def _held_out(pairs: Pairs) -> Part:
    return "test" if "test" in pairs.parts else "val"


def _public_part(pairs: ImageTextPairs, count: int | None, texts: tuple[str, ...], seed: int) -> PublicData:
    """`count` of the (picture, caption) entries, in order; all of them for None."""
    M = len(pairs.captions)
    if count is not None and not 1 <= count <= M:
        raise BadInput(f"public_pairs={count}, allowed: 1 to {M}, the captions of the public set, or none for all")
    drawn = np.sort(numpy_stream(seed, "public pairs").permutation(M)[:count])
    nothing = np.zeros(len(drawn), dtype=np.int64)
    captions = tuple(pairs.captions[i] for i in drawn.tolist())
    return PublicData(pairs.images[pairs.owner[drawn]], captions, nothing, texts)


DATASET = Dataset(
    name="mixed",
    summary="several data sets as one: pictures of one, texts of another, pairs of a third, a public set of pairs",
    load=load,
    tasks=(ClientTask.IMAGE_CLASSIFICATION, ClientTask.TEXT_CLASSIFICATION, ClientTask.RETRIEVAL),
    source="the sets named by its options",
    licence="those of its parts",
    find_tasks=lambda root, options: tuple(task for task in CLIENT_TASKS if options.get(task)),
)
