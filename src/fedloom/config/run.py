"""The whole configuration of a run as validated types: YAML file, preset and `--set key=value` all end here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from fedloom.config.corruption import Corruption
from fedloom.data.tasks import CLIENT_TASKS, ClientTask
from fedloom.errors import check_list, unknown
from fedloom.config.base import Precision
from fedloom.config.models import (
    DUAL_ARCHS,
    IMAGE_ARCHS,
    JOINT_ARCHS,
    TEXT_ARCHS,
    CaptionerSettings,
    ClipSettings,
    Frozen,
    GeneratorSettings,
    JudgeSettings,
    ModelSettings,
)
from fedloom.config.trees import merged, nested, override, read_tree, validate

OWN_TRAINING = ("optimizer", "rate", "decay")  # what a group of clients may say for itself
_OF_GROUP = {"count", "name", *OWN_TRAINING}  # what is no part of its model
ARCHS: dict[ClientTask, tuple[str, ...]] = {
    "image": IMAGE_ARCHS,
    "text": TEXT_ARCHS,
    "pair": DUAL_ARCHS,
    "joint": JOINT_ARCHS,
}


class DataSettings(Frozen):
    """Which data set, and how its training part is split among the clients."""

    name: str = "flora"
    root: str | None = Field(None, description="folder of a data set that is not embedded")
    options: dict[str, Any] = Field(
        default_factory=dict, description="what the data set's reader takes besides"
    )
    partition: Literal["iid", "dirichlet", "pathological"] = "dirichlet"
    alpha: float = Field(0.5, gt=0, description="Dirichlet concentration; small is skewed")
    classes_per_client: int = Field(2, ge=1, description="for the pathological split")
    minimum: int = Field(8, ge=1, description="fewest samples of a client")
    multi_ratio: float = Field(
        1.0,
        ge=0,
        le=1,
        description="share of the joint clients that hold both kinds of data; of the rest half hold the first kind "
        "only, half the second",
    )
    corruption: Corruption = Corruption()


MOST_CLIENTS = 10_000  # of one group: a slip of the finger must not fill the memory with settings


class ClientGroup(ModelSettings):
    """`count` clients of one model."""

    count: int = Field(1, ge=1, le=MOST_CLIENTS)
    name: str | None = Field(None, description="of the one client of this group; default MODALITY-NUMBER")
    optimizer: Literal["adamw", "sgd"] | None = Field(None, description="of this group; null: the clients'")
    rate: float | None = Field(None, gt=0, description="its rate; null: the clients'")
    decay: float | None = Field(None, ge=0, description="its weight decay; null: the clients'")

    @model_validator(mode="after")
    def _one_bearer(self) -> ClientGroup:
        if self.name is not None and self.count != 1:
            raise ValueError(f"{self.count} clients cannot all be called {self.name!r}")
        return self

    @model_serializer(mode="wrap")
    def _telling(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """As a learner's, and without a training of its own where it has none."""
        fields = super()._telling(dump)
        return {k: v for k, v in fields.items() if v is not None or k not in OWN_TRAINING}


