.PHONY: quickstart test slow parity bench reliability check docs clean
PYTHON ?= python3
BIN := .venv/bin

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
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 -m "not slow"

slow: .venv
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 -m slow

parity: .venv
	X2KIT_WRITE_PARITY=1 X2KIT_REFERENCE= $(BIN)/pytest tests/parity

bench: .venv
	$(BIN)/python -m tests.benchmarks

reliability: .venv
	$(BIN)/python -m tests.reliability

check: .venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: .venv
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:
	rm -rf .venv site .pytest_cache .mypy_cache .ruff_cache .hypothesis
