"""How a Stable Diffusion server is loaded, tuned and sampled, as a validated type. Light to import: no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fedloom.config.base import Frozen, Precision

Sampler = Literal["ddim", "dpm++", "euler", "own"]


class LatentOptions(Frozen):
    """How Stable Diffusion 1.5, 2.1 or XL (and what has their form) is loaded, tuned and sampled."""

    revision: str | None = Field(None, description="of a hub name in the hub's own cache: commit, tag or branch")
    variant: str | None = Field(
        None, description="which of a folder's files are read: fp16, those called NAME.fp16.safetensors"
    )
    train: Literal["unet", "lora"] = Field("unet", description="the whole UNet, or factors on its attention")
    rank: int = Field(8, ge=1, description="of LoRA's factors; their scale is 1 (alpha = rank)")
    checkpointing: bool = Field(False, description="compute the UNet's activations twice instead of keeping them")
    min_snr: float | None = Field(
        None,
        gt=0,
        description="gamma of min-SNR weighting (Hang et al., arXiv 2303.09556, use 5); None: equal",
    )
    sampler: Sampler = Field("dpm++", description="own: the scheduler that the folder names")
    batch: int = Field(8, ge=1, description="pictures drawn at a time")
    attention_slicing: bool = Field(
        False, description="some heads at a time: slower, and of use only where attention is not fused"
    )
    vae_slicing: bool = Field(False, description="decode one picture at a time")
    vae_tiling: bool = Field(False, description="decode in tiles: large pictures on a small device")
    offload: bool = Field(False, description="parts wait on the CPU and come to the device in turn; for drawing only")
    keep_texts: int = Field(1024, ge=1, description="most texts whose encodings are kept")
    keep_latents: int = Field(
        4096, ge=0, description="most pictures whose latents are kept, so that the VAE reads each once"
    )


class LatentSettings(LatentOptions):
    """The server's latent diffusion model, where it computes, and what it draws."""

    device: str = Field("cpu", description="as torch names it: cpu, cuda, cuda:1, mps")
    precision: Precision = Field(
        "fp32",
        description="arithmetic of UNet and text encoders. Weights that are trained and the VAE stay fp32; fp16 draws "
        "only, its gradients would vanish without a scaled loss",
    )
    pretrained: str = Field(description="a diffusers folder, or a hub name")
    sampling_steps: int = Field(20, ge=1)
    guidance: float = Field(7.5, ge=0, description="1 or below: none")
    side: int | None = Field(None, ge=8, description="side in pixels of what is handed out; None: the pipeline's own")
