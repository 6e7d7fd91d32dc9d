"""Which client models there are, and which task each can learn. Light: asks the registry, imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from fedloom.registry import CLIENT_MODELS
from fedloom.tasks import SINGLE_MODALITY, ClientTask, Modality

if TYPE_CHECKING:
    from fedloom.models.clients.spec import ClientModelSpec

PAIR = "pair"  # one model of images and texts under one head
PAIR_OF = ("vit", "bert")
AUTO = "auto"  # short for auto-image or auto-text, where a configuration says which


@lru_cache(maxsize=1024)
def spec_of(arch: str) -> ClientModelSpec:
    """What the architecture of one tower declares of itself. BadInput where there is none of that name."""
    spec: ClientModelSpec = CLIENT_MODELS.find(arch)
    return spec


def towers_of(arch: str) -> tuple[str, ...]:
    """The architectures of its towers: of "A+B" both."""
    return PAIR_OF if arch == PAIR else tuple(arch.split("+"))


def reads(arch: str) -> tuple[Modality, ...]:
    """What its towers read, in their order."""
    return tuple(spec_of(tower).modality for tower in towers_of(arch))


def reads_at_side(arch: str) -> bool:
    """Whether the setting `side` says at how many pixels that tower sees pictures."""
    spec = spec_of(arch)
    return spec.frozen or spec.sided


def is_dual(arch: str) -> bool:
    """Whether it is IMAGE+TEXT."""
    return arch != PAIR and reads(arch) == (Modality.IMAGE, Modality.TEXT)


def serves(arch: str, task: ClientTask | str) -> bool:
    """Whether clients of that task can have this model."""
    known = reads(arch)
    if task in SINGLE_MODALITY:
        return arch == PAIR or known == ClientTask(task).spec.reads
    if task == ClientTask.RETRIEVAL:
        return is_dual(arch)
    streams = len(known) == 2 and list(known) == sorted(set(known))  # in the order audio, image, text
    # The frames of a clip pass through the model in every round: there are no features to keep.
    return arch != PAIR and streams and not any(spec_of(tower).frozen for tower in towers_of(arch))


def archs(modality: Modality) -> list[str]:
    """The architectures of one modality."""
    return [name for name in CLIENT_MODELS.usable() if spec_of(name).modality == modality]


def allowed(task: ClientTask | str) -> str:
    """What `arch` may be for clients of that task, for messages."""
    images, texts = archs(Modality.IMAGE), archs(Modality.TEXT)
    if task in SINGLE_MODALITY:
        return ", ".join([*(images if task == ClientTask.IMAGE_CLASSIFICATION else texts), PAIR])
    two = f"IMAGE+TEXT of {', '.join(images)} and {', '.join(texts)}"
    if task == ClientTask.RETRIEVAL:
        return f"{images[0]}+{texts[0]}, {images[2]}+gru and every {two}"
    audio = archs(Modality.AUDIO)[0]
    return f"{audio}+{images[0]}, {audio}+{texts[0]} and every AUDIO+IMAGE, AUDIO+TEXT, {two}"


def canonical(arch: str) -> str:
    """`arch` as it stands in a configuration. ValueError where it is no model of one modality, pair, or A+B."""
    names = [CLIENT_MODELS.canonical(name) if CLIENT_MODELS.has(name) else "" for name in arch.split("+")]
    known = "" not in names and "+".join(names)
    if arch == PAIR or (known and any(serves(known, task) for task in ClientTask)):
        return known or PAIR
    close = ": say auto-image or auto-text" if AUTO in arch.split("+") else ""
    single = ", ".join([*archs(Modality.IMAGE), *archs(Modality.TEXT), PAIR])
    raise ValueError(
        f"allowed{close}: {single}, or IMAGE+TEXT, a dual encoder of two of them ('resnet+gru'); "
        "of multimodal clients also audio-resnet+IMAGE, audio-resnet+TEXT; or package.module:SPEC"
    )


def resolved(model: Any, task: ClientTask | str) -> Any:
    """Settings of a model as they are written, `arch: auto` replaced by auto-image or auto-text, as the task is."""
    if not isinstance(model, Mapping) or AUTO not in (parts := str(model.get("arch")).split("+")):
        return model
    own = ClientTask(task).spec.reads or (Modality.IMAGE, Modality.TEXT)
    if len(parts) != len(own):
        return model
    named = (f"{AUTO}-{modality}" if part == AUTO else part for part, modality in zip(parts, own))
    return {**model, "arch": "+".join(named)}


def check_installed(model: Any) -> Any:
    """`model`, settings from another machine. ValueError where its arch is not installed here: no code is imported."""
    arch = model.get("arch") if isinstance(model, Mapping) else getattr(model, "arch", None)
    for name in str(arch).split("+"):
        if ":" in name:
            CLIENT_MODELS.check_installed(name)
    return model
