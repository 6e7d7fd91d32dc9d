"""A loaded data set kept as arrays, so that every process of a run reads it in milliseconds."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedloom.config import DataSettings
from fedloom.data.partition import Split, partition
from fedloom.data.registry import load_scene
from fedloom.data.scene import Generic, ImageSet, Modality, Samples, Scene, TextSet
from fedloom.errors import BadInput
from fedloom.randomness import stream_seed
from fedloom.runs.cache import cached

FORMAT = 12  # raise when a reader's result changes


def cached_scene(data: DataSettings) -> Scene:
    """The data set of `data`, read once. A folder's entry is renewed when any file's name, size or time changes."""
    key = {"name": data.name, "options": data.options, "format": FORMAT, "files": _listing(data.root)}
    return _load(
        cached("scene", key, lambda folder: _save(load_scene(data.name, data.root, **data.options), folder))
    )


def _listing(root: str | None) -> str | None:
    if root is None:
        return None
    base = Path(root).expanduser()
    digest = hashlib.sha256(str(base.resolve()).encode())
    for path in sorted(base.rglob("*")):
        if path.is_file():
            facts = path.stat()
            digest.update(f"{path.relative_to(base)} {facts.st_size} {facts.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def split_scene(scene: Scene, data: DataSettings, clients: int, modality: Modality, seed: int) -> Split:
    """The modality's training samples shared out among `clients`."""
    if modality not in scene.train:
        raise BadInput(
            f"{scene.name} has no {modality} samples for {clients} {modality} clients; set clients.{modality}=[]"
        )
    try:
        return partition(
            scene.train[modality].labels,
            clients,
            data.partition,
            alpha=data.alpha,
            classes_per_client=data.classes_per_client,
            minimum=data.minimum,
            seed=stream_seed(seed, "split", modality),  # modalities are split apart
        )
    except BadInput as error:
        raise BadInput(f"{modality} clients: {error}") from None


def _save(scene: Scene, folder: Path) -> None:
    arrays: dict[str, NDArray[Any]] = {}
    texts: dict[str, Any] = {}

    def put(name: str, samples: Samples) -> None:
        arrays[f"{name}.labels"] = samples.labels
        if isinstance(samples, ImageSet):
            arrays[f"{name}.images"] = samples.images
        else:
            texts[name] = samples.texts

    for part in ("train", "test"):
        for modality, samples in getattr(scene, part).items():
            put(f"{part}.{modality}", samples)
    if scene.reference is not None:
        put("reference", scene.reference)
    if scene.generic is not None:
        put("generic", ImageSet(scene.generic.images, scene.generic.labels))
        arrays["generic.names"], texts["generic"] = scene.generic.names, scene.generic.captions
        texts["generic texts"] = scene.generic.texts
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array, allow_pickle=False)
    facts = {"name": scene.name, "class_names": scene.class_names, "notes": dict(scene.notes), "texts": texts}
    (folder / "scene.json").write_text(json.dumps(facts, default=str))


def _load(folder: Path) -> Scene:
    facts = json.loads((folder / "scene.json").read_text())

    def array(name: str) -> NDArray[Any]:
        return np.load(folder / f"{name}.npy", allow_pickle=False)  # type: ignore[no-any-return]

    def get(name: str) -> Samples | None:
        if (folder / f"{name}.images.npy").exists():
            return ImageSet(array(f"{name}.images"), array(f"{name}.labels"))
        if name in facts["texts"]:
            return TextSet(tuple(facts["texts"][name]), array(f"{name}.labels"))
        return None

    sets: dict[str, dict[Modality, Samples]] = {}
    modalities: tuple[Modality, ...] = ("image", "text")
    for part in ("train", "test"):
        sets[part] = {m: s for m in modalities if (s := get(f"{part}.{m}")) is not None}
    generic, reference = get("generic"), get("reference")
    return Scene(
        facts["name"],
        tuple(facts["class_names"]),
        sets["train"],
        sets["test"],
        Generic(
            generic.images,
            tuple(facts["texts"]["generic"]),
            generic.labels,
            array("generic.names"),
            tuple(facts["texts"]["generic texts"]),
        )
        if isinstance(generic, ImageSet)
        else None,
        reference if isinstance(reference, ImageSet) else None,
        facts["notes"],
    )
