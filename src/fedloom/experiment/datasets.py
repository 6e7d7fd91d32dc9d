"""A loaded data set kept as arrays, so that every process of a run reads it in milliseconds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fedloom.config import DataSettings
from fedloom.data.containers import Attribute, ClientData, FederatedDataset, ImageSet, PublicData, TextSet
from fedloom.data.fingerprint import fingerprint
from fedloom.data.joint import MultimodalSamples, Part
from fedloom.data.pairs import ImageTextPairs
from fedloom.data.partition import Split, partition, partition_by_group, shards
from fedloom.data.registry import load_dataset
from fedloom.errors import BadInput
from fedloom.runs.cache import cached
from fedloom.runs.disk import plain
from fedloom.seeding import stream_seed
from fedloom.tasks import CLIENT_TASKS, MODALITIES, ClientTask

MAPPED = 1 << 20  # bytes of an array from which on it is mapped into memory
SHARDS = 200  # of pairs: FedAFD's number (Flickr30k, 145 000 of them)


def cached_dataset(data: DataSettings) -> FederatedDataset:
    """The data set of `data`, read once: again where any file of it is another, or its reader's code is."""
    options = plain(data.options)
    key = {
        "name": data.name,
        "root": data.root,
        "options": options,
        **fingerprint(data.name, data.root, options),
    }
    return _load(cached("scene", key, lambda folder: _save(load_dataset(data.name, data.root, **data.options), folder)))


@lru_cache(maxsize=1)
def shared_dataset(data: str, digest: str) -> FederatedDataset:
    """The data set of a run, read once for all its clients in this process.

    data: its settings as JSON. digest: of the data when the run began; those of another are read again.
    """
    return cached_dataset(DataSettings.model_validate_json(data))


_SPLITS: dict[tuple[Any, ...], Split] = {}


def split_scene(scene: FederatedDataset, data: DataSettings, clients: int, modality: ClientTask, seed: int) -> Split:
    """The modality's training samples shared out among `clients`: once in a process, for all that ask for their share.

    Pairs have no labels: pictures, each with all its captions, are dealt by `iid`, else in shards of neighbours.
    """
    key = scene.digest, data.model_dump_json(), clients, modality, seed
    if not scene.digest:  # made up on the spot
        return _shared_out(scene, data, clients, modality, seed)
    if key not in _SPLITS:
        _SPLITS[key] = _shared_out(scene, data, clients, modality, seed)
        while len(_SPLITS) > len(CLIENT_TASKS):
            del _SPLITS[next(iter(_SPLITS))]
    return _SPLITS[key]


