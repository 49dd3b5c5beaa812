.PHONY: quickstart test test-fast test-alone test-oldest slow parity bench gpu reliability release check docs clean
PYTHON ?= python3
BIN := .venv/bin
# order of the tests; another one: make test SEED=7
SEED ?= 1
AREAS = $(sort $(patsubst tests/%/,%,$(dir $(wildcard tests/*/test_*.py tests/*/*/test_*.py))))

.venv: pyproject.toml constraints.txt
	@echo "installing x2kit and its dependencies into .venv: some minutes, as torch is large"
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch .venv

quickstart: .venv
	$(BIN)/x2kit train quickstart/multilingual --run-dir runs/quickstart --restart
	$(BIN)/x2kit evaluate runs/quickstart --split test
	$(BIN)/x2kit report runs/quickstart

test: .venv
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist worksteal --randomly-seed=$(SEED) -m "not slow"

# the tests of one folder but the fuzz tests, and the architecture: make test-fast AREA=data/sources
test-fast: .venv
	@test -d "tests/$(AREA)" -a -n "$(AREA)" || { echo "AREA is a folder of tests/: $(AREAS)"; exit 2; }
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto -m "not slow" --ignore-glob="*/test_fuzz_*" tests/$(AREA) tests/test_architecture.py

test-alone: .venv
	$(BIN)/python -m tests.alone $(FILES)

slow: .venv
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist worksteal -p no:randomly -m slow

parity: .venv
	X2KIT_WRITE_PARITY=1 X2KIT_REFERENCE= $(BIN)/pytest tests/parity

bench: .venv
	$(BIN)/python -m tests.benchmarks

# on a machine with a CUDA device: the base model in bf16, alone, against the plain formulation and on all devices;
# writes a section of docs/results/speed.md, and a trace and all numbers to runs/gpu
gpu: .venv
	$(BIN)/python -m tests.benchmarks gpu

reliability: .venv
	$(BIN)/python -m tests.reliability

# builds dist/, installs the wheel in a new environment and uses it there; uploads nothing
release: .venv
	$(BIN)/python -m tests.release

# the lower bounds of pyproject.toml, in an environment of their own
OLDEST = .venv-oldest
OLDEST_TESTS ?= tests/model tests/inference tests/interop tests/plugins tests/upgrade
$(OLDEST): pyproject.toml constraints-oldest.txt
	$(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/pip install --disable-pip-version-check -c constraints-oldest.txt -e ".[quickstart,datasets,s3,gzip,tiff,tensorboard,wandb,mlflow,search,faiss,qdrant,demo,export,schedulefree]" pytest pytest-xdist pytest-randomly hypothesis
	@touch $(OLDEST)

test-oldest: $(OLDEST)
	OMP_NUM_THREADS=1 $(OLDEST)/bin/pytest -n auto --randomly-seed=$(SEED) -m "not slow" --ignore-glob="*/test_fuzz_*" --ignore-glob="*/test_browser.py" $(OLDEST_TESTS)

check: .venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: .venv
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:
	rm -rf .venv $(OLDEST) dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis
