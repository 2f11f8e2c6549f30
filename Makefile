# What a newcomer types. Each target does its own set-up in .venv.

SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check

.DEFAULT_GOAL := help

.PHONY: help
help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F'\t' '{ printf "  make %-12s %s\n", $$1, $$2 }'

$(INSTALLED): pyproject.toml constraints.txt
	@echo "setting up $(VENV) (the first time this takes some minutes)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: Python 3.11 or newer is needed (set PYTHON=...)"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) install --quiet --upgrade "pip>=25.1"
	@$(PIP) install --quiet --constraint constraints.txt --editable ".[all]" --group dev
	@touch $@

.PHONY: setup
setup: $(INSTALLED) ## install everything into .venv

.PHONY: demo
demo: $(INSTALLED) ## train, push, pull, fuse and browse, in a few minutes (DATA=<folder> TARGET=<task> for other data)
	@$(BIN)/python -m adapterhub_training.demo $(if $(DATA),--data "$(DATA)") $(if $(TARGET),--target "$(TARGET)")

.PHONY: test
test: $(INSTALLED) ## run the whole suite, with PostgreSQL and S3 where they can be started
	@OMP_NUM_THREADS=1 $(BIN)/python tests/services.py -- $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile $(ARGS)

.PHONY: check
check: $(INSTALLED) ## lint, format, types and layers
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@PYTHONPATH=client:registry:training $(BIN)/lint-imports

.PHONY: bench
bench: $(INSTALLED) ## print the benchmark tables (ratios, side by side in one run)
	@$(BIN)/python -m pytest -m benchmark -s -q tests/benchmarks

.PHONY: screenshots
screenshots: $(INSTALLED) ## take a picture of every page into screenshots/ (ONLY=<part of a name>)
	@OMP_NUM_THREADS=1 $(BIN)/python -m tests.screenshots screenshots $(if $(ONLY),--only $(ONLY))

.PHONY: upgrade
upgrade: ## take the newest version of everything but torch, and write constraints.txt anew
	@grep -E '^(#|torch==)' constraints.txt > constraints.new
	@$(PIP) install --quiet --upgrade --upgrade-strategy eager --constraint constraints.new --editable ".[all]" --group dev
	@$(PIP) freeze --exclude-editable --exclude pip --exclude setuptools | grep -v '^torch==' >> constraints.new
	@mv constraints.new constraints.txt

.PHONY: wheel
wheel: $(INSTALLED) ## build the wheel into dist/
	@$(BIN)/python -m build --wheel --outdir dist .

.PHONY: clean
clean: ## remove what was built, but not .venv
	@rm -rf dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .demo
