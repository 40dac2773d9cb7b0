# Each target installs what it needs: Python 3.11 or newer, make and access to the package registries are enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.dev-is-installed
DEMO_STAMP := $(VENV)/.demo-is-installed
TRAIN_STAMP := $(VENV)/.train-is-installed
# PyTorch is installed first: as a requirement of another package, pip may choose a build with gigabytes of CUDA.
TORCH ?= torch==2.13.0
# uv takes seconds where pip takes minutes; pip installs where uv cannot (such as with an index that only pip's settings name).
comma := ,
define install
$(BIN)/python -m uv pip install --quiet --python $(BIN)/python --compile-bytecode $(1) || \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check $(1)
endef
PAGE := openreward_gym/viewer/web
PAGE_STAMP := $(PAGE)/node_modules/.package-lock.json
# The page is built with the Node of the virtual environment, so that every machine builds the same bytes.
WITH_NODE := PATH="$(abspath $(BIN)):$$PATH"

# Hundreds of processes of the tests read the same modules: compiled once, they start sooner.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test lint format browser matrix long docs bench clean

help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "openreward-gym needs Python 3.11 or newer; '$(PYTHON)' is older: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv

$(DEMO_STAMP): pyproject.toml | $(BIN)/python
	$(call install,--editable '.[server$(comma)viewer]')
	@touch $@

$(STAMP): pyproject.toml | $(BIN)/python
	$(call install,--editable '.[dev]')
	@touch $@ $(DEMO_STAMP)

$(TRAIN_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile '$(TORCH)'
	$(call install,--editable '.[dev$(comma)train]')
	@touch $@

$(PAGE_STAMP): $(PAGE)/package-lock.json | $(STAMP)
	cd $(PAGE) && $(WITH_NODE) npm ci --silent --no-audit --no-fund
	@touch $@

demo: $(DEMO_STAMP)  ## serve an example, collect rollouts, report on them, export them
	@$(BIN)/openreward-gym demo

test: $(STAMP)  ## run the tests, except those of browser, matrix and long
	$(BIN)/python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder

browser: $(STAMP) $(PAGE_STAMP)  ## test the viewer's page in Chromium
	$(BIN)/python -m pytest --override-ini addopts= -q --numprocesses 2 --dist loadfile tests/viewer/browser

lint: $(STAMP) $(PAGE_STAMP)  ## check with ruff, mypy --strict, the architecture test and the page's build
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

matrix: $(TRAIN_STAMP)  ## test other versions of Gymnasium and of the SDK, and training
	$(BIN)/python -m pytest --override-ini addopts= -q -m "matrix or train" --ignore tests/viewer/browser --timeout 900 \
		--numprocesses 3 --dist worksteal --durations 15

long: $(TRAIN_STAMP)  ## run 500,000 random inputs, and property tests and kill tests with many examples, for over an hour
	@$(BIN)/python tests/fuzzing/run.py --inputs 500000 --workers 3; fuzzed=$$?; \
		OPENREWARD_GYM_LONG=1 $(BIN)/python -m pytest --override-ini addopts= -q -m "not matrix" --ignore tests/viewer/browser \
		--timeout 3600 && exit $$fuzzed

docs: $(STAMP)  ## build the documentation in site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

bench: $(STAMP)  ## list the benchmarks; their docstrings have the results
	@ls benchmarks/*.py | sed 's/^/  $(subst /,\/,$(BIN))\/python /'

clean:  ## remove everything that make created
	rm -rf $(VENV) .venvs $(PAGE)/node_modules build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
