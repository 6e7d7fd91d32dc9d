"""MLflow: to where MLFLOW_TRACKING_URI says, under MLFLOW_EXPERIMENT_NAME (default: fedloom)."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedloom.runs.folder import RunFolder
from fedloom.tracking.base import RunTracker

TAG = "fedloom.run"  # holds the id of the run, by which one that is resumed is found again
_PARAMETERS, _LONGEST = 100, 500  # that MLflow takes in one call, and characters of each
# A server that is down is to hold up a run for seconds, and not for minutes as MLflow's own defaults do.
_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}


class Mlflow(RunTracker):
    """One MLflow run for one run, also where that is resumed."""

    name = module = "mlflow"

    def start(self, folder: RunFolder, title: str, config: Mapping[str, Any], resumed_at: int) -> None:
        for key, value in _PATIENCE.items():
            os.environ.setdefault(key, value)
        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient

        self._client = MlflowClient()
        experiment = self._experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME") or "fedloom")
        found = self._client.search_runs([experiment], f"tags.`{TAG}` = '{folder.run_id}'")
        self._told = -1  # the last round that MLflow has
        if found:
            self._run = found[0].info.run_id
            self._told = resumed_at - 1
            self._client.update_run(self._run, status="RUNNING")
            return
        self._run = self._client.create_run(experiment, tags={TAG: folder.run_id}, run_name=title).info.run_id
        given = [Param(_name(key), str(value)[:_LONGEST]) for key, value in config.items()]
        for i in range(0, len(given), _PARAMETERS):
            self._client.log_batch(self._run, params=given[i : i + _PARAMETERS])

    def _experiment(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        return str(found.experiment_id if found else self._client.create_experiment(name))

    def log(self, round: int, values: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        if round > self._told:
            now = int(1000 * time.time())
            self._client.log_batch(self._run, [Metric(_name(key), value, now, round) for key, value in values.items()])

    def picture(self, round: int, name: str, path: Path) -> None:
        if round > self._told:
            self._client.log_artifact(self._run, str(path), name)

    def finish(self, failed: bool) -> None:
        self._client.set_terminated(self._run, "FAILED" if failed else "FINISHED")


def _name(key: str) -> str:
    """Of the characters that MLflow allows."""
    return re.sub(r"[^\w\-./ ]", "_", key)
