# Each target makes what it needs: a Python 3.11+, make and a network that reaches the package registries are enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.dev-is-installed
DEMO_STAMP := $(VENV)/.demo-is-installed
TRAIN_STAMP := $(VENV)/.train-is-installed
# PyTorch first, by itself: left to another package's requirements, pip may choose a build with gigabytes of CUDA.
TORCH ?= torch==2.13.0
PAGE := openreward_gym/viewer/web
PAGE_STAMP := $(PAGE)/node_modules/.package-lock.json
# The page is built with the Node that the environment brings, so that every machine builds the same bytes.
WITH_NODE := PATH="$(abspath $(BIN)):$$PATH"

.DEFAULT_GOAL := help
.PHONY: help demo test lint format browser matrix long docs bench clean

help:  ## what there is to make
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "openreward-gym needs Python 3.11 or newer; '$(PYTHON)' is older: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(DEMO_STAMP): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[server]'
	@touch $@

$(STAMP): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ $(DEMO_STAMP)

$(TRAIN_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check '$(TORCH)'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,train]'
	@touch $@

$(PAGE_STAMP): $(PAGE)/package-lock.json | $(STAMP)
	cd $(PAGE) && $(WITH_NODE) npm ci --silent --no-audit --no-fund
	@touch $@

demo: $(DEMO_STAMP)  ## serve, collect, report, export: the whole way on this machine
	@$(BIN)/openreward-gym demo

test: $(STAMP)  ## all tests but those of the targets below
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

browser: $(STAMP) $(PAGE_STAMP)  ## the viewer's page in a real Chromium
	$(BIN)/python -m pytest --override-ini addopts= -q --numprocesses 2 --dist loadfile tests/viewer/browser

lint: $(STAMP) $(PAGE_STAMP)  ## ruff, mypy --strict, import floors, the page and its build
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_architecture.py
	cd $(PAGE) && $(WITH_NODE) npm run --silent check
	cd $(PAGE) && $(WITH_NODE) npm test --silent
	cd $(PAGE) && $(WITH_NODE) npm run --silent build
	git diff --exit-code --stat openreward_gym/viewer/index.html

format: $(STAMP)  ## format the code
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

matrix: $(TRAIN_STAMP)  ## other versions of peers, and training
	$(BIN)/python -m pytest --override-ini addopts= -q -m "matrix or train" --ignore tests/viewer/browser --timeout 900 \
		--numprocesses 2 --dist load --durations 15

long: $(TRAIN_STAMP)  ## properties and kills in numbers that take an hour
	OPENREWARD_GYM_LONG=1 $(BIN)/python -m pytest --override-ini addopts= -q -m "not matrix" --ignore tests/viewer/browser --timeout 3600

docs: $(STAMP)  ## the site, in site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

bench: $(STAMP)  ## the benchmarks there are; their figures stand in their docstrings
	@ls benchmarks/*.py | sed 's/^/  $(subst /,\/,$(BIN))\/python /'

clean:  ## remove what make made
	rm -rf $(VENV) .venvs $(PAGE)/node_modules build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
