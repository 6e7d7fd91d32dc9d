"""Given generators without memory for their weights: Stable Diffusion and GLIDE."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from fedloom.config import Config
from fedloom.config.glide import GlideOptions
from fedloom.config.stable_diffusion import LatentOptions, LatentSettings
from fedloom.data.sizes import DataSizes
from fedloom.errors import BadInput
from fedloom.models.generators.autoencoder import FACTOR
from fedloom.planning.client_models import StandInTokenizer
from fedloom.planning.load import Load, measured
from fedloom.planning.server import (
    TEXT_TOKENS,
    GeneratorCost,
    ModelCost,
    model_cost,
    of_source,
    pixel_generator_cost,
    pixel_parts,
    text_load,
    with_bridge,
    zeros,
)
from fedloom.weights.catalogue import Shape
from fedloom.weights.shapes import GLIDE, LATENT, PIXEL, shape_of

_GLIDE_STEPS, _FAST27 = 100, 27  # as the release samples, where nothing else is said


def generator_cost(
    config: Config, tokenizer: StandInTokenizer, scene: DataSizes, clip: Any, tuned: bool
) -> GeneratorCost:
    """The run's generator. tuned: whether the method tunes it. BadInput for a name or a side that will not do."""
    given = config.server.generator.pretrained
    if given is None:
        return pixel_generator_cost(config, tokenizer, scene, clip, tuned)
    shape = shape_of(given, "server.generator")
    make = {LATENT: _latent, GLIDE: _glide, PIXEL: _pixel}.get(shape.kind)
    if make is None:
        raise BadInput(
            f"server.generator = {given!r}: holds a {shape.kind}, allowed: Stable Diffusion, GLIDE, "
            "the generator of an earlier run"
        )
    found = of_source(make(config, shape, tuned), given)
    if scene.side > found.side:
        raise BadInput(
            f"server.generator = {given!r} draws {found.side} pixels, the data's pictures have {scene.side}; "
            f"allowed: up to {found.side} (data.options.size)"
        )
    return found


def _latent(config: Config, shape: Shape, tuned: bool) -> GeneratorCost:
    from fedloom.models.generators.latent_sizes import family_configs, part_on_meta

    s, options = config.server.generator, config.server.generator.latent or LatentOptions()
    configs: Mapping[str, Mapping[str, Any]] = shape.parts or family_configs("sd-1.5")
    parts = {name: part_on_meta(name, own) for name, own in configs.items()}
    unet, vae = parts.pop("unet"), parts.pop("vae")
    load, seen, shown = _latent_loads(unet, vae, options)
    texts = {name: text_load(part, TEXT_TOKENS) for name, part in parts.items()}
    defaults = LatentSettings.model_fields
    steps = s.sampling_steps or defaults["sampling_steps"].default
    guidance = defaults["guidance"].default if s.guidance is None else s.guidance
    models = [
        model_cost("generator: UNet", unet, None, load, trained=tuned),
        model_cost("generator: VAE", vae, None, shown, exact=True),
        *(model_cost(f"generator: {n.replace('_', ' ')}", part, None, texts[n]) for n, part in parts.items()),
    ]
    said = sum(x.forward for x in texts.values())
    step = (2 if guidance > 1 else 1) * load.forward
    drawing = steps * step + shown.forward + said
    # XL hears a second, pooled text, and W_r speaks to both.
    pooled = parts["text_encoder_2"].config.projection_dim if "text_encoder_2" in parts else 0
    text = unet.config.cross_attention_dim + pooled
    bridged = with_bridge(models, config.clients.width, text, tuned)
    side = unet.config.sample_size * 2 ** (len(vae.config.block_out_channels) - 1)
    return GeneratorCost(bridged, drawing, load.training + seen.forward, side, steps, step)


