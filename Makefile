# make demo   train, attack and correct, on real images, and show the table and the picture
# make quick  what to run all day: units, properties and the first case of each contract test that is not slow, on TensorFlow
# make test   what CI checks: the contract with all cases on TensorFlow, the first that is not slow on JAX and PyTorch; programs, server
# make nightly  the rest: the contract with all cases on JAX and PyTorch, every training step traced on TensorFlow; what is marked `nightly`
# make docs   the documentation, as a site in ./site that needs no server
# make bench  the measurements that the documentation shows
# make examples  the code of the tutorials and the examples, in full
# make adapters  the adapters for Spark (which needs Java) and Ray, on these engines
# All set up a virtual environment of their own in .venv first. BACKEND=torch or jax runs the demo on another backend.

# Without it each process would compile Keras and TensorFlow anew: 20 seconds, in tests that start a hundred.
unexport PYTHONDONTWRITEBYTECODE

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BACKEND ?= tensorflow
DATASET ?= digits

.PHONY: demo test docs bench examples adapters lint types layers pytest pytest-programs pytest-tensorflow pytest-jax pytest-torch quick nightly quick-units quick-contract nightly-programs nightly-tensorflow nightly-jax nightly-torch faults clean

demo: $(VENV)/demo-$(BACKEND)
	KERAS_BACKEND=$(BACKEND) $(BIN)/demur demo --dataset $(DATASET)

# The longest first, so that two streams end together.
test: pytest lint types layers

# On a quiet machine; rewrites docs/results, and the tables that are made from it. Takes about an hour; the server's needs Debian's wrk.
bench: $(VENV)/dev
	KERAS_BACKEND=tensorflow $(BIN)/python benchmarks/speed.py
	KERAS_BACKEND=tensorflow $(BIN)/python benchmarks/runtime.py
	KERAS_BACKEND=tensorflow $(BIN)/python benchmarks/serve.py
	KERAS_BACKEND=tensorflow $(BIN)/python benchmarks/training_step.py
	KERAS_BACKEND=tensorflow $(BIN)/python benchmarks/growth.py
	KERAS_BACKEND=tensorflow $(BIN)/python benchmarks/pipeline.py
	for b in tensorflow jax torch; do KERAS_BACKEND=$$b $(BIN)/python benchmarks/cold_start.py || exit 1; done
	for b in tensorflow jax torch; do KERAS_BACKEND=$$b $(BIN)/python benchmarks/upsampling.py || exit 1; done
	KERAS_BACKEND=torch $(BIN)/python benchmarks/torch_fit.py
	KERAS_BACKEND=tensorflow $(BIN)/python benchmarks/memory.py
	KERAS_BACKEND=tensorflow $(BIN)/python benchmarks/ties.py
	KERAS_BACKEND=tensorflow $(BIN)/python benchmarks/false_positive_rate.py
	for p in throughput kills memory; do KERAS_BACKEND=tensorflow $(BIN)/python benchmarks/batch.py $$p || exit 1; done
	$(BIN)/python benchmarks/several_devices.py
	$(BIN)/python tools/tables.py

# Half a gigabyte of Spark and Ray: not part of `make test`, which skips what needs them.
adapters: $(VENV)/adapters
	KERAS_BACKEND=tensorflow $(BIN)/pytest -p no:cacheprovider tests/e2e/test_batch_adapters.py

# Rewrites docs/results/tutorial-*.json, example-*.json and harmful-drift-*.json. Takes about half an hour; needs chromium.
examples: $(VENV)/examples
	$(BIN)/python tools/pictures/tutorials.py
	$(BIN)/python examples/onnx_file.py --out docs/results/example-onnx_file.json
	for d in fashion_mnist cifar10; do $(BIN)/python examples/harmful_drift_cifar10.py --dataset $$d \
		--out docs/results/harmful-drift-$$d.json --plot docs/images/harmful-drift-$$d.png || exit 1; done
	$(BIN)/python tools/tables.py

# Neither a server nor a network is needed to read it: open site/index.html. Not --quiet, which would hide warnings from strict mode.
docs: $(VENV)/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "written to site/index.html"

lint: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/dev
	$(BIN)/mypy

layers: $(VENV)/dev
	$(BIN)/lint-imports

# Keras fixes its backend when it is imported: one process a backend. `make -j2 test` runs two of them at once.
pytest: pytest-tensorflow pytest-programs pytest-jax pytest-torch

PYTEST := $(BIN)/pytest -p no:cacheprovider
DAILY := -m "not nightly"
QUICK := -m "not nightly and not slow"

# The programs, the server and what needs no network, on TensorFlow.
pytest-programs: $(VENV)/dev
	KERAS_BACKEND=tensorflow $(PYTEST) $(DAILY) tests/unit tests/properties tests/serve tests/e2e

pytest-tensorflow: $(VENV)/dev
	KERAS_BACKEND=tensorflow $(PYTEST) $(DAILY) tests/contract tests/parity

pytest-jax pytest-torch: pytest-%: $(VENV)/dev
	KERAS_BACKEND=$* $(PYTEST) $(QUICK) --first tests/contract tests/parity

# Both at once: on two cores they take as long as the longer one.
quick: $(VENV)/dev
	$(MAKE) --no-print-directory -j2 --output-sync=target quick-contract quick-units

quick-contract: $(VENV)/dev
	KERAS_BACKEND=tensorflow $(PYTEST) $(QUICK) --first tests/contract

quick-units: $(VENV)/dev
	KERAS_BACKEND=tensorflow $(PYTEST) $(QUICK) tests/unit tests/properties

nightly: nightly-programs nightly-tensorflow nightly-jax nightly-torch

# Needs a network and Debian's chromium. Some tests make environments of their own in .venv.
nightly-programs: $(VENV)/dev
	KERAS_BACKEND=tensorflow $(PYTEST) -m nightly tests/unit tests/properties tests/serve tests/e2e

nightly-tensorflow: $(VENV)/dev
	KERAS_BACKEND=tensorflow $(PYTEST) --traced tests/contract tests/parity

nightly-jax nightly-torch: nightly-%: $(VENV)/dev
	KERAS_BACKEND=$* $(PYTEST) tests/contract tests/parity

# Breaks a copy of the library in a dozen ways, and shows which tests of `make test` notice.
faults: $(VENV)/dev
	$(BIN)/python tools/planted_faults.py

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

$(VENV)/examples: pyproject.toml | $(VENV)/bin/pip
	$(BIN)/pip install --quiet torch==2.13.0
	$(BIN)/pip install --quiet --editable '.[examples,tensorflow-cpu,torch]'
	touch $@

$(VENV)/adapters: $(VENV)/dev
	$(BIN)/pip install --quiet --editable '.[ray,spark]'
	touch $@

# Signatures are broken into lines by ruff.
$(VENV)/docs: pyproject.toml | $(VENV)/bin/pip
	$(BIN)/pip install --quiet --editable '.[docs]' ruff
	touch $@

# uv installs in seconds what takes pip minutes; PyTorch's CPU build only pip finds. Where uv cannot, pip does it all.
$(VENV)/dev: pyproject.toml | $(VENV)/bin/pip
	$(BIN)/pip install --quiet torch==2.13.0
	{ $(BIN)/pip install --quiet uv && $(BIN)/uv pip install --quiet --python $(BIN)/python \
		--editable '.[dev,tensorflow-cpu,jax,torch]' 'tensorflow-cpu>=2.21'; } || \
		$(BIN)/pip install --quiet --editable '.[dev,tensorflow-cpu,jax,torch]'
	touch $@

clean:
	rm -rf $(VENV) build dist site .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
