"""Validated settings, one file a subject; loading them from YAML files, presets and `--set`."""

from __future__ import annotations

from fedloom.config.clients import ClientGroup, ClientsSettings
from fedloom.config.data import DataSettings
from fedloom.config.loading import load_config
from fedloom.config.preset_files import preset_tree, presets
from fedloom.config.run import Config, EngineSettings, EvaluationSettings
from fedloom.config.server import ServerSettings

__all__ = [
    "ClientGroup",
    "ClientsSettings",
    "Config",
    "DataSettings",
    "EngineSettings",
    "EvaluationSettings",
    "ServerSettings",
    "load_config",
    "preset_tree",
    "presets",
]
