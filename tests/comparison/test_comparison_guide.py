"""The guide says what is."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import yaml
from typer.main import get_command

from fedloom.cli.main import app
from fedloom.comparison import compare
from fedloom.comparison.measures import MEASURES
from fedloom.comparison.plan import ComparisonPlan
from fedloom.config.trees import validate
from fedloom.tasks import MODALITIES

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "guide" / "comparing.md").read_text(encoding="utf-8")


def test_options_are_there():
    named = set(re.findall(r"`?--([a-z]+)", PAGE))
    options = {name for p in get_command(app).commands["compare"].params for name in p.opts}
    assert {f"--{name}" for name in named} <= options


def test_arguments_are_there():
    told = re.search(r"`fedloom.compare` takes (.*?), and\n", PAGE, re.DOTALL)
    parameters = set(inspect.signature(compare).parameters) - {"watch", "run", "values"}
    assert set(re.findall(r"`(\w+)`", told[1])) == parameters


def test_scores_are_there():
    table = PAGE.split("| score |")[1].split("\n\n")[0]
    told = {name.replace("KIND", kind) for name in re.findall(r"`(\w+)`", table) for kind in MODALITIES}
    # Tests that ran before in this process may have added metrics of their own.
    assert told == {name for name in MEASURES if not name.startswith("metrics.")}


def test_plan_is_valid():
    text = re.search(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[1]
    made = validate(ComparisonPlan, yaml.safe_load(text))
    assert made.rows[2].only == ("images alone",)
