"""How each asset is built: one function a kind, each of which fills a folder of the cache."""

from __future__ import annotations

import functools
import string
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedloom.config import Config
from fedloom.config.models import ModelSettings
from fedloom.data.containers import FederatedDataset
from fedloom.errors import FedloomError
from fedloom.experiment.pretraining.keys import asset_key, real_pictures, settings_of
from fedloom.experiment.pretraining.ready import ready
from fedloom.runs.cache import cache_root, cached, digest_of
from fedloom.tasks import ClientTask

Tick = Callable[[], None]  # called after each training step
Samples = tuple[NDArray[np.uint8], Sequence[str], NDArray[np.int64]]  # pictures, captions, and a class each


def asset(
    config: Config, scene: FederatedDataset, kind: str, tick: Tick | None = None, end: float | None = None
) -> Path:
    """The folder of the asset `kind`: the user's own weights, else the package's, else from the cache, else built now.

    One whose building was ended goes on where it was, but for the last minute.

    Args:
        kind: as for `asset_key`, but not the tokenizer.
        tick: called after each training step.
        end: when to stop training, as `time.monotonic` has it.

    Raises:
        OutOfTime: `end` has come before CLIP, captioner or generator was trained; its state is kept.
    """
    if (own := _own_weights(config, kind)) is not None:
        return Path(own)
    family, key = kind.partition("-")[0], asset_key(config, scene, kind)
    if (packed := _packed(config, family, key)) is not None:
        return packed
    from fedloom.models.unfinished import Unfinished, kept_in

    make = functools.partial(_backbone, kind) if family == "backbone" else _BUILD[kind]
    state = cache_root() / "unfinished" / f"{family}-{digest_of(key)[:32]}.pt"

    def build(folder: Path) -> None:
        with kept_in(Unfinished(state, end)):
            make(config, scene, folder, tick)

    return cached(family, key, build)


def present(config: Config, scene: FederatedDataset, kind: str) -> bool:
    """Whether the asset is there already (building nothing)."""

    class _Absent(FedloomError):
        pass

    def absent(folder: Path) -> None:
        raise _Absent(str(folder))

    if _own_weights(config, kind) is not None:
        return True
    family, key = kind.partition("-")[0], asset_key(config, scene, kind)
    if _packed(config, family, key) is not None:
        return True
    try:
        cached(family, key, absent)
    except _Absent:
        return False
    return True


def _own_weights(config: Config, kind: str) -> str | None:
    """The folder or hub name that the configuration gives for `kind`."""
    if kind == "scoring-clip":
        return settings_of(config, kind).pretrained  # type: ignore[no-any-return]
    return getattr(getattr(config.server, kind, None), "pretrained", None)


def _packed(config: Config, family: str, key: Mapping[str, Any]) -> Path | None:
    """The folder of an asset that comes with the package, unless the configuration has all trained here."""
    return None if config.server.retrain else ready(family, key)


LETTERS = (string.ascii_lowercase + string.digits, " ".join(string.punctuation))


def tokenizer_folder(config: Config, scene: FederatedDataset) -> Path:
    """The folder of the public tokenizer, trained on the generic part's captions and texts, and the prompts.

    Where there is no generic part nobody may read anything: then words are spelled in letters.
    """
    from fedloom.models.clients.text import train_tokenizer

    generic, s = scene.public, config.server

    def build(folder: Path) -> None:
        captions, texts = (generic.captions, generic.texts) if generic else ((), LETTERS)
        corpus = [*captions, *scene.prompts, *(generic.words if generic else ())] * 2
        train_tokenizer([*corpus, *texts], s.vocabulary, s.tokens).save_pretrained(folder)

    spelled = {"prompts": scene.prompts, "letters": LETTERS, "sizes": [s.vocabulary, s.tokens]}
    key = asset_key(config, scene, "tokenizer") if generic else spelled
    return _packed(config, "tokenizer", key) or cached("tokenizer", key, build)


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer saved in `folder`."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast.from_pretrained(folder)


def _clip(config: Config, scene: FederatedDataset, folder: Path, tick: Tick | None) -> None:
    """The server's: on the public part, by the names that the public gives its pictures."""
    g = scene.public
    assert g is not None
    _learn_clip("clip", config, scene, folder, (g.images, g.captions, g.names), tick)


def _scoring_clip(config: Config, scene: FederatedDataset, folder: Path, tick: Tick | None) -> None:
    """The one that scores: on real pictures that nobody else sees, by their true names."""
    real = real_pictures(scene)
    said = scene.reference_captions if real is scene.reference else ()
    samples, s, seed = (real.images, said, real.labels), settings_of(config, "scoring-clip"), config.server.seed
    if s.towers is None:
        return _learn_clip("scoring-clip", config, scene, folder, samples, tick)
    from fedloom.models.evaluators.frozen_towers import build_towers, pretrain_towers
    from fedloom.seeding import global_torch_stream

    with global_torch_stream(seed, "scoring-clip", "weights"):
        towers = build_towers(s)
    pretrain_towers(towers, samples, scene.prompts, s, seed, tick)
    towers.save(folder)


