"""FedMMKT beside clients that learn alone, on the same data, split and warm start: python compare_two_methods.py"""

from __future__ import annotations

from pathlib import Path

import fedloom
from fedloom.reporting.html import write_report

METHODS = ("fedmmkt", "standalone")


def main(folder: Path = Path("runs/compared")) -> None:
    runs = [fedloom.run(preset="smoke", method=m, out=folder / m, overwrite=True) for m in METHODS]
    for run in runs:
        image, text = run.summary["image_accuracy"], run.summary["text_accuracy"]
        print(f"{run.summary['method']:12} image {image['after']:.3f}  text {text['after']:.3f}")
    # The warm start is shared: both begin with the same clients.
    assert len({run.summary["image_accuracy"]["before"] for run in runs}) == 1
    print(f"report: {write_report([run.path for run in runs], folder / 'compared.html')}")


if __name__ == "__main__":
    main()
