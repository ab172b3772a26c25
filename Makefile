# Everything works inside .venv/, which the first target run makes.
# `make help` lists the targets; BUILD.md explains them.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
OUT ?= out
export PIP_DISABLE_PIP_VERSION_CHECK = 1
# XLA and TensorFlow log start-up details on standard error.
export TF_CPP_MIN_LOG_LEVEL ?= 2

.PHONY: help setup demo test test-fast lint format bench edge-wheel lock clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' Makefile | sed 's/:.*## /\t/' | expand -t 14

setup: $(READY)  ## make .venv with everything for tests and export

$(READY): pyproject.toml requirements.lock
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) not found; install Python 3.11 or give PYTHON=/path/to/it" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo 'installing into $(VENV)/ (about 2 GB, a few minutes the first time)'
	$(BIN)/python -m pip install --quiet --no-deps -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

demo: $(READY)  ## train, export and recognise: the whole path in minutes
	$(BIN)/python -m experiments.demo --out=$(OUT)/demo

test: $(READY)  ## all tests
	$(BIN)/python -m pytest -n 2 --dist=loadfile

test-fast: $(READY)  ## the tests that take seconds
	$(BIN)/python -m pytest -n 2 --dist=loadfile -m 'not slow'

lint: $(READY)  ## ruff, as CI runs it
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(READY)  ## let ruff rewrite the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)  ## training speed against Keras, in one run
	$(BIN)/python -m experiments.benchmark training

edge-wheel: $(READY)  ## the device wheel in dist/
	$(BIN)/python packaging/edge/build.py --out dist

lock: $(READY)  ## write requirements.lock from what .venv holds now
	$(BIN)/python -m pip freeze --all --exclude-editable | grep -v -i '^\(fer-jax\|-e \)' > requirements.lock

clean:  ## remove what the other targets made
	rm -rf $(VENV) $(OUT) dist build *.egg-info