def _learn_clip(
    kind: str, config: Config, scene: FederatedDataset, folder: Path, samples: Samples, tick: Tick | None
) -> None:
    from fedloom.models.evaluators.clip import build_clip, pretrain_clip
    from fedloom.seeding import global_torch_stream

    s, seed, images = settings_of(config, kind), config.server.seed, samples[0]
    with global_torch_stream(seed, kind, "weights"):
        clip = build_clip(s, load_tokenizer(tokenizer_folder(config, scene)), images.shape[1])
    pretrain_clip(clip, samples, scene.prompts, s, seed, tick)
    clip.save(folder)


def _generator(config: Config, scene: FederatedDataset, folder: Path, tick: Tick | None) -> None:
    from fedloom.models.evaluators.clip import load_clip
    from fedloom.models.generators.pixel import build_generator, pretrain_generator
    from fedloom.seeding import global_torch_stream

    assert scene.public is not None
    s, seed = config.server.generator, config.server.seed
    clip = load_clip(asset(config, scene, "clip"))
    with global_torch_stream(seed, "generator", "weights"):
        generator = build_generator(s, clip, scene.public.images.shape[1], config.clients.width)
    pretrain_generator(generator, scene.public, scene.prompts, s, seed, tick)
    generator.save(folder)


def _captioner(config: Config, scene: FederatedDataset, folder: Path, tick: Tick | None) -> None:
    from fedloom.models.device import device_of
    from fedloom.models.evaluators.captioner import build_captioner, pretrain_captioner
    from fedloom.models.evaluators.retrieval_captioner import build_retrieval
    from fedloom.seeding import global_torch_stream

    assert scene.public is not None
    s, seed = config.server.captioner, config.server.seed
    if s.retrieve is not None:
        return build_retrieval(s, scene.public, device_of(config.server.device)).save(folder)
    with global_torch_stream(seed, "captioner", "weights"):
        captioner = build_captioner(s, load_tokenizer(tokenizer_folder(config, scene)), scene.public.images.shape[1])
    pretrain_captioner(captioner, scene.public, s, seed, tick)
    captioner.save(folder)


def _judge(config: Config, scene: FederatedDataset, folder: Path, tick: Tick | None) -> None:
    from safetensors.torch import save_file

    from fedloom.models.device import CPU, device_of
    from fedloom.models.evaluators.judge import train_judge

    s = config.evaluation.judge
    device = device_of(config.server.device) if s.pretrained else CPU
    judge = train_judge(s, real_pictures(scene), scene.classes, config.server.seed, tick, device)
    save_file({k: v.cpu().contiguous() for k, v in judge.state_dict().items()}, folder / "judge.safetensors")


def _attributes(config: Config, scene: FederatedDataset, folder: Path, tick: Tick | None) -> None:
    from safetensors.torch import save_file

    from fedloom.models.evaluators.attribute_judge import train_attribute_judge

    settings, real = config.evaluation.judge, real_pictures(scene)
    judge = train_attribute_judge(settings, real.images, scene.attributes, config.server.seed, tick)
    save_file({k: v.contiguous() for k, v in judge.state_dict().items()}, folder / "attributes.safetensors")


def _backbone(name: str, config: Config, scene: FederatedDataset, folder: Path, tick: Tick | None) -> None:
    from safetensors.torch import save_file

    from fedloom.models.clients.backbone import pretrain_backbone
    from fedloom.models.clients.build import build_client_model
    from fedloom.seeding import global_torch_stream

    assert scene.public is not None
    settings = ModelSettings.model_validate_json(name.removeprefix("backbone-"))
    tokenizer, seed = load_tokenizer(tokenizer_folder(config, scene)), config.server.seed
    size = scene.public.images.shape[1]
    with global_torch_stream(seed, name, "weights"):
        model = build_client_model(settings, classes=scene.classes, image_size=size, tokenizer=tokenizer)
    pretrain_backbone(
        model,
        ClientTask.TEXT_CLASSIFICATION if settings.text_tower else ClientTask.IMAGE_CLASSIFICATION,
        tokenizer,
        scene.public,
        steps=config.public_steps,
        batch=64,
        rate=2e-3,
        seed=seed,
        tick=tick,
    )
    body = {k: v.contiguous() for k, v in model.state_dict().items() if not k.startswith("head.")}
    save_file(body, folder / "backbone.safetensors")


_BUILD: dict[str, Callable[[Config, FederatedDataset, Path, Tick | None], None]] = {
    "clip": _clip,
    "generator": _generator,
    "captioner": _captioner,
    "judge": _judge,
    "attributes": _attributes,
    "scoring-clip": _scoring_clip,
}