class ClientsSettings(Frozen):
    """The clients' models and their local training."""

    image: tuple[ClientGroup, ...] = (
        ClientGroup(arch="vit", count=2, patch=6),
        ClientGroup(arch="beit", count=2, hidden=48, patch=6),
    )
    text: tuple[ClientGroup, ...] = (
        ClientGroup(arch="bert", count=2),
        ClientGroup(arch="distilbert", count=2, hidden=48),
    )
    pair: tuple[ClientGroup, ...] = Field(
        (), description="clients of pictures with captions (retrieval): arch IMAGE+TEXT, such as resnet+gru"
    )
    joint: tuple[ClientGroup, ...] = Field(
        (),
        description="clients whose samples have two kinds of data and one label, all of one model: arch AUDIO+IMAGE, "
        "AUDIO+TEXT or IMAGE+TEXT, such as audio-resnet+resnet",
    )
    public_steps: int = Field(
        500,
        ge=0,
        description="steps in which random backbones learn from the generic part, once; 0: stay random",
    )
    warm_steps: int = Field(150, ge=0, description="private steps before round 1 (E_0 of FedMMKT)")
    batch: int = Field(32, ge=1)
    optimizer: Literal["adamw", "sgd"] = "adamw"
    momentum: float = Field(0.9, ge=0, lt=1, description="of sgd")
    rate: float = Field(2e-3, gt=0, description="the optimiser's rate")
    decay: float = Field(0.01, ge=0)
    clip: float | None = Field(1.0, gt=0, description="largest norm of a step's gradient; null: any")
    augment: bool = Field(
        True,
        description="shift, flip and noise private pictures in training; drop words of texts; of joint samples also "
        "move sounds in time",
    )
    devices: tuple[str, ...] = Field(
        ("cpu",),
        min_length=1,
        description="where the clients' backbones live, as torch names devices; dealt out to the clients in turn",
    )
    precision: Precision = Field(
        "fp32", description="arithmetic of the backbones; weights stay fp32, and fp16 scales the loss"
    )
    accumulate: int = Field(
        1, ge=1, description="parts a batch is computed in, one after the other: less memory, the same step"
    )
    checkpointing: bool = Field(
        False, description="compute the backbones' activations twice instead of keeping them"
    )

    @model_validator(mode="after")
    def _modalities(self) -> ClientsSettings:
        for modality in CLIENT_TASKS:
            allowed = ARCHS[modality]
            for group in getattr(self, modality):
                if group.arch not in allowed:
                    raise ValueError(f"{group.arch!r} is no {modality} model, allowed: {', '.join(allowed)}")
        if not self.groups:
            raise ValueError("there is no client")
        unlike = {g.model_dump_json(exclude=_OF_GROUP) for g in self.joint}
        if len(unlike) > 1:
            raise ValueError(
                f"joint clients need one model, {len(unlike)} given: what they share are parameters"
            )
        if any(g.unit for g in self.joint):
            raise ValueError("joint: unit = True: fusion heads read features as they are, allowed: False")
        if len({g.width for g in self.groups}) > 1:
            raise ValueError("all clients need one representation width (`width`)")
        names = [name for modality in CLIENT_TASKS for name in self.names(modality)]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two clients are called {twice[0]!r}")
        return self

    @property
    def groups(self) -> tuple[ClientGroup, ...]:
        """All groups: of pictures, of texts, of pairs, of joint samples."""
        return (*self.image, *self.text, *self.pair, *self.joint)

    def training(self, name: str | None = None) -> dict[str, Any]:
        """How a client trains, by the names that `methods.site.Site` takes; name: of one whose group may differ."""
        keys = ("batch", "rate", "decay", "augment", "optimizer", "momentum", "clip")
        common = {key: getattr(self, key) for key in keys}
        bearers = {n: g for m in CLIENT_TASKS for n, g in zip(self.names(m), self._each(m))}
        own = {key: getattr(bearers.get(name or ""), key, None) for key in OWN_TRAINING}
        return common | {key: value for key, value in own.items() if value is not None}

    def optimizers(self) -> tuple[str, ...]:
        """The optimisers that any of them has, each once."""
        return tuple(dict.fromkeys(group.optimizer or self.optimizer for group in self.groups))

    def _each(self, modality: str) -> list[ClientGroup]:
        """The group of each client of that modality, in order."""
        groups: Sequence[ClientGroup] = getattr(self, modality)
        return [g for g in groups for _ in range(g.count)]

    def arithmetic(self) -> dict[str, Any]:
        """How it computes what it trains, likewise. At a real silo the silo decides."""
        return {key: getattr(self, key) for key in ("precision", "accumulate", "checkpointing")}

    def unit(self) -> ClientsSettings:
        """The same clients, with representations of unit length."""
        groups = {
            m: tuple(g.model_copy(update={"unit": True}) for g in getattr(self, m)) for m in ("image", "text")
        }
        return self.model_copy(update=groups)

    def alike(self, tune: str, rank: int = 8) -> ClientsSettings:
        """The same clients, all with one model of both modalities, as large as the first one's (arch "pair")."""
        first = (*self.image, *self.text)[0]
        common = {"arch": "pair", "tune": tune, "rank": rank}
        if first.arch not in ("vit", "bert", "pair"):  # another architecture's weights are of no use
            common["pretrained"] = None
        elif first.arch != "pair" and first.pretrained:
            texts = [g.pretrained for g in self.text if g.arch == "bert" and g.pretrained]
            images = [g.pretrained for g in self.image if g.arch == "vit" and g.pretrained]
            common["pretrained"] = f"{images[0]}+{texts[0]}" if images and texts else None
        groups = {
            m: tuple(
                ClientGroup(
                    **{
                        **first.model_dump(exclude=_OF_GROUP),
                        **common,
                        "count": g.count,
                        "name": g.name,
                    }
                )
                for g in getattr(self, m)
            )
            for m in ("image", "text")
        }
        return self.model_copy(update=groups)

    def names(self, modality: str) -> list[str]:
        """One name a client of that modality, in order."""
        names = [g.name for g in self._each(modality)]
        return [name or f"{modality}-{i}" for i, name in enumerate(names)]

    def everyone(self) -> dict[str, ClientTask]:
        """All clients by name, each with its modality: whoever counts or names them starts here."""
        return {name: modality for modality in CLIENT_TASKS for name in self.names(modality)}

    def learners(self, modality: str) -> list[ModelSettings]:
        """One entry a client of that modality, in order."""
        return [ModelSettings(**g.model_dump(exclude=_OF_GROUP)) for g in self._each(modality)]

    @property
    def width(self) -> int:
        """d, the common representation width."""
        return self.groups[0].width


