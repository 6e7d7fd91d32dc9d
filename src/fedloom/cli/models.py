"""`fedloom models`: the models of clients and server, and the library classes behind them."""

from __future__ import annotations

from typing import Annotated

import typer

from fedloom.cli.options import JsonOption, tell_broken
from fedloom.cli.screen import grid, show, show_json
from fedloom.cli.settings import SETTING, field_rows, setting_table

COLUMNS = ("role", "name", "class", "weights")
EITHER = "tiny from a configuration, or pretrained: folder or hub name"
PAIR = (
    "a ViT and a BERT of transformers under one head",
    "tiny from a configuration, or pretrained: folders or hub names, VIT+BERT",
)
OF_TWO = (
    (
        "image and text client",
        "IMAGE+TEXT",
        "fedloom.models.clients.dual_encoder.DualEncoder of two of the above, as resnet+gru",
        "tiny from a configuration, or pretrained: IMAGE+TEXT, either may be empty",
    ),
    (
        "multimodal client",
        "ONE+OTHER",
        "fedloom.models.clients.multimodal.MultimodalClassifier: "
        "sound+image, sound+text or image+text, as audio-resnet+resnet, under a "
        "fusion (concat, sum, film, gated)",
        "tiny from a configuration, or pretrained: ONE+OTHER, either may be empty",
    ),
)
SERVER = {
    "clip": "transformers.CLIPModel",
    "captioner": "transformers.BlipForConditionalGeneration",
    "generator": "diffusers.DiffusionPipeline with UNet2DConditionModel, FlowMatchEulerDiscreteScheduler; pretrained "
    "also diffusers.StableDiffusionPipeline, StableDiffusionXLPipeline, "
    "fedloom.models.generators.glide.pipeline.GlidePipeline",
}


NameArgument = Annotated[
    str | None, typer.Argument(metavar="[NAME]", help="A client model, to show with its settings (default: list all).")
]


def models(name: NameArgument = None, json: JsonOption = False) -> None:
    """List the models of clients and server.

    Each with the library class behind it. With a NAME, show the settings of that client model.

    Example: fedloom models vit
    """
    from fedloom.config.archs import archs, spec_of
    from fedloom.registry import CLIENT_MODELS
    from fedloom.tasks import Modality

    if name is not None:
        return _one(CLIENT_MODELS.canonical(name), json)
    tell_broken(CLIENT_MODELS)
    rows = []
    for modality, role in {
        Modality.IMAGE: "image client",
        Modality.TEXT: "text client",
        Modality.AUDIO: "audio of multimodal clients",
    }.items():
        rows += [(role, name, spec_of(name).behind, spec_of(name).weights) for name in archs(modality)]
        if modality != Modality.AUDIO:
            rows.append((role, "pair", *PAIR))
    rows += OF_TWO
    rows += [("server", name, kind, EITHER) for name, kind in SERVER.items()]
    if json:
        show_json([dict(zip(COLUMNS, row)) for row in rows])
    else:
        show(
            grid(COLUMNS, rows),
            "Show the settings of a client model with: fedloom models NAME",
            "Choose with: clients.image, clients.text, clients.pair, clients.joint and server in the configuration",
        )


def _one(name: str, json: bool) -> None:
    """What is known of a client model of one modality, and the settings that mean something to it."""
    from fedloom.config.archs import reads_at_side, spec_of
    from fedloom.config.models import ModelSettings
    from fedloom.tasks import Modality

    spec = spec_of(name)
    silent = {"arch", "fusion"} | ({"side"} if not reads_at_side(name) else set())
    silent |= {"patch"} if spec.modality != Modality.IMAGE else set()
    silent |= {"tune", "rank"} if tuple(spec.tune) == ("all",) else set()
    rows = field_rows(ModelSettings, {}, silent)
    rows = [(key, default, ", ".join(spec.tune) if key == "tune" else say, does) for key, default, say, does in rows]
    about = {"reads": spec.modality, "class": spec.behind, "weights": spec.needs or spec.weights}
    if json:
        return show_json({"model": name, **about, "settings": [dict(zip(SETTING, row)) for row in rows]})
    group = "joint" if spec.modality == Modality.AUDIO else spec.modality
    arch = f"{name}+resnet" if spec.modality == Modality.AUDIO else name
    show(f"{name}: {spec.behind}", f"reads: {about['reads']}", f"weights: {about['weights']}", setting_table(rows))
    show(f"Use it with: clients.{group}: [{{arch: {arch}, count: 2}}] in the configuration")
