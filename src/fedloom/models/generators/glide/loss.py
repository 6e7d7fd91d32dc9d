"""What training a GLIDE minimises: the error of the noise and, where asked, the bound that teaches the variance.

The public GLIDE code holds no training. The loss is that of the papers it builds on: Ho et al. 2020 (L_simple) and
Nichol & Dhariwal 2021 (L_hybrid = L_simple + 0.001 L_vlb, eq. 16, with the mean held fixed in L_vlb). Ours are: no
variational term by default, as FedMMKT needs none, and an exact normal distribution function where their code has an
approximation (a difference at t = 0 only).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from fedloom.models.generators.glide.process import Process


def noisy(process: Process, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """x_t of pictures x_0 and noise (B, 3, H, W) at steps t int64 (B,)."""
    bar = process.bar[t.cpu()].view(-1, 1, 1, 1)
    return _like(bar.sqrt(), x0) * x0 + _like((1 - bar).sqrt(), x0) * noise


def denoising_loss(
    process: Process, out: Tensor, x0: Tensor, noise: Tensor, t: Tensor, variational: float = 0.0
) -> Tensor:
    """Mean squared error of the noise, plus `variational` times the bound L_vlb: a scalar.

    Args:
        process: the training process, of T steps.
        out: what the U-Net says of `noisy(process, x0, noise, t)`, (B, 6, H, W). Without the variational term its
            last three channels get no gradient.
        x0, noise: (B, 3, H, W).  t: int64 (B,).
        variational: lambda of L_hybrid; 0.001 in the paper, 0 leaves the learned variance as it is.
    """
    predicted, share = out.chunk(2, dim=1)
    simple = F.mse_loss(predicted, noise)
    if not variational:
        return simple
    steps = len(process.bar)
    bound = variational_bits(process, predicted.detach(), share, x0, noisy(process, x0, noise, t), t)
    return simple + variational * steps * bound.mean()


def variational_bits(process: Process, predicted: Tensor, share: Tensor, x0: Tensor, xt: Tensor, t: Tensor) -> Tensor:
    """One term of the variational bound a picture, in bits a channel and pixel: (B,) (Nichol & Dhariwal, eqs. 4-7, 15).

    Args:
        predicted: noise as the network sees it (B, 3, H, W).
        share: where the log variance lies between smallest (-1) and largest (1), (B, 3, H, W).
        x0, xt: pictures and noisy pictures (B, 3, H, W).  t: int64 (B,).
    """

    def at(values: Tensor) -> Tensor:
        return _like(values[t.cpu()].view(-1, 1, 1, 1), xt)

    of_x0, of_xt = process.posterior_mean
    seen = at((1 / process.bar).sqrt()) * xt - at((1 / process.bar - 1).sqrt()) * predicted
    mean = at(of_x0) * seen + at(of_xt) * xt
    lowest, highest = at(process.posterior_log_variance), at(process.beta.log())
    log_variance = lowest + (share + 1) / 2 * (highest - lowest)
    true_mean = at(of_x0) * x0 + at(of_xt) * xt
    # KL of two normal distributions, in nats
    kl = log_variance - lowest - 1 + (lowest - log_variance).exp()
    kl = 0.5 * (kl + (true_mean - mean).square() * (-log_variance).exp())
    nats = torch.where(t.view(-1, 1, 1, 1) == 0, -_log_likelihood(x0, mean, 0.5 * log_variance), kl)
    return nats.mean(dim=(1, 2, 3)) / math.log(2)


def _log_likelihood(x: Tensor, mean: Tensor, log_deviation: Tensor) -> Tensor:
    """Log probability, in nats, of the grey value (of 256 in [-1, 1]) that x is; the outer ones reach to infinity."""
    scale = (-log_deviation).exp()
    upper = torch.special.ndtr(scale * (x - mean + 1 / 255))
    lower = torch.special.ndtr(scale * (x - mean - 1 / 255))
    mass = torch.where(x > 0.999, 1 - lower, torch.where(x < -0.999, upper, upper - lower))
    return mass.clamp(min=1e-12).log()


def _like(values: Tensor, x: Tensor) -> Tensor:
    """Numbers of a process, on the device and in the type of x."""
    return values.to(x.device, x.dtype)
