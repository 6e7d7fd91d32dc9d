"""What the server offers its silos: names and numbers that a client is built from, never code. Light to import."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field, field_validator

from fedloom import __version__
from fedloom.config import ClientsSettings, Config
from fedloom.config.archs import allowed, check_installed, serves, towers_of
from fedloom.config.models import Frozen, ModelSettings
from fedloom.config.privacy import PrivacyPlan
from fedloom.config.silo import SiloSettings
from fedloom.config.sizes import check_sizes
from fedloom.config.trees import validate
from fedloom.data.joint import MultimodalSamples
from fedloom.errors import LONGEST, BadInput
from fedloom.experiment.clients import server_settings
from fedloom.experiment.datasets import cached_dataset
from fedloom.experiment.private import privacy_plan
from fedloom.experiment.silo_data import class_positions
from fedloom.federation.engines.silo.gate import BEYOND
from fedloom.federation.messages import BoundBreach
from fedloom.registry import METHODS
from fedloom.tasks import SINGLE_MODALITY, ClientTask, Modality

if TYPE_CHECKING:
    from fedloom.methods.base import Method

AT_THE_SILO = "(at the silo)"  # said to the server in place of a path


class Training(Frozen):
    """How clients train on their own data; see `config.ClientsSettings`."""

    batch: int = Field(ge=1)
    rate: float = Field(gt=0)
    decay: float = Field(ge=0)
    augment: bool
    warm_steps: int = Field(ge=0)
    optimizer: Literal["adamw", "sgd"] = "adamw"
    momentum: float = Field(0.9, ge=0, lt=1)
    clip: float | None = Field(1.0, gt=0)


class JointOffer(Frozen):
    """What a run's multimodal clients have in common: what they share are parameters.

    sounds: F bands and T steps of a spectrogram, None where there are no sounds. How many frames a clip has is free:
    they are averaged.
    """

    model: ModelSettings
    streams: tuple[Modality, Modality]
    sounds: tuple[int, int] | None = None

    @field_validator("model", mode="before")
    @classmethod
    def _here(cls, value: Any) -> Any:
        return check_installed(value)

    @field_validator("model")
    @classmethod
    def _own_weights(cls, value: ModelSettings) -> ModelSettings:
        if not serves(value.arch, task := ClientTask.MULTIMODAL_CLASSIFICATION):
            raise ValueError(f"{value.arch!r} is no {task} model, allowed: {allowed(task)}")
        if value.pretrained != at_the_silo(value.arch, value.pretrained):
            raise ValueError("a silo loads no weights of the server's naming")
        return value


class Offer(Frozen):
    """What a silo's client needs to know of a run. image_size: side of the run's pictures in pixels, 0: it has none."""

    version: str = Field(description="of the server's fedloom")
    method: str
    settings: dict[str, Any]
    seed: int = Field(ge=0)
    width: int = Field(ge=2, description="d, the representation width of all clients")
    class_names: tuple[str, ...] = Field(min_length=1)
    text_class_names: tuple[str, ...] = Field((), description="of texts; empty: the same as of pictures")
    image_size: int = Field(ge=0)
    tokens: int = Field(ge=4, description="longest text in tokens where a tokenizer knows no limit")
    training: Training
    unit: bool = Field(False, description="whether the method needs representations of unit length")
    fold: int | None = Field(None, ge=2, description="see `config.EvaluationSettings`")
    server: dict[ClientTask, ModelSettings] = Field(
        default_factory=dict, description="the server's models, where a method sends them to clients"
    )
    privacy: PrivacyPlan | None = Field(
        None, exclude_if=lambda plan: plan is None, description="how clients are private; None: they are not"
    )
    joint: JointOffer | None = Field(None, description="what multimodal clients share; None: the run has none")

    @field_validator("method")
    @classmethod
    def _installed(cls, value: str) -> str:
        return METHODS.check_installed(value)

    @field_validator("server", mode="before")
    @classmethod
    def _here(cls, value: Any) -> Any:
        for model in value.values() if isinstance(value, dict) else ():
            check_installed(model)
        return value

    @field_validator("server")
    @classmethod
    def _sizes_only(cls, value: dict[ClientTask, ModelSettings]) -> dict[ClientTask, ModelSettings]:
        if any(model.pretrained for model in value.values()):
            raise ValueError("a silo loads no weights of the server's naming, allowed for pretrained: null")
        return value

    def names_of(self, modality: ClientTask) -> tuple[str, ...]:
        """The class names of a modality; pairs have none."""
        if modality == ClientTask.RETRIEVAL:
            return ()
        return (modality == ClientTask.TEXT_CLASSIFICATION and self.text_class_names) or self.class_names

    def streams_of(self, modality: ClientTask) -> tuple[Modality, ...]:
        """The two kinds of data of multimodal samples; of another modality none."""
        return self.joint.streams if modality == ClientTask.MULTIMODAL_CLASSIFICATION and self.joint is not None else ()


def check_bounds(offer: dict[str, Any], *, silo: dict[str, Any]) -> None:
    """Raises BoundBreach for an `Offer` of more than the bounds in `SiloSettings` allow; BadInput for what is none."""
    own: SiloSettings = validate(SiloSettings, silo, "silo")
    bounds, method = own.bounds, str(offer.get("method"))[:LONGEST]
    if bounds.methods is not None and method not in bounds.methods:
        allowed = ", ".join(bounds.methods) or "none"
        raise BoundBreach(f"{BEYOND}the run's method is {method!r}; bounds.methods = {allowed}")
    run: Offer = validate(Offer, offer, "offer")
    if run.training.batch < bounds.batch:
        raise BoundBreach(f"{BEYOND}the run's private batch is {run.training.batch}; bounds.batch = {bounds.batch}")
    if bounds.epsilon is not None and (run.privacy is None or (run.privacy.epsilon or float("inf")) > bounds.epsilon):
        asked = "none" if run.privacy is None or run.privacy.epsilon is None else f"{run.privacy.epsilon:g}"
        raise BoundBreach(f"{BEYOND}the run's epsilon is {asked}; bounds.epsilon = {bounds.epsilon:g}")
    for model in (*run.server.values(), *([run.joint.model] if run.joint else [])):
        try:
            check_sizes(model, float("inf") if bounds.parameters is None else bounds.parameters)
        except BadInput as error:
            raise BoundBreach(f"{BEYOND}{error}; bounds.parameters = {bounds.parameters}") from None


def make_offer(
    config: Config, class_names: Sequence[str], image_size: int, text_class_names: Sequence[str] = ()
) -> dict[str, Any]:
    """The `Offer` of a run, ready for JSON.

    Args:
        config: of the run, its settings already fitted to the modalities that have joined.
        class_names: C names.
        image_size: side of the run's pictures in pixels, 0 where it has none.
        text_class_names: of texts, where they have a label space of their own.

    Raises:
        BadInput: an unknown method, a wrong setting, class names that silos could not tell apart, or see
            `server_models` and `joint_offer`.
    """
    from fedloom.methods.base import load_method

    class_positions(class_names)
    class_positions(text_class_names)
    method, fixed = load_method(config.method)
    settings = validate(method.settings, {**config.settings, **fixed}, "settings")
    return Offer(
        version=__version__,
        method=config.method,
        settings=settings.model_dump(mode="json"),
        seed=config.seed,
        width=config.clients.width,
        class_names=tuple(class_names),
        text_class_names=tuple(text_class_names),
        image_size=image_size,
        tokens=config.clients.tokens or config.server.tokens,
        training=Training(**config.clients.training(), warm_steps=config.clients.warm_steps),
        unit=unit_demanded(method, settings),
        fold=config.evaluation.fold,
        server=server_models(config),
        privacy=privacy_plan(config, method, settings),
        joint=joint_offer(config),
    ).model_dump(mode="json")


def at_the_silo(arch: Any, pretrained: Any) -> str | None:
    """What stands for a silo's own weights at the server: of a model of two, one word for each that has some."""
    if not pretrained:
        return None
    if not isinstance(arch, str) or len(towers_of(arch)) == 1:
        return AT_THE_SILO
    return "+".join(AT_THE_SILO if part else "" for part in str(pretrained).split("+", 2))