def _shared_out(scene: FederatedDataset, data: DataSettings, clients: int, modality: ClientTask, seed: int) -> Split:
    modality = ClientTask(modality)
    if modality not in scene.train:
        hint = f"set clients.{modality}=[]"
        if set(scene.train) == {ClientTask.MULTIMODAL_CLASSIFICATION}:
            hint = "its samples are of two kinds at once: take the preset fedcmi, or set clients.joint in their place"
        raise BadInput(f"{scene.name} has no {modality.spec.samples} for {clients} {modality.spec.clients}; {hint}")
    stream = stream_seed(seed, "split", modality)  # modalities are split apart
    held = scene.train[modality]
    n = len(held)
    try:
        if isinstance(held, ImageTextPairs):
            if data.partition == "iid":
                return partition(np.zeros(n, dtype=np.int64), clients, "iid", minimum=data.minimum, seed=stream)
            pieces = max(clients, min(SHARDS, n // 2))  # of few pictures ours: shards of two or three
            return shards(n, clients, pieces, stream, data.minimum)
        grouped = partial(partition_by_group, groups=_groups(scene, "train", modality)) if data.by_group else None
        return (grouped or partition)(
            held.labels,
            clients,
            data.partition,
            alpha=data.alpha,
            classes_per_client=data.classes_per_client,
            minimum=data.minimum,
            seed=stream,
        )
    except BadInput as error:
        raise BadInput(f"{modality.spec.clients}: {error}") from None


def own_test(scene: FederatedDataset, data: DataSettings, modality: ClientTask, index: int) -> ClientData:
    """What client `index` of the modality is tested on: with `data.by_group` the test samples of its own group."""
    held = scene.test[modality]
    if not data.by_group:
        return held
    groups = _groups(scene, "test", modality)
    return held.subset(np.flatnonzero(groups.labels == index % len(groups.values)))


def test_groups(scene: FederatedDataset, data: DataSettings, modality: ClientTask) -> Attribute | None:
    """What groups the common test samples of the modality are of; None: of none or one, or clients hold one alone."""
    found = None if data.by_group else scene.groups.get("test", {}).get(modality)
    return found if found is not None and len(found.values) > 1 else None


def group_of(scene: FederatedDataset, data: DataSettings, modality: ClientTask, index: int) -> str | None:
    """The group that client `index` of the modality holds alone; None where clients hold all of them."""
    if not data.by_group:
        return None
    values = _groups(scene, "train", modality).values
    return values[index % len(values)]


def _groups(scene: FederatedDataset, part: str, modality: ClientTask) -> Attribute:
    found = scene.groups.get(part, {}).get(modality)
    if found is None:
        raise BadInput(f"data.by_group = true: {scene.name} has no groups of {modality.spec.samples}; allowed: false")
    return found


def _save(scene: FederatedDataset, folder: Path) -> None:
    groups = _named_groups(scene)
    arrays: dict[str, NDArray[Any]] = {name: group.labels for name, group in groups.items()}
    texts: dict[str, Any] = {name: group.values for name, group in groups.items()}

    def put(name: str, held: ClientData) -> None:
        if isinstance(held, ImageTextPairs):
            arrays[f"{name}.images"], arrays[f"{name}.owner"] = held.images, held.owner
            texts[name] = held.captions
            return
        arrays[f"{name}.labels"] = held.labels
        if isinstance(held, MultimodalSamples):
            for kind, part in held.parts.items():
                arrays[f"{name}.has {kind}"] = held.present[kind]
                if isinstance(part, tuple):
                    texts[f"{name}.{kind}"] = part
                else:
                    arrays[f"{name}.{kind}"] = part
            texts[f"{name}.ids"] = held.ids
        elif isinstance(held, ImageSet):
            arrays[f"{name}.images"] = held.images
        else:
            texts[name] = held.texts

    for part in ("train", "test"):
        for modality, held in getattr(scene, part).items():
            put(f"{part}.{modality}", held)
    if scene.public_test is not None:
        put("public test", scene.public_test)
    if scene.reference is not None:
        put("reference", scene.reference)
        texts["reference captions"] = scene.reference_captions
    if scene.public is not None:
        put("generic", ImageSet(scene.public.images, scene.public.names))
        texts["generic"], texts["generic texts"] = scene.public.captions, scene.public.texts
        texts["generic words"] = scene.public.words
    of_pictures = {f"attribute.{name}": attribute.labels for name, attribute in scene.attributes.items()}
    for name, array in {**arrays, **of_pictures}.items():
        np.save(folder / f"{name}.npy", array, allow_pickle=False)
    content = {
        "name": scene.name,
        "class_names": scene.class_names,
        "text_class_names": scene.text_class_names,
        "texts": texts,
        **({"also_named": dict(scene.also_named)} if scene.also_named else {}),  # absent, digests are as they were
    }
    values = {name: attribute.values for name, attribute in scene.attributes.items()}  # no part of the samples' digest
    facts = {**content, "notes": dict(scene.notes), "attributes": values, "digest": _digest(arrays, content)}
    (folder / "scene.json").write_text(json.dumps(facts, default=str))


def _named_groups(scene: FederatedDataset) -> dict[str, Attribute]:
    """The groups of all parts and tasks, by what they are kept as."""
    return {f"{part}.{task}.groups": group for part, own in scene.groups.items() for task, group in own.items()}


def _load_groups(folder: Path, texts: Mapping[str, Any]) -> dict[str, dict[ClientTask, Attribute]]:
    return {
        part: {
            task: Attribute(tuple(texts[name]), _array(folder, name))
            for task in CLIENT_TASKS
            if (name := f"{part}.{task}.groups") in texts
        }
        for part in ("train", "test")
    }


def _digest(arrays: dict[str, NDArray[Any]], content: dict[str, Any]) -> str:
    """What the samples are known by, wherever they were read from; notes, which name paths, are no part of it."""
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _array(folder: Path, name: str) -> NDArray[Any]:
    """Large ones stay on disk until somebody reads them; what is written to them is not."""
    path = folder / f"{name}.npy"
    mapped: Literal["c"] | None = "c" if path.stat().st_size > MAPPED else None
    return np.asarray(np.load(path, mmap_mode=mapped, allow_pickle=False))


def _load_multimodal(folder: Path, name: str, texts: Mapping[str, Any]) -> MultimodalSamples:
    """Arrays of real size outgrow memory: they stay on disk until a client takes its share."""

    def part(modality: str) -> Part:
        path = folder / f"{name}.{modality}.npy"
        if path.exists():
            return np.load(path, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]
        return tuple(texts[f"{name}.{modality}"])

    there = [m for m in MODALITIES if (folder / f"{name}.has {m}.npy").exists()]
    return MultimodalSamples(
        {m: part(m) for m in there},
        _array(folder, f"{name}.labels"),
        {m: _array(folder, f"{name}.has {m}") for m in there},
        tuple(texts[f"{name}.ids"]),
    )


def _load(folder: Path) -> FederatedDataset:
    facts = json.loads((folder / "scene.json").read_text())

    array = partial(_array, folder)

    def get(name: str) -> ClientData | None:
        if f"{name}.ids" in facts["texts"]:
            return _load_multimodal(folder, name, facts["texts"])
        if (folder / f"{name}.owner.npy").exists():
            return ImageTextPairs(array(f"{name}.images"), tuple(facts["texts"][name]), array(f"{name}.owner"))
        if (folder / f"{name}.images.npy").exists():
            return ImageSet(array(f"{name}.images"), array(f"{name}.labels"))
        if name in facts["texts"]:
            return TextSet(tuple(facts["texts"][name]), array(f"{name}.labels"))
        return None

    sets: dict[str, dict[ClientTask, ClientData]] = {}
    for part in ("train", "test"):
        sets[part] = {m: s for m in CLIENT_TASKS if (s := get(f"{part}.{m}")) is not None}
    generic, reference, public_test = get("generic"), get("reference"), get("public test")
    return FederatedDataset(
        facts["name"],
        tuple(facts["class_names"]),
        sets["train"],
        sets["test"],
        PublicData(
            generic.images,
            tuple(facts["texts"]["generic"]),
            generic.labels,
            tuple(facts["texts"]["generic texts"]),
            tuple(facts["texts"]["generic words"]),
        )
        if isinstance(generic, ImageSet)
        else None,
        reference if isinstance(reference, ImageSet) else None,
        tuple(facts["texts"].get("reference captions", ())),
        facts["notes"],
        tuple(facts["text_class_names"]),
        public_test if isinstance(public_test, ImageTextPairs) else None,
        facts["digest"],
        facts.get("also_named", {}),
        {
            name: Attribute(tuple(values), array(f"attribute.{name}"))
            for name, values in facts.get("attributes", {}).items()
        },
        _load_groups(folder, facts["texts"]),
    )
