# `make demo` builds everything on the sample world; `make ui` shows it; `make test` checks it.
SHELL := /bin/bash
PYTHON ?= python3.11
BIN := .venv/bin
export TWIGMA_HOME ?= $(CURDIR)/.twigma
export HF_HUB_OFFLINE ?= 1

.PHONY: demo ui test lint types bench bench-paper drills docs lock clean

demo: .venv/ready
	$(BIN)/twigma demo

ui: .venv/ready
	$(BIN)/twigma ui

test: .venv/ready lint types
	$(BIN)/pytest -n 2 --dist loadscope --no-loadscope-reorder

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/ready
	$(BIN)/mypy

# ours beside peers, which get environments of their own; docs/performance.md
bench: .venv/ready
	$(BIN)/python -m benchmarks.download
	$(BIN)/python -m benchmarks.embed
	$(BIN)/python -m benchmarks.analysis
	$(BIN)/python -m benchmarks.memory
	$(BIN)/python -m benchmarks.startup
	$(BIN)/python -m benchmarks.months

# each asset on 10,000, 80,000 and 805,650 pictures: hours, and 10 GB below $TMPDIR
bench-paper: .venv/ready
	$(BIN)/python -m benchmarks.paper_size

# what is tried to break it, in full; docs/reliability.md
drills: .venv/ready
	DRILLS=full $(BIN)/pytest -n0 -s -o timeout=0 tests/drills tests/dagster/test_real.py

.venv/ready: requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 is needed: set PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -m venv .venv || { echo "python3.11-venv is missing: apt-get install python3.11-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep -om1 '^uv==[^ ]*' requirements.lock)"
	$(BIN)/uv pip sync --quiet --compile-bytecode --python $(BIN)/python --require-hashes requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

docs: .venv/ready
	$(BIN)/python -m twigma_dagster.docs

lock:
	uv pip compile pyproject.toml --group dev --all-extras --python-version 3.11 --generate-hashes --universal \
	  --no-emit-index-url --custom-compile-command "make lock" --quiet -o requirements.lock

clean:
	rm -rf .venv .twigma
