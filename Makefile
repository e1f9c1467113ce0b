# Everything a person or a CI machine runs. Each target does its own set-up.
SHELL  := /bin/bash
RECIPE ?= solar
STUDIO ?= scripted
NAME   ?=
VENV   := .venv
STUDIO_VENV := .venv-label-studio
BIN    := $(VENV)/bin
UV     := $(shell command -v uv 2>/dev/null || echo .bootstrap/bin/uv)
PYTHON_VERSION := >=3.11,<3.14

export VISIONLOOP_UV := $(UV)
export VISIONLOOP_LABEL_STUDIO ?= $(abspath $(STUDIO_VENV)/bin/label-studio)

.DEFAULT_GOAL := help
.PHONY: help install demo test test-all check format up down bench lock docs clean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(VENV)/.installed  ## make .venv from the lock (finds uv or brings it)

demo: $(VENV)/.installed $(STUDIO_VENV)/.installed  ## run the whole ring (RECIPE=solar|pcb|solar-full, STUDIO=scripted|human)
	$(BIN)/visionloop demo --recipe $(RECIPE) --studio $(STUDIO)

test: $(VENV)/.installed $(STUDIO_VENV)/.installed  ## the tests (15 minutes or less on two cores)
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder --durations=15

test-all: $(VENV)/.installed $(STUDIO_VENV)/.installed  ## the tests and the slow ones
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder -m "slow or not slow"

check: $(VENV)/.installed  ## lint, format, types, layers, architecture
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy core/src data/src labeling/src training/src evaluation/src serving/src monitoring/src pipelines/src
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/architecture

format: $(VENV)/.installed  ## let ruff rewrite the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

up: $(VENV)/.installed $(STUDIO_VENV)/.installed  ## Label Studio with drafts, MLflow, report; makes a project first if there is none (RECIPE=)
	$(BIN)/visionloop up --recipe $(RECIPE)

down: $(VENV)/.installed  ## stop what `make up` started
	$(BIN)/visionloop down --recipe $(RECIPE)

bench: $(VENV)/.installed  ## measure: NAME=ring runs benchmarks/ring.py, without NAME all short ones
	@set -e; for name in $(or $(NAME),$(shell sed -n 's/^# short: //p' benchmarks/README.md)); do \
	  echo "== benchmarks/$$name.py"; $(BIN)/python benchmarks/$$name.py; done

lock: $(UV)  ## compile the locks again after a change of pyproject.toml
	$(UV) pip compile pyproject.toml --extra all --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --upgrade -q -o locks/all.txt
	$(UV) pip compile pyproject.toml --extra edge --override locks/edge-overrides.txt --universal --python-version 3.10 --generate-hashes --no-annotate --no-header --upgrade -q -o locks/edge.txt
	$(UV) pip compile locks/label-studio.in --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --upgrade -q -o locks/label-studio.txt

docs: $(VENV)/.installed  ## write the pages that are generated from the code
	$(BIN)/python docs/generate.py

clean:  ## remove environments, caches and the demo's workspace
	rm -rf $(VENV) $(STUDIO_VENV) .bootstrap workspace benchmarks/results .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

$(VENV)/.installed: locks/all.txt pyproject.toml | $(UV)
	@echo "installing visionloop and what the lock names into $(VENV) (several GB, once)"
	@test -x $(BIN)/python || $(UV) venv -q --python '$(PYTHON_VERSION)' $(VENV)
	$(UV) pip install -q --compile-bytecode --python $(BIN)/python --require-hashes -r locks/all.txt
	$(UV) pip install -q --python $(BIN)/python --no-deps -e .
	@touch $@

$(STUDIO_VENV)/.installed: locks/label-studio.txt | $(UV)
	@echo "installing Label Studio into $(STUDIO_VENV)"
	@test -x $(STUDIO_VENV)/bin/python || $(UV) venv -q --python '$(PYTHON_VERSION)' $(STUDIO_VENV)
	$(UV) pip install -q --compile-bytecode --python $(STUDIO_VENV)/bin/python --require-hashes -r locks/label-studio.txt
	@touch $@

.bootstrap/bin/uv:
	@echo "uv is not installed: bringing it into .bootstrap"
	python3 -m venv .bootstrap
	.bootstrap/bin/pip install -q uv
