"""`fedloom models`: the models of clients and server, and the library classes behind them."""

from __future__ import annotations

from fedloom.cli.options import JsonOption, tell_broken
from fedloom.cli.screen import grid, show, show_json

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


def models(json: JsonOption = False) -> None:
    """List the models of clients and server.

    Each with the library class behind it.

    Example: fedloom models --json
    """
    from fedloom.config.archs import archs, spec_of
    from fedloom.registry import CLIENT_MODELS
    from fedloom.tasks import Modality

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
            "Choose with: clients.image, clients.text, clients.pair, clients.joint and server in the configuration",
        )
