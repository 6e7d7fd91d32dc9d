"""Use the generator that a run exported: python load_generator.py RUN [PICTURE]"""

from __future__ import annotations

import sys

import torch

import fedloom


def main(folder: str, picture: str = "iris.png") -> None:
    run = fedloom.load_run(folder)
    pipeline = run.generator  # a diffusers pipeline, from RUN/export/generator
    noise = torch.Generator().manual_seed(0)
    image = pipeline("A picture of iris.", generator=noise).images[0]
    image.resize((192, 192), resample=0).save(picture)
    print(f"{picture}: {pipeline.config.sampling_steps} steps, guidance {pipeline.config.guidance}")


if __name__ == "__main__":
    main(*sys.argv[1:3])