class ServerSettings(Frozen):
    """The server's models. Pretrained once on the generic part of the data, or loaded."""

    device: str = Field(
        "cpu",
        description="where they live, as torch names it: cpu, cuda, cuda:1, mps; the embedded ones learn on a CPU",
    )
    precision: Precision = Field(
        "fp32",
        description="arithmetic of generator and captioner. Weights that are trained, a VAE and what scores stay fp32; "
        "with fp16 the generator only draws",
    )
    image: ModelSettings | None = Field(
        None,
        description="the server's own picture model, where a method has one; null: as the largest client's",
    )
    text: ModelSettings | None = Field(
        None, description="its own text model; null: as the largest client's"
    )
    public_steps: int = Field(
        0,
        ge=0,
        description="steps in which the server's own models learn from the generic part, where clients start from "
        "random weights (clients.public_steps = 0)",
    )
    vocabulary: int = Field(1000, ge=16, description="entries of the public word-piece vocabulary")
    tokens: int = Field(24, ge=4, description="longest text in tokens")
    clip: ClipSettings = ClipSettings()
    captioner: CaptionerSettings = CaptionerSettings()
    generator: GeneratorSettings = GeneratorSettings()
    seed: int = Field(
        0, ge=0, description="seed of the pretraining; runs with other seeds share the server's models"
    )

    @model_validator(mode="after")
    def _archs(self) -> ServerSettings:
        for modality, allowed in (("image", IMAGE_ARCHS), ("text", TEXT_ARCHS)):
            own, single = getattr(self, modality), [arch for arch in allowed if arch != "pair"]
            if own is not None and own.arch not in single:
                raise ValueError(f"{own.arch!r} is no {modality} model, allowed: {', '.join(single)}")
        return self


class EvaluationSettings(Frozen):
    """How a run is scored."""

    judge: JudgeSettings = JudgeSettings()
    fold: int | None = Field(
        None,
        ge=2,
        description="pictures of a fold, where retrieval is also scored on folds (COCO's 1K: 1000)",
    )
    every: int = Field(1, ge=1, description="score every so many rounds; first and last are always scored")
    probe: bool = Field(
        True,
        description="linear probes on the model that joint clients share: a pass over all training samples each time",
    )
    prompts_per_class: int = Field(
        12, ge=1, description="pictures a class for T2I accuracy, CLIP score, FID and IS"
    )
    grid: int = Field(4, ge=1, description="pictures a class in the sample grids")
    features: str | None = Field(
        None,
        description="network of FID and Inception score: file of FID's Inception-v3, or folder or hub name of an image "
        "model; null: the judge",
    )
    generic: int = Field(
        0,
        ge=0,
        description="pictures of generic captions, to see what the generator forgets; 0: none, else >= 2",
    )


class EngineSettings(Frozen):
    """What carries the messages."""

    name: Literal["local", "flower"] = "local"
    workers: int = Field(
        0, ge=0, description="local: 0: clients live in this process; n: pinned to n worker processes"
    )
    threads: int = Field(
        1, ge=1, le=1024, description="torch threads of each process; results are defined for one value"
    )
    timeout: float | None = Field(None, gt=0, description="seconds to wait for a reply")
    quorum: int | None = Field(None, ge=1, description="go on as soon as so many clients have answered")
    mode: Literal["loopback", "simulation", "deployment"] = Field(
        "loopback",
        description="flower: a whole federation on this machine, Flower's simulation, or silos that have joined",
    )
    silos: int | None = Field(
        None,
        ge=1,
        description="flower: silos to start, default one a client; in a deployment, silos to wait for, default 1",
    )
    patience: float = Field(
        1800.0, gt=0, description="flower: seconds a silo has to connect, to join, to go back to a round"
    )
    cpus: float = Field(1.0, gt=0, description="simulation: processors of a client")
    gpus: float = Field(0.0, ge=0, description="simulation: share of a GPU of a client")
    address: str | None = Field(None, description="simulation: a Ray cluster's address; null starts one here")