def _latent_loads(unet: Any, vae: Any, options: LatentOptions) -> tuple[Load, Load, Load]:
    """Of the UNet, with LoRA's factors where they are trained; of the VAE reading a picture; of it showing one."""
    from fedloom.models.generators.latent_sizes import add_lora

    if options.train == "lora":
        unet.requires_grad_(False)
        with torch.device("meta"):
            add_lora(unet, options.rank)
    config, side, channels = unet.config, unet.config.sample_size, vae.config.latent_channels
    whole = side * 2 ** (len(vae.config.block_out_channels) - 1)
    more = _told(unet)

    def run(n: int) -> Tensor:
        said = zeros(n, TEXT_TOKENS, config.cross_attention_dim)
        out: Tensor = unet(zeros(n, config.in_channels, side, side), zeros(n), said, **more(n)).sample
        return out

    return (
        measured(unet, run),
        measured(vae, lambda n: vae.encode(zeros(n, 3, whole, whole)).latent_dist.mean, train=False),
        measured(vae, lambda n: vae.decode(zeros(n, channels, side, side)).sample, train=False),
    )


def _pixel(config: Config, shape: Shape, tuned: bool) -> GeneratorCost:
    from fedloom.models.generators.latent_sizes import part_on_meta

    unet = part_on_meta("unet", shape.parts["unet"])
    text = part_on_meta("text_encoder_2", shape.parts["text_encoder"])  # the one with a projection
    coder = part_on_meta("autoencoder", shape.parts["autoencoder"]) if "autoencoder" in shape.parts else None
    codes = 3 if coder is None else coder.config.latent_channels
    side = unet.config.sample_size * round((unet.config.in_channels / codes) ** 0.5) * (FACTOR if coder else 1)
    return pixel_parts(config, unet, text, text.config.max_position_embeddings, side, tuned, coder)


def _told(unet: Any) -> Any:
    """What XL's UNet is told besides, as a function of the number of samples."""
    if unet.config.addition_embed_type != "text_time":
        return lambda n: {}
    pooled = unet.config.projection_class_embeddings_input_dim - 6 * unet.config.addition_time_embed_dim
    return lambda n: {"added_cond_kwargs": {"text_embeds": zeros(n, pooled), "time_ids": zeros(n, 6)}}


def _glide(config: Config, shape: Shape, tuned: bool) -> GeneratorCost:
    from fedloom.models.generators.glide.networks import UPSAMPLER, GlideTextEncoder, GlideUNet

    s, options = config.server.generator, config.server.generator.glide or GlideOptions()
    sizes = shape.parts or {
        "unet": {},
        "text_encoder": {},
        "upsampler": UPSAMPLER,
        "upsampler_text_encoder": {},
    }
    length = sizes["text_encoder"].get("length", 128)
    models: list[ModelCost] = []
    loads: dict[str, Load] = {}
    modules: dict[str, Any] = {}
    for name, own in sizes.items():
        kind: Any = GlideTextEncoder if name.endswith("text_encoder") else GlideUNet
        with torch.device("meta"):
            modules[name] = kind(**{k: v for k, v in own.items() if not k.startswith("_")})
        loads[name] = _glide_load(modules[name], length, name == "unet")
        trained = tuned and name == "unet"
        role = "UNet" if name == "unet" else name.replace("_", " ")
        models.append(model_cost(f"generator: {role}", modules[name], None, loads[name], trained=trained))
    base = modules["unet"].config
    steps, step = s.sampling_steps or _GLIDE_STEPS, (1 if s.guidance == 1 else 2) * loads["unet"].forward
    drawing = steps * step + loads["text_encoder"].forward
    side = base.sample_size
    if options.upsample and "upsampler" in loads:
        more = options.upsampling_steps
        drawing += (more if isinstance(more, int) else _FAST27) * loads["upsampler"].forward
        side = modules["upsampler"].config.sample_size
    bridged = with_bridge(models, config.clients.width, base.cross_attention_dim, tuned)
    return GeneratorCost(bridged, drawing, loads["unet"].training, side, steps, step)


def _glide_load(module: Any, length: int, train: bool) -> Load:
    config = module.config
    if "length" in config:

        def read(n: int) -> Tensor:
            out: Tensor = module(zeros(n, length, of=torch.int64), zeros(n, length, of=torch.bool))[0]
            return out

        return measured(module, read, train=False)
    side, wide = config.sample_size, config.cross_attention_dim

    def run(n: int) -> Tensor:
        small = {"low_res": zeros(n, 3, side // 4, side // 4)} if config.low_resolution else {}
        said = zeros(n, length, wide)
        out: Tensor = module(zeros(n, config.in_channels, side, side), zeros(n), said, zeros(n, wide), **small).sample
        return out

    return measured(module, run, train=train)
