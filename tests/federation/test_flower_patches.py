"""Changes inside Flower are made where they fit, and are missing or fatal where they do not."""

from __future__ import annotations

from types import ModuleType

import pytest

from fedloom.federation.engines.flower.patches import look_often, patch


@pytest.fixture
def module() -> ModuleType:
    made = ModuleType("flwr.made_up")

    def pull_objects(ids: list[int], initial_backoff: float = 1.0, backoff_cap: float = 10.0) -> float:
        return initial_backoff

    vars(made)["pull_objects"] = pull_objects
    return made


def test_what_fits_is_changed(module):
    patch(module, "pull_objects", lambda old: lambda: old([], initial_backoff=3.0), parameters=["backoff_cap"])
    assert module.pull_objects() == 3.0


def test_what_does_not_fit_is_left_alone_and_said(module, capsys):
    before = module.pull_objects
    look_often(module)  # this one takes no max_tries_per_object
    assert module.pull_objects is before
    assert "flwr.made_up.pull_objects is missing or has changed; going on without" in capsys.readouterr().out


def test_what_keeps_a_machine_safe_is_needed(module):
    with pytest.raises(SystemExit, match=r"flwr.made_up.guard is missing or has changed; it is not started"):
        patch(module, "guard", lambda old: old, for_safety=True)


def test_the_flower_that_is_installed_fits():
    pytest.importorskip("flwr")
    import importlib
    import inspect

    internal = importlib.import_module("flwr.supernode.start_client_internal")
    assert {"initial_backoff", "backoff_cap", "max_tries_per_object"} <= set(
        inspect.signature(internal.pull_objects).parameters
    )
    assert "get_fab" in inspect.signature(internal._pull_and_store_message).parameters
    assert {"subprocess", "time"} <= set(vars(internal))
