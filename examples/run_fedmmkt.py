"""One run of FedMMKT on the embedded flowers, smallest sizes: python run_fedmmkt.py [FOLDER]

Leave out `preset="smoke"` for the real thing.
"""

from __future__ import annotations

import sys

import fedloom


def main(folder: str | None = None) -> None:
    run = fedloom.run(preset="smoke", method="fedmmkt", seed=0, out=folder, overwrite=True)
    for score in ("image_accuracy", "text_accuracy", "t2i_accuracy", "clip_score"):
        value = run.summary[score]
        print(f"{score:16} {value['before']:.3f} -> {value['after']:.3f}")
    print(f"bytes up {run.summary['bytes_up']}, down {run.summary['bytes_down']}")
    print(run.metrics[["round", "image_accuracy", "text_accuracy"]].to_string(index=False))
    print(f"run folder: {run.path}")


if __name__ == "__main__":
    main(*sys.argv[1:2])