class CheckpointSettings(Frozen):
    """What a killed run goes on from. At real size a checkpoint is gigabytes: see `fedloom run --plan`."""

    every: int = Field(
        1, ge=1, description="rounds between two checkpoints; the last round always leaves one"
    )
    keep: int = Field(2, ge=1, description="checkpoints that stay on disk")


class Config(Frozen):
    """A run."""

    method: str = "fedmmkt"
    seed: int = Field(0, ge=0)
    rounds: int = Field(4, ge=0)
    data: DataSettings = DataSettings()
    clients: ClientsSettings = ClientsSettings()
    server: ServerSettings = ServerSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    engine: EngineSettings = EngineSettings()
    checkpoints: CheckpointSettings = CheckpointSettings()
    settings: dict[str, Any] = Field(default_factory=dict, description="the method's own settings")

    @property
    def public_steps(self) -> int:
        """Steps of the public backbones: those that all start from, or those of the server's own models alone."""
        return self.clients.public_steps or self.server.public_steps

    @model_validator(mode="after")
    def _checkpoints(self) -> Config:
        if self.engine.name == "flower" and self.checkpoints.every > 1:
            raise ValueError(
                f"checkpoints.every = {self.checkpoints.every}: silos go back a few rounds only, allowed with "
                "engine.name = flower: 1"
            )
        return self

    @model_validator(mode="after")
    def _server(self) -> Config:
        if self.server.public_steps and self.clients.public_steps:
            raise ValueError(
                f"server.public_steps = {self.server.public_steps} is for clients that start from random weights; "
                f"allowed with it: clients.public_steps = 0, not {self.clients.public_steps}"
            )
        if self.server.public_steps and not (self.server.image and self.server.text):
            raise ValueError(
                f"server.public_steps = {self.server.public_steps} needs both server.image and server.text: models "
                "like the clients' start as the clients do"
            )
        for modality in ("image", "text"):
            own = getattr(self.server, modality)
            if own is not None and own.width != self.clients.width:
                raise ValueError(
                    f"server.{modality}.width = {own.width}, allowed: {self.clients.width}, the clients'"
                )
        return self


def presets() -> dict[str, Path]:
    """Name to file of the presets that come with fedloom."""
    folder = Path(str(resources.files("fedloom") / "presets"))
    return {p.relative_to(folder).with_suffix("").as_posix(): p for p in sorted(folder.rglob("*.yaml"))}


def preset_tree(names: str) -> dict[str, Any]:
    """What the presets `names` say ("a,b": b over a). Raises BadInput for an unknown one, with the nearest."""
    known, tree = presets(), dict[str, Any]()
    for name in (part.strip() for part in names.split(",")):
        if name not in known:
            raise unknown("preset", name, known)
        tree = merged(tree, read_tree(known[name]))
    return tree


def load_config(
    *,
    preset: str | None = None,
    file: str | Path | None = None,
    overrides: Sequence[str] = (),
    values: Mapping[str, Any] | None = None,
    say: Callable[[str], None] | None = None,
) -> Config:
    """Build the configuration: defaults, then preset, then file, then `values`, then `key=value` overrides.

    Where nothing is said of data and clients, those that fit the method and one another: see `fedloom.config.defaults`.

    Args:
        preset: a name, or several with commas between, later ones over earlier ones.
        say: told, in a line each, what was filled in.

    Raises:
        BadInput: an unknown key (with the nearest one), a value that does not fit, an unreadable file.
    """
    check_list(overrides=overrides)
    tree: dict[str, Any] = {}
    if preset is not None:
        tree = preset_tree(preset)
    if file is not None:
        tree = merged(tree, read_tree(Path(file)))
    tree = merged(tree, nested(values or {}))
    for text in overrides:
        tree = merged(tree, override(text))
    return filled(tree, say)


def filled(tree: Mapping[str, Any], say: Callable[[str], None] | None = None) -> Config:
    """The configuration of a tree, completed by `defaults.fill_in`. Raises BadInput.

    Groups of clients that the tree says nothing of are not among `config.clients.model_fields_set`: their numbers may
    change where the data have too few samples for them.
    """
    from fedloom.config.defaults import fill_in, silent

    whole = fill_in(tree, say or silent)
    config: Config = validate(Config, whole)
    said = tree.get("clients") or {}
    config.clients.model_fields_set.difference_update(m for m in CLIENT_TASKS if m not in said)
    return config
