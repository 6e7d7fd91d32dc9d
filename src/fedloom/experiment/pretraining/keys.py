"""What a pretrained model depends on: names, fingerprints, and the keys under which the cache holds it."""

from __future__ import annotations

import functools
import hashlib
import time
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from fedloom.config import Config
from fedloom.config.models import ModelSettings
from fedloom.data.containers import FederatedDataset, ImageSet
from fedloom.errors import BadInput
from fedloom.registry import outside_code
from fedloom.tasks import ClientTask
from fedloom.weights import placed
from fedloom.weights.needs import GIVEN

FORMAT = 11  # raise when a change of code changes what pretraining gives

# What a folder of pretrained weights is read from: weights, configuration, vocabulary. Not its README, nor its logs.
_READ = frozenset({".safetensors", ".bin", ".npz", ".json", ".txt", ".model"})
_FRESH = 2 * 10**9  # nanoseconds
_version = functools.cache(metadata.version)  # which reads a file each time


# The settings that name a model in caches and random streams. One that is added later joins its list, and is left out
# of the key where it has its default: so no name changes.
_TRAINED = ("pretrained", "steps", "batch", "rate")
_MODEL = ("arch", "pretrained", "hidden", "layers", "heads", "patch", "width")
_FIELDS: Mapping[str, frozenset[str]] = {
    "model": frozenset({*_MODEL, "side", "tune", "rank", "unit", "stages", "fusion"}),
    "clip": frozenset({*_TRAINED, "hidden", "layers", "heads", "patch", "width"}),
    "scoring-clip": frozenset({*_TRAINED, "hidden", "layers", "heads", "patch", "width", "towers", "side"}),
    "captioner": frozenset({*_TRAINED, "hidden", "layers", "heads", "patch", "max_tokens"}),
    "retrieval": frozenset({"retrieve", "side"}),  # captioners that train nothing
    # How a generator is sampled does not change what it learns.
    "generator": frozenset(
        {*_TRAINED, "unshuffle", "channels", "layers", "heads", "prediction", "level_shift", "level_floor", "drop_text"}
        | {"latent", "glide", "autoencoder", "mirror"}
    ),
    "judge": frozenset({*_TRAINED, "precision", "channels", "tune", "side", "soften"}),
    "attributes": frozenset({*_TRAINED, "channels", "soften"}),
}


def model_key(model: ModelSettings) -> dict[str, Any]:
    """What a client's model is named by; settings that mean nothing to it are left out."""
    return model.model_dump(mode="json", include=set(_FIELDS["model"]))


def backbone_name(model: ModelSettings) -> str:
    """The asset that a model without pretrained weights starts from."""
    return "backbone-" + model.model_dump_json(include=set(_FIELDS["model"] - {"pretrained"}))


def real_pictures(scene: FederatedDataset) -> ImageSet:
    """What judge and scoring CLIP learn from: the scene's reference pictures, else the training pictures.

    Raises:
        BadInput: there are neither.
    """
    real = scene.reference or scene.train.get(ClientTask.IMAGE_CLASSIFICATION)
    if not isinstance(real, ImageSet):
        raise BadInput(f"{scene.name} has no pictures, so nothing can judge a generator")
    return real


def settings_of(config: Config, kind: str) -> Any:
    """The settings of an asset that is no backbone."""
    if kind == "scoring-clip":
        return config.evaluation.clip or config.server.clip
    return config.evaluation.judge if kind in ("judge", "attributes") else getattr(config.server, kind)


def asset_key(config: Config, scene: FederatedDataset, kind: str) -> dict[str, Any]:
    """Everything the model called `kind` depends on.

    Args:
        kind: "tokenizer", "clip", "generator", "captioner", "judge", "attributes", "scoring-clip", or
            what `backbone_name` gives.

    Raises:
        BadInput: the scene lacks what the model would learn from.
    """
    s = config.server
    base = {
        "kind": kind,
        "format": FORMAT,
        "seed": s.seed,
        "threads": config.engine.threads,
        "torch": _version("torch"),
    }
    if kind == "attributes":
        real = real_pictures(scene)
        shown = [part for name, a in scene.attributes.items() for part in ([name], a.values, a.labels)]
        settings = config.evaluation.judge.model_dump(mode="json", include=set(_FIELDS[kind]))
        return base | {"real": fingerprint(real.images), "shown": fingerprint(*shown), "settings": settings}
    if kind == "judge":
        real = real_pictures(scene)
        settings = config.evaluation.judge.model_dump(mode="json", include=set(_FIELDS[kind]))
        base |= {"real": fingerprint(real.images, real.labels), "settings": settings}
        if settings["pretrained"] is not None:  # it learns on the server's device, whose kind tells in the last bits
            settings["pretrained"] = weights_print(settings["pretrained"])
            base["device"] = s.device.partition(":")[0]
        return base
    if kind != "tokenizer" and not (kind.startswith("backbone-") and _reads(kind)):
        _check_pictures(scene)
    base |= {"generic": _generic_print(scene), "vocabulary": s.vocabulary, "tokens": s.tokens}
    if kind == "tokenizer":
        return base
    if kind.startswith("backbone-"):
        steps, code = config.public_steps, outside_code(_settings(kind).arch)
        return base | {"learner": kind, "classes": scene.classes, "steps": steps} | ({"code": code} if code else {})
    own = settings_of(config, kind)
    fields = _FIELDS["retrieval" if getattr(own, "retrieve", None) else kind]
    base["settings"] = settings = own.model_dump(mode="json", include=set(fields))
    for name in GIVEN:
        if settings.get(name) is not None:
            settings[name] = weights_print(settings[name])
    if kind == "scoring-clip":  # its tokenizer is the public one
        real = real_pictures(scene)
        return base | {"real": fingerprint(real.images, real.labels, scene.reference_captions)}
    return base | ({"clip": asset_key(config, scene, "clip")} if kind == "generator" else {})


