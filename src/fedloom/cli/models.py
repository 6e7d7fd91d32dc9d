"""`fedloom models`: the models of clients and server, and the library classes behind them."""

from __future__ import annotations

from fedloom.cli.options import JsonOption
from fedloom.cli.screen import grid, show, show_json

COLUMNS = ("role", "name", "class", "weights")
EITHER = "tiny from a configuration, or pretrained: folder or hub name"
ALWAYS = {
    "frozen-mobilenet": "needs pretrained: path of MobileNet NAME.npz (+ NAME.json)",
    "pair": "tiny from a configuration, or pretrained: folders or hub names, VIT+BERT",
    "gru": "tiny from a configuration, or pretrained: folder or file of word vectors",
}
CLASSES = {
    "pair": "a ViT and a BERT of transformers under one head",
    "gru": "fedloom.models.clients.gru.GruForSequenceClassification",
    "vit": "transformers.ViTForImageClassification",
    "beit": "transformers.BeitForImageClassification",
    "resnet": "transformers.ResNetForImageClassification",
    "frozen-mobilenet": "torch.nn.Linear on features of a frozen MobileNet",
    "bert": "transformers.BertForSequenceClassification",
    "distilbert": "transformers.DistilBertForSequenceClassification",
    "roberta": "transformers.RobertaForSequenceClassification",
}
DUAL = (
    "image and text client",
    "IMAGE+TEXT",
    "fedloom.models.clients.dual_encoder.Dual of two of the above, as resnet+gru",
    "tiny from a configuration, or pretrained: IMAGE+TEXT, either may be empty",
)
JOINT = (
    (
        "sound of joint clients",
        "audio-resnet",
        "transformers.ResNetForImageClassification, of one channel",
        "tiny from a configuration, or pretrained: folder or hub name",
    ),
    (
        "joint client",
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
    from fedloom.config.models import IMAGE_ARCHS, TEXT_ARCHS

    rows = [
        (f"{modality} client", arch, CLASSES.get(arch, ""), ALWAYS.get(arch, EITHER))
        for modality, archs in (("image", IMAGE_ARCHS), ("text", TEXT_ARCHS))
        for arch in archs
    ]
    rows += [DUAL, *JOINT]
    rows += [("server", name, kind, EITHER) for name, kind in SERVER.items()]
    if json:
        show_json([dict(zip(COLUMNS, row)) for row in rows])
    else:
        show(
            grid(COLUMNS, rows),
            "Choose with: clients.image, clients.text, clients.pair, clients.joint and server in the configuration",
        )