def unit_demanded(method: Method, settings: Any) -> bool:
    """Whether clients of pictures or texts must have representations of unit length, whatever is configured."""
    return method.models(settings, ClientsSettings()).groups[0].unit


def check_part(method: str, modality: ClientTask) -> None:
    """Raises BadInput where the method has no part for clients of that modality."""
    from fedloom.methods.base import load_method

    kind, _ = load_method(method)
    if modality not in kind.tasks:
        only = {t.spec.clients for t in kind.tasks}
        lacking = f"is for {only.pop()} only" if len(only) == 1 else f"has no part for {modality.spec.clients}"
        raise BadInput(f"modality = {modality!r}: {method} {lacking}")


def server_models(config: Config) -> dict[ClientTask, ModelSettings]:
    """The server's models that clients are sent, by modality; none where the method sends none.

    Raises:
        BadInput: there is nothing to build one like, or it starts from weights that a silo does not have.
    """
    from fedloom.methods.base import load_method

    if "server" not in load_method(config.method)[0].client_uses:
        return {}
    kinds: tuple[ClientTask, ...] = SINGLE_MODALITY
    found = {m: server_settings(config, m) for m in kinds}
    for m, model in found.items():
        if model.pretrained:
            raise BadInput(
                f"{config.method} sends the server's {m} model to the silos, and they cannot rebuild one that "
                f"starts from weights of its own (pretrained = {model.pretrained!r}): set server.{m} to a model "
                "without pretrained"
            )
    return found