def _reads(backbone: str) -> bool:
    """Whether a backbone is one of texts."""
    return _settings(backbone).text_tower is not None


def _settings(backbone: str) -> ModelSettings:
    """The model that `backbone_name` gave this name."""
    return ModelSettings.model_validate_json(backbone.removeprefix("backbone-"))


def _check_pictures(scene: FederatedDataset) -> None:
    """Raises BadInput where the generic part has no pictures; one that is not there at all is told by its print."""
    if scene.public is not None and not len(scene.public.images):
        raise BadInput(f"{scene.name} has no pictures to pretrain models of pictures on")


def fingerprint(*parts: Any) -> str:
    """A digest of arrays and texts."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):  # no copy is made: it may be all pictures
            digest.update(np.ascontiguousarray(part).reshape(-1).view(np.uint8).data)
        else:
            digest.update("\x1f".join(map(str, part)).encode())
        digest.update(b"\x1e")
    return digest.hexdigest()


def weights_print(pretrained: str) -> str:
    """A digest of what a model's `pretrained` is read from: names and bytes of files, wherever they lie.

    Args:
        pretrained: a folder (one of diffusers with its parts' folders), a MobileNet's NAME.npz (or NAME) with NAME.json
            beside it, a file (word vectors), or a hub name. A hub name has no files here: it stands for itself. "A+B",
            where that is no path: both.
    """
    folder, prefix = Path(placed(pretrained)), pretrained.removesuffix(".npz")
    if folder.is_dir():
        within = [folder]
        if (folder / "model_index.json").is_file():  # of diffusers, whose parts have folders of their own
            within += sorted(part for part in folder.iterdir() if part.is_dir() and part.name[:1] != ".")
        files = [file for part in within for file in sorted(part.iterdir()) if file.suffix in _READ and file.is_file()]
        return _prints((file.relative_to(folder).as_posix(), file) for file in files) or pretrained
    else:
        beside = dict.fromkeys((Path(f"{prefix}.npz"), Path(f"{prefix}.json"), folder))
        files = [file for file in beside if file.is_file()]
    if not files and pretrained.count("+") == 1:
        return "+".join(weights_print(part) if part else "" for part in pretrained.split("+"))
    return _prints((file.name, file) for file in files) or pretrained


def pretrained_weights(config: Mapping[str, Any]) -> dict[str, str]:
    """The `weights_print` of all weights that a configuration names, by the setting that names them.

    config: its tree, as `Config.model_dump` gives it.
    """
    found: dict[str, str] = {}

    def look(tree: Any, place: str) -> None:
        rows = tree.items() if isinstance(tree, Mapping) else enumerate(tree) if isinstance(tree, list) else ()
        for key, value in rows:
            where = f"{place}.{key}" if place else str(key)
            if key in (*GIVEN, "features") and isinstance(value, str):
                found[where] = weights_print(value)
            else:
                look(value, where)

    for part in ("server", "clients", "evaluation"):
        look(config.get(part), part)
    return found


def _prints(files: Iterable[tuple[str, Path]]) -> str:
    """A digest of files by name, "" of none."""
    found = [(name, _file_print(file)) for name, file in files]
    return fingerprint(*found) if found else ""


def _file_print(file: Path) -> str:
    """A digest of a file, of one that has not changed since only once: given weights are gigabytes."""
    facts = file.stat()
    stamp = (facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)
    if time.time_ns() - max(stamp[1:]) < _FRESH:
        return _digest(file)  # it may be written to again within what clocks tell apart
    return _known_digest(file.resolve(), stamp)


@functools.lru_cache(maxsize=4096)
def _known_digest(file: Path, stamp: tuple[int, ...]) -> str:
    return _digest(file)


def _digest(file: Path) -> str:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _generic_print(scene: FederatedDataset) -> str:
    g = scene.public
    if g is None:
        raise BadInput(
            f"{scene.name} has no public part to pretrain models on (its reader gives none, data.options.generic_share "
            "is 0, or no class has two samples). Give it one, or the models (`pretrained` of server.clip, "
            "server.captioner and the clients), or have clients begin with random weights (clients.public_steps=0)"
        )
    return fingerprint(
        g.images,
        g.captions,
        g.names,
        scene.class_names,
        *([g.texts] if g.texts else []),
        *([g.words] if g.words else []),
    )
