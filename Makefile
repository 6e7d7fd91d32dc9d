# Works on a fresh clone with Python 3.11 or newer and make.
PYTHON ?= python3
PIP_FLAGS ?=
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SITE := $(VENV)/.site
CHECKED := $(wildcard src tests examples benchmarks docs/hooks docs/tutorials)
# Compiled code is kept, whatever the user's shell says: tests start many processes.
COMPILED := env -u PYTHONDONTWRITEBYTECODE

RELEASE ?= Unreleased
MESSAGES ?= 10000
FILES ?= 10000
SEED ?= 0

.PHONY: help install run test conformance docs docs-serve docs-check package-check release-notes fuzz lint format clean
.DEFAULT_GOAL := help

help:  ## show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP)  ## make .venv with fedloom and its tools (PYTHON=python3.12 picks a Python)

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "error: $(PYTHON) is older than Python 3.11. Name a newer one: make install PYTHON=python3.12" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --progress-bar off --disable-pip-version-check $(PIP_FLAGS) -e '.[dev]'
	@touch $@

run: install  ## run FedMMKT on the embedded flowers and write its report
	$(BIN)/fedloom run --set engine.workers=2

test: install  ## check everything: format, lint, types, tests
	$(BIN)/ruff format --check $(CHECKED)
	$(BIN)/ruff check --no-cache $(CHECKED)
	@echo "$(BIN)/mypy; meanwhile tests are compiled"
	@$(BIN)/mypy & types=$$!; $(COMPILED) $(BIN)/python -m pytest --collect-only -q >/dev/null 2>&1; wait $$types
	$(COMPILED) $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

conformance: install  ## every method on every real engine: equal numbers (long)
	$(BIN)/python -m pip install --quiet --progress-bar off --disable-pip-version-check $(PIP_FLAGS) -e ".[conformance]"
	$(BIN)/python -m pytest -m conformance

$(SITE): $(STAMP)
	$(BIN)/python -m pip install --quiet --progress-bar off --disable-pip-version-check $(PIP_FLAGS) -e '.[dev,docs]'
	@touch $@

docs: $(SITE)  ## the documentation as a site, build/site/index.html; strict, with the tutorials executed (minutes)
	FEDLOOM_TUTORIALS=run NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

docs-serve: $(SITE)  ## the same while you write, with what `make docs` has executed last
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs serve

docs-check: docs  ## the site, and every command in README and guide, run at smoke size (long)
	$(COMPILED) $(BIN)/python -m pytest -m docs tests/test_guide.py

package-check: install  ## wheel and sdist, tried in an empty environment (downloads; part of conformance)
	$(BIN)/python -m pytest -m conformance tests/test_package.py

release-notes:  ## a version's part of CHANGELOG.md (RELEASE=0.2.0; without: what is not released yet)
	@awk -v version="$(RELEASE)" '/^## /{on = $$2 == version} on' CHANGELOG.md

fuzz: install  ## damaged and hostile inputs for everything that is read (MESSAGES=10000 FILES=10000 SEED=0; minutes)
	cd tests && ../$(BIN)/python -m fuzz --messages $(MESSAGES) --files $(FILES) --seed $(SEED)

lint: install  ## lint and types only
	$(BIN)/ruff check --no-cache $(CHECKED)
	$(BIN)/mypy

format: install  ## put the code in form
	$(BIN)/ruff format $(CHECKED)
	$(BIN)/ruff check --fix $(CHECKED)

clean:  ## remove .venv, caches and build leftovers (never runs/)
	rm -rf $(VENV) build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache
	find $(CHECKED) -name __pycache__ -type d -prune -exec rm -rf {} +
