"""Published GLIDE checkpoints (`base.pt`, `upsample.pt`) to a diffusers folder, and the names both ways."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fedloom.errors import BadInput
from fedloom.models.generators.glide.layers import Attention, ResBlock, Stage
from fedloom.models.generators.glide.networks import UPSAMPLER, GlideTextEncoder, GlideUNet
from fedloom.models.generators.glide.pipeline import GlidePipeline
from fedloom.models.generators.glide.process import base_scheduler, upsampler_scheduler
from fedloom.models.generators.glide.tokenizer import build_tokenizer

# Our name of a layer, and the release's, within each kind of block.
_TEXT_LAYER = {
    "norm1": "ln_1",
    "qkv": "attn.c_qkv",
    "out": "attn.c_proj",
    "norm2": "ln_2",
    "widen": "mlp.c_fc",
    "narrow": "mlp.c_proj",
}
_RESBLOCK = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "shortcut": "skip_connection",
}
_ATTENTION = {"norm": "norm", "qkv": "qkv", "text_kv": "encoder_kv", "out": "proj_out"}
_FLAT = ("qkv", "text_kv", "out")  # convolutions of width 1 over a row of pixels there, linear layers here
_TEXT = {"token": "token_embedding", "norm": "final_ln"}
_UNET = {
    "time.0": "time_embed.0",
    "time.2": "time_embed.2",
    "text": "transformer_proj",
    "conv_in": "input_blocks.0.0",
    "norm_out": "out.0",
    "conv_out": "out.2",
}


def _layers(text: GlideTextEncoder, unet: GlideUNet) -> Iterator[tuple[nn.Module, str, bool]]:
    """Every layer with weights: the layer, its published name, and whether it is a flat convolution there."""
    for mine, theirs in _TEXT.items():
        yield text.get_submodule(mine), theirs, False
    for n, layer in enumerate(text.blocks):
        for mine, theirs in _TEXT_LAYER.items():
            yield layer.get_submodule(mine), f"transformer.resblocks.{n}.{theirs}", False
    for mine, theirs in _UNET.items():
        yield unet.get_submodule(mine), theirs, False
    middle = [part for stage in unet.middle for part in _parts(stage)]
    blocks = [("middle_block", middle)]
    blocks += [(f"input_blocks.{n}", _parts(stage)) for n, stage in enumerate(unet.down, start=1)]
    blocks += [(f"output_blocks.{n}", _parts(stage)) for n, stage in enumerate(unet.up)]
    for block, parts in blocks:
        for place, part in enumerate(parts):
            names = _ATTENTION if isinstance(part, Attention) else _RESBLOCK
            for mine, theirs in names.items():
                flat = isinstance(part, Attention) and mine in _FLAT
                yield part.get_submodule(mine), f"{block}.{place}.{theirs}", flat


def _parts(stage: Any) -> list[Attention | ResBlock]:
    """What a stage is made of, in order; the release numbers these."""
    assert isinstance(stage, Stage)
    return [part for part in (stage.resnet, stage.attention, stage.upsample) if part is not None]


def to_published(text: GlideTextEncoder, unet: GlideUNet) -> dict[str, Tensor]:
    """The weights of both networks under the release's names, as one state dict; shares memory with them."""
    state: dict[str, Tensor] = {"positional_embedding": text.position, "padding_embedding": text.padding}
    for layer, name, flat in _layers(text, unet):
        for kind, value in layer.named_parameters(recurse=False):
            state[f"{name}.{kind}"] = value[..., None] if flat and kind == "weight" else value
    return {name: value.detach() for name, value in state.items()}


def from_published(
    state: Mapping[str, Tensor], text: GlideTextEncoder, unet: GlideUNet, source: str = "checkpoint"
) -> None:
    """Put the weights of a published state dict into both networks, all of them and no others.

    The networks may be on the meta device; they take the tensors' type.

    Raises:
        BadInput: a name is missing or unknown, or a shape is another one; the message names `source`.
    """
    wanted = to_published(text, unet)
    for kind, names in (("has no", wanted.keys() - state.keys()), ("has unknown", state.keys() - wanted.keys())):
        if names:
            raise BadInput(f"{source} {kind} {min(names)!r}, and {len(names) - 1} more, for these sizes of GLIDE")
    for name, value in wanted.items():
        if state[name].shape != value.shape:
            raise BadInput(
                f"{source}: {name!r} has shape {tuple(state[name].shape)}, GLIDE of these sizes {tuple(value.shape)}"
            )
    text.position, text.padding = _own(state["positional_embedding"]), _own(state["padding_embedding"])
    for layer, name, flat in _layers(text, unet):
        for kind in [kind for kind, _ in layer.named_parameters(recurse=False)]:
            value = state[f"{name}.{kind}"]
            setattr(layer, kind, _own(value[..., 0] if flat and kind == "weight" else value))


def _own(value: Tensor) -> nn.Parameter:
    return nn.Parameter(value.detach().clone(memory_format=torch.contiguous_format))


def read_published(path: str | Path) -> dict[str, Tensor]:
    """The state dict of a published `.pt` file; nothing in it is run."""
    if not Path(path).is_file():
        raise BadInput(f"checkpoint {path}: no such file")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        reason = str(error).strip().split("\n")[0][:100]
        raise BadInput(f"checkpoint {path}: is no file of weights alone: {reason}") from None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise BadInput(f"checkpoint {path}: is no state dict (names to tensors)")
    return state


def load_published(
    path: str | Path, dtype: torch.dtype, text: Mapping[str, Any], unet: Mapping[str, Any]
) -> tuple[GlideTextEncoder, GlideUNet]:
    """Both networks of a published file, of the given sizes, in evaluation mode."""
    with torch.device("meta"):
        networks = GlideTextEncoder(**text), GlideUNet(**unet)
    state = {name: value.to(dtype) for name, value in read_published(path).items()}
    from_published(state, *networks, source=f"checkpoint {path}")
    return networks[0].eval(), networks[1].eval()


def convert(
    base_pt: str | Path,
    upsample_pt: str | Path | None,
    vocabulary: str | Path,
    out_folder: str | Path,
    dtype: torch.dtype = torch.float32,
    *,
    text: Mapping[str, Any] | None = None,
    base: Mapping[str, Any] | None = None,
    upsampler: Mapping[str, Any] | None = None,
) -> GlidePipeline:
    """Write published checkpoints as a diffusers folder, safetensors inside; returns the pipeline that is in it.

    Args:
        base_pt, upsample_pt: the published files; without the second the pipeline has no upsampler.
        vocabulary: the release's merges file, `vocab.bpe` or `vocab.bpe.gz`.
        dtype: of the weights written, float32 or float16.
        text, base, upsampler: sizes of checkpoints that are not the release's, as arguments of our networks.
    """
    tokenizer = build_tokenizer(vocabulary, dict(text or {}).get("length", 128))
    encoder, unet = load_published(base_pt, dtype, text or {}, base or {})
    more: dict[str, Any] = {}
    if upsample_pt is not None:
        sizes = UPSAMPLER if upsampler is None else upsampler
        more["upsampler_text_encoder"], more["upsampler"] = load_published(upsample_pt, dtype, text or {}, sizes)
        more["upsampler_scheduler"] = upsampler_scheduler()
    pipe = GlidePipeline(unet, encoder, tokenizer, base_scheduler(), **more)
    pipe.save_pretrained(str(out_folder))
    return pipe


def convert_published(published: Path, out: Path) -> None:
    """`convert` the files of a folder, under the names that they are published by."""
    convert(published / "base.pt", published / "upsample.pt", published / "vocab.bpe.gz", out)
