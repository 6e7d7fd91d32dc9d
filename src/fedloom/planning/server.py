"""The server's models without memory for their weights: generator, captioner, CLIP, judge, feature network."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from fedloom.config import Config
from fedloom.config.models import EMBEDDED
from fedloom.data.sizes import DataSizes
from fedloom.errors import BadInput
from fedloom.models.generators.autoencoder import FACTOR
from fedloom.planning.client_models import StandInTokenizer, from_shape
from fedloom.planning.load import NO_LOAD, Load, count, measured
from fedloom.tasks import ClientTask
from fedloom.weights.shapes import INCEPTION, shape_of

TEXT_TOKENS = 77  # of the texts that CLIP's towers read, Stable Diffusion's too


@dataclass(frozen=True)
class ModelCost:
    """What a model, or a part of one, costs.

    count: how many there are.  exact: whether its weights stay fp32 whatever the precision.  blocks: how many it is cut
    into where activations are computed twice.
    """

    role: str
    kind: str
    parameters: int
    trained: int
    source: str | None
    load: Load = NO_LOAD
    exact: bool = False
    blocks: int = 1
    count: int = 1


def model_cost(
    role: str,
    module: nn.Module,
    source: str | None,
    load: Load = NO_LOAD,
    *,
    trained: bool = False,
    exact: bool = False,
) -> ModelCost:
    """What a module costs. trained: its parameters that ask for gradients are; otherwise none."""
    lists = [len(m) for m in module.modules() if isinstance(m, nn.ModuleList)]
    own = count(module, trained=True) if trained else 0
    return ModelCost(role, type(module).__name__, count(module), own, source, load, exact, max([*lists, 1]))


def zeros(*shape: int, of: torch.dtype = torch.float32) -> Tensor:
    """Input without content."""
    return torch.zeros(*shape, dtype=of, device="meta")


# ----------------------------------------------------------------------------------------------------- what looks on


def clip_cost(config: Config, scene: DataSizes, tokenizer: StandInTokenizer) -> tuple[ModelCost, nn.Module]:
    """CLIP, whose load is that of one picture."""
    s = config.server.clip
    if s.pretrained:
        model = from_shape(_expected(s.pretrained, "server.clip", "clip"), "", 0)
    else:
        from fedloom.models.evaluators.clip import build_clip

        with torch.device("meta"):
            model = build_clip(s, tokenizer, scene.side).model
    side = model.config.vision_config.image_size

    def run(n: int) -> Tensor:
        out: Tensor = model.get_image_features(pixel_values=zeros(n, 3, side, side)).pooler_output
        return out

    return model_cost("CLIP", model, s.pretrained, measured(model, run), exact=True), model


def captioner_cost(config: Config, scene: DataSizes, tokenizer: StandInTokenizer) -> ModelCost:
    """BLIP, whose load is that of one caption: the picture once, then each token through the text half.

    Or what a picture is looked up by, whose load is that of one look.
    """
    s = config.server.captioner
    if s.retrieve:
        looks: Any = from_shape(shape_of(s.retrieve, "server.captioner.retrieve"), ClientTask.IMAGE_CLASSIFICATION, 0)
        side = s.side or getattr(looks.config, "image_size", None) or 224
        load = measured(looks, lambda n: looks(pixel_values=zeros(n, 3, side, side)).logits)
        return model_cost("captioner", looks, s.retrieve, load)
    if s.pretrained:
        model = from_shape(_expected(s.pretrained, "server.captioner", "blip"), "", 0)
    else:
        from fedloom.models.evaluators.captioner import build_captioner

        with torch.device("meta"):
            model = build_captioner(s, tokenizer, scene.side).model
    side = model.config.vision_config.image_size
    vision = model.vision_model
    seen = measured(vision, lambda n: vision(pixel_values=zeros(n, 3, side, side)).last_hidden_state)
    said = 2.0 * s.max_tokens * count(model.text_decoder)
    return model_cost("captioner", model, s.pretrained, Load(seen.forward + said, 3 * (seen.forward + said), seen.kept))


def judge_cost(config: Config, scene: DataSizes) -> ModelCost:
    """The judge of the GAN-test."""
    s = config.evaluation.judge
    if s.pretrained:
        judge: Any = from_shape(
            shape_of(s.pretrained, "evaluation.judge"), ClientTask.IMAGE_CLASSIFICATION, scene.classes
        )
        side = s.side or getattr(judge.config, "image_size", None) or 224
        load = measured(judge, lambda n: judge(pixel_values=zeros(n, 3, side, side)).logits)
    else:
        from fedloom.models.evaluators.judge import Judge

        with torch.device("meta"):
            judge = Judge(s, scene.classes)
        load = measured(judge, lambda n: judge(zeros(n, 3, scene.side, scene.side)))
    return model_cost("judge", judge, s.pretrained, load, exact=True)


def features_cost(name: str) -> ModelCost:
    """The network whose features FID and IS are made of."""
    shape = _expected(name, "evaluation.features", INCEPTION)
    forward = float(shape.config["forward"])
    parameters = int(shape.config["parameters"])
    return ModelCost("FID network", "Inception-v3", parameters, 0, name, Load(forward, 3 * forward), exact=True)


def _expected(name: str, key: str, kind: str) -> Any:
    shape = shape_of(name, key)
    if shape.kind != kind:
        raise BadInput(f"{key} = {name!r}: holds a {shape.kind}, allowed: {kind}")
    return shape


# ------------------------------------------------------------------------------------------------------ what draws


@dataclass(frozen=True)
class GeneratorCost:
    """The generator: its models, and FLOP of one picture drawn and of one sample tuned on.

    steps: of sampling, in `drawing`. step: FLOP of one of them. steps_to_learn_from: as the generator declares them.
    """

    models: tuple[ModelCost, ...]
    drawing: float
    tuning: float
    side: int
    steps: int = 1
    step: float = 0.0
    steps_to_learn_from: int | None = None

    def sample(self, steps: int | None) -> float:
        """FLOP of one picture to learn from, in so many sampling steps, or in those that the generator has for it."""
        return self.drawing + ((steps or self.steps_to_learn_from or self.steps) - self.steps) * self.step


def with_bridge(models: list[ModelCost], width: int, text: int, tuned: bool) -> tuple[ModelCost, ...]:
    """And the map W_r from representations to the text's width, trained with the UNet."""
    size = width * text
    return (*models, ModelCost("generator: W_r", "Linear", size, size if tuned else 0, None, exact=True))


def text_load(model: Any, tokens: int) -> Load:
    """One text through a CLIP text tower."""
    return measured(model, lambda n: model(input_ids=zeros(n, tokens, of=torch.int64)).last_hidden_state, train=False)


def pixel_generator_cost(
    config: Config, tokenizer: StandInTokenizer, scene: DataSizes, clip: Any, tuned: bool
) -> GeneratorCost:
    """The embedded generator."""
    from fedloom.models.evaluators.clip import Clip
    from fedloom.models.generators.pixel import build_generator

    with torch.device("meta"):
        built = build_generator(
            config.server.generator, Clip(clip, tokenizer), scene.side, config.clients.width, torch.device("meta")
        )
    tokens = tokenizer.model_max_length
    return pixel_parts(config, built.unet, built.text_encoder, tokens, scene.side, tuned, built.autoencoder)


def _showing(coder: Any, side: int) -> Load:
    """Of an autoencoder showing a picture. It reads each once, which counts for little beside the steps it is in."""
    shape = (coder.config.latent_channels, side // FACTOR, side // FACTOR)
    return measured(coder, lambda n: coder.decode(zeros(n, *shape)).sample, train=False)


def pixel_parts(
    config: Config, unet: Any, text: Any, tokens: int, side: int, tuned: bool, coder: Any = None
) -> GeneratorCost:
    """A generator of the embedded kind from its parts. coder: its autoencoder, if it has one."""
    from fedloom.models.generators.pixel import TO_LEARN_FROM

    s = config.server.generator
    wide, pooled = unet.config.cross_attention_dim, unet.config.projection_class_embeddings_input_dim
    shape = (unet.config.in_channels, unet.config.sample_size, unet.config.sample_size)

    def run(n: int) -> Tensor:
        said = zeros(n, tokens, wide)
        out: Tensor = unet(zeros(n, *shape), zeros(n), said, class_labels=zeros(n, pooled)).sample
        return out

    load, said = measured(unet, run), text_load(text, tokens)
    shown = NO_LOAD if coder is None else _showing(coder, side)
    steps = s.sampling_steps or EMBEDDED["sampling_steps"]
    guidance = EMBEDDED["guidance"] if s.guidance is None else s.guidance
    models = [
        model_cost("generator: UNet", unet, None, load, trained=tuned),
        model_cost("generator: text encoder", text, None, said),
        *([] if coder is None else [model_cost("generator: autoencoder", coder, s.autoencoder, shown, exact=True)]),
    ]
    step = (2 if guidance != 1 else 1) * load.forward
    bridged = with_bridge(models, config.clients.width, wide, tuned)
    return GeneratorCost(
        bridged,
        steps * step + said.forward + shown.forward,
        load.training,
        side,
        steps,
        step,
        steps_to_learn_from=TO_LEARN_FROM * steps,
    )


def of_source(cost: GeneratorCost, source: str | None) -> GeneratorCost:
    """The same, its weights from `source`; W_r begins at zero and has none."""
    named = tuple(p if p.role.endswith("W_r") else replace(p, source=source) for p in cost.models)
    return replace(cost, models=named)