def joint_offer(config: Config) -> JointOffer | None:
    """What the run's multimodal clients have in common: their model, and samples like the server's; None: it has none.

    Raises:
        BadInput: the server's data set has no multimodal samples, so that nobody knows what the silos' are to be like.
    """
    if not config.clients.joint:
        return None
    scene, model = cached_dataset(config.data), config.clients.models(ClientTask.MULTIMODAL_CLASSIFICATION)[0]
    like = next((s for s in (*scene.train.values(), *scene.test.values()) if isinstance(s, MultimodalSamples)), None)
    if like is None:
        raise BadInput(f"data.name = {scene.name!r} has no multimodal samples, and there are multimodal clients")
    audio = like.parts.get(Modality.AUDIO)
    return JointOffer(
        model=model.model_copy(update={"pretrained": at_the_silo(model.arch, model.pretrained)}),
        streams=like.modalities,
        sounds=(audio.shape[1], audio.shape[2]) if isinstance(audio, np.ndarray) else None,
    )


def joint_model(own: ModelSettings | None, run: ModelSettings) -> ModelSettings:
    """The model of a multimodal silo: its own, which must be the run's, or the run's where it names none.

    Weights to start from are files of each silo's, of the run's streams that start from some.

    Raises:
        BadInput: it is another model, or it lacks those weights.
    """
    if own is None:
        if run.pretrained:
            raise BadInput(
                "model = None: the run's multimodal clients start from weights: name them in model.pretrained"
            )
        return run
    for key in ModelSettings.model_fields:
        mine, wanted = (getattr(x, key) for x in (own, run))
        if key == "pretrained":
            mine, wanted = (at_the_silo(x.arch, x.pretrained) for x in (own, run))
        if mine != wanted:
            raise BadInput(
                f"model.{key} = {mine!r}, allowed: {wanted!r}, as of all the run's multimodal clients "
                "(or leave out `model`)"
            )
    return own
