# make demo   train, attack and correct, on real images, and show the table and the picture
# make test   everything CI checks
# Both set up a virtual environment of their own in .venv first. BACKEND=torch or jax runs the demo on another backend.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BACKEND ?= tensorflow
DATASET ?= digits

.PHONY: demo test lint types layers pytest parity-files clean

demo: $(VENV)/demo-$(BACKEND)
	KERAS_BACKEND=$(BACKEND) $(BIN)/demur demo --dataset $(DATASET)

test: lint types layers pytest

lint: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/dev
	$(BIN)/mypy

layers: $(VENV)/dev
	$(BIN)/lint-imports

# Keras fixes its backend when it is imported: one process a backend.
pytest: $(VENV)/dev
	KERAS_BACKEND=tensorflow $(BIN)/pytest
	KERAS_BACKEND=jax $(BIN)/pytest tests/contract tests/parity
	KERAS_BACKEND=torch $(BIN)/pytest tests/contract tests/parity

$(VENV)/bin/pip:
	$(PYTHON) -m venv $(VENV)

$(VENV)/demo-tensorflow: pyproject.toml | $(VENV)/bin/pip
	$(BIN)/pip install --quiet --editable '.[demo,tensorflow-cpu]'
	touch $@

$(VENV)/demo-jax: pyproject.toml | $(VENV)/bin/pip
	$(BIN)/pip install --quiet --editable '.[demo,jax]'
	touch $@

# This exact version of PyTorch is the one whose CPU build pip can find by itself on some machines.
$(VENV)/demo-torch: pyproject.toml | $(VENV)/bin/pip
	$(BIN)/pip install --quiet torch==2.13.0
	$(BIN)/pip install --quiet --editable '.[demo,torch]'
	touch $@

$(VENV)/dev: pyproject.toml | $(VENV)/bin/pip
	$(BIN)/pip install --quiet torch==2.13.0
	$(BIN)/pip install --quiet --editable '.[dev,tensorflow-cpu,jax,torch]'
	touch $@

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
