# `make help` lists the targets.
PYTHON ?= python3
PORT ?= 8000
BIN := .venv/bin
LOCK := $(BIN)/uv pip compile -q --no-header --generate-hashes --python-version 3.11
TORCH_CPU ?= --torch-backend cpu
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 --dist loadgroup --no-loadscope-reorder
PIP := $(BIN)/python -m pip --disable-pip-version-check -q install

.DEFAULT_GOAL := help
.PHONY: help serve train demo check test coverage lint bench load peers faults fuzz audit lock docker-test bundle clean

help:  ## this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | awk -F'\t' '{printf "  make %-12s %s\n", $$1, $$2}'

serve: .venv/.serve  ## serve labels and slates on http://127.0.0.1:8000 (PORT=… for another)
	$(BIN)/python -m service serve --port $(PORT)

train: .venv/.train  ## install the training side beside the service: `.venv/bin/python -m training --help`
	@echo "installed; $(BIN)/python -m training --help"

check: lint  ## lint, types, import contracts, and every test that starts no process; under three minutes
	$(PYTEST) -m "not slow" $(ARGS)

test: .venv/.test  ## every test; what CI runs after `lint`
	$(PYTEST) $(ARGS)

coverage: .venv/.test  ## every test, and which lines none of them runs; fails below the gate in pyproject.toml
	$(PYTEST) --cov --cov-report=term:skip-covered $(ARGS)

demo: .venv/.serve  ## replay feedback to a running service: labels, and a slate before and after
	$(BIN)/python -m service demo --port $(PORT)

bench: .venv/.serve  ## speed and memory of the service on this machine, as JSON
	$(BIN)/python -m loadtests.bench

load: .venv/.load  ## load at a constant rate, scenario by scenario: table, JSON and pictures; under ten minutes
	$(BIN)/python -m loadtests.load --json loadtests/load.json
	$(BIN)/python -m loadtests.load.pictures loadtests/load.json --to loadtests/pictures

peers: .venv/.serve  ## the same graph and request behind BentoML and LitServe, which it installs, in turn with ours
	$(BIN)/python -m loadtests.peers --json loadtests/peers.json --readme loadtests/README.md

faults: .venv/.serve  ## what breaks, what is answered meanwhile, what is there afterwards; about fifteen minutes
	$(BIN)/python -m loadtests.faults --json loadtests/faults.json

fuzz: .venv/.test  ## 100,000 requests that follow the service's description or break it, counted as JSON
	$(BIN)/python -m tests.fuzz $(ARGS)

lint: .venv/.test  ## formatting, rules, types, and who may import whom
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

audit: .venv/.test  ## dangerous code of ours (bandit), known weaknesses of what serving installs (pip-audit)
	$(BIN)/python -m bandit -q -c pyproject.toml -ll -r service models training loadtests
	$(BIN)/python .ci/audit.py || [ $$? -eq 3 ]  # 3: no advisories to be had here; it has said so

lock: .venv/.test  ## docker/locks: versions and hashes of what images install; TORCH_CPU="--find-links DIR" for wheels you have
	$(LOCK) --universal pyproject.toml --extra cpu -o docker/locks/service-cpu.txt
	$(LOCK) --universal pyproject.toml --extra gpu -o docker/locks/service-gpu.txt
	$(LOCK) --python-platform linux pyproject.toml --extra train --extra cpu $(TORCH_CPU) -o docker/locks/training-cpu.txt
	$(LOCK) --python-platform linux pyproject.toml --extra train --extra cpu -o docker/locks/training-gpu.txt
	$(LOCK) --universal --group image -o docker/locks/image.txt

docker-test: .venv/.test  ## images and the compose topology, built, run, broken and mended; under fifteen minutes
	$(BIN)/python -m loadtests.topology --json docker/deployment.json --write $(ARGS)

bundle: .venv/.test  ## remake the released bundle from KUAIRAND=<folder with the data set> and LIKES_HATES=<folder>, see models/README.md
	$(BIN)/python -m training prepare --dataset kuairand-pure --source $(KUAIRAND) --out runs/data
	$(BIN)/python -m training fit kuairand_objectives --data runs/data --out runs/kuairand_objectives $(if $(LIKES_HATES),--likes-hates $(LIKES_HATES))
	$(BIN)/python -m training export runs/kuairand_objectives --data runs/data

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# Serving needs no torch. `make train` and `make test` add to the same environment.
.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' || \
	  { echo "reelrank needs Python 3.11 to 3.13, $(PYTHON) is $$($(PYTHON) --version); try make PYTHON=python3.12" >&2; exit 2; }
	$(PYTHON) -m venv .venv

.venv/.serve: pyproject.toml | .venv/bin/python
	$(PIP) -e '.[cpu]'
	@touch $@

.venv/.load: pyproject.toml | .venv/bin/python
	$(PIP) -e '.[cpu,pictures]'
	@touch .venv/.serve $@

.venv/.train: pyproject.toml | .venv/bin/python
	$(PIP) -e '.[cpu,train]'
	@touch .venv/.serve $@

.venv/.test: pyproject.toml | .venv/bin/python
	$(PIP) -e '.[cpu,train,dev]'
	@touch .venv/.serve .venv/.load .venv/.train $@
