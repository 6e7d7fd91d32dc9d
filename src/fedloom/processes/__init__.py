"""Child processes, one way for all of them; and how a process that computes is set up.

| who starts it | child | talks by |
|---|---|---|
| `federation.engines.workers` | clients, resident for a run | frames |
| `comparison.pool` | one run after another | frames |
| `experiment.pretraining` | a chain of models to train | frames |
| `deployment.flower_cli` | Flower's command line | frames |
| `deployment` | SuperLink, SuperNode, a silo's worker | its log, a socket |

`child` holds the parent's side, `parent` the child's.
"""

from __future__ import annotations

import os
import warnings


def settle_process(threads: int = 1) -> None:
    """Fix torch's threads (results are defined for one value) and silence progress bars of the model libraries.

    diffusers' bars are silenced where it is loaded (`families.quiet`): its import takes a second that few need.
    On an accelerator the order of sums is fixed too: the same seed gives the same numbers, on the same kind of device.
    """
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    warnings.filterwarnings("ignore", category=FutureWarning)
    import torch
    from torch.utils import deterministic

    torch.set_num_threads(threads)
    if torch.cuda.is_available():
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS repeats itself with
        torch.backends.cudnn.benchmark = False
        torch.use_deterministic_algorithms(True, warn_only=True)
        # nobody reads what nobody wrote
        deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
