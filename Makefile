# make demo: the embedded demo, start to report. make test: lint, then every test. Each sets up .venv first.
SHELL := /bin/bash
PYTHON ?= python3
CORES ?= $(shell nproc)
BIN := .venv/bin
UV_VERSION := 0.13.8
SHEST_KIT ?= $(abspath ../shared/data/kit)
export SHEST_KIT
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help demo kit bench package apply check fetch figures cache-info benchmark-tiles benchmark-embed benchmark-train benchmark-evaluate benchmark-segment benchmark-nuclei benchmark-apply benchmark-viewer test test-unit test-workflow test-cluster test-environments docs lint format lock clean

help:  ## say what can be made
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 20

# Installed again when the lock has changed; the stamp is written last, so a broken install is not taken for one.
# Compiled at once: every job is a Python of its own, and where nothing may be written, each would compile it again.
.venv/installed: requirements.txt pyproject.toml
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if v == (3, 11) else f"Python 3.11 is needed, this is {v}: make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	VIRTUAL_ENV=$(CURDIR)/.venv $(BIN)/uv pip install --system-certs --compile-bytecode --require-hashes --requirement requirements.txt
	VIRTUAL_ENV=$(CURDIR)/.venv $(BIN)/uv pip install --system-certs --no-deps --editable .
	touch $@

demo: .venv/installed  ## run the embedded demo to results/report.html
	snakemake --cores $(CORES) --rerun-incomplete

kit: .venv/installed  ## run the bundles of SHEST_KIT to results/kit/report.html
	snakemake --cores $(CORES) --rerun-incomplete --configfile config/kit.yaml

CONFIG ?= config/config.yaml
package: .venv/installed  ## pack the trained systems of CONFIG into packages/, to be used on another machine
	snakemake packages --cores $(CORES) --rerun-incomplete --configfile $(CONFIG)

apply: .venv/installed  ## predict the slides of config/apply.yaml with its package
	snakemake --cores $(CORES) --rerun-incomplete --configfile config/apply.yaml

bench: CONFIG = config/bench.yaml
bench: .venv/installed  ## every system on the demo's tissue, side by side, or on that of CONFIG
	snakemake --cores $(CORES) --rerun-incomplete --configfile $(CONFIG)

check: .venv/installed  ## look into every input file of CONFIG, say all problems and what the run will need
	@python -m shest.run.check $(CONFIG)

fetch: .venv/installed  ## fetch the public data and the weights that CONFIG names
	snakemake fetch --cores $(CORES) --rerun-incomplete --configfile $(CONFIG)

figures: .venv/installed  ## draw all figures and tables of CONFIG again, from the results that are there
	snakemake figures --allowed-rules figures figure tables --forcerun figure tables --cores $(CORES) --rerun-incomplete --configfile $(CONFIG)

CACHE ?= results/cache
cache-info: .venv/installed  ## list what the embedding cache holds and which run uses it
	python -m shest.encode.cache_info $(CACHE) $(wildcard results results/kit results/paper results/bench results/bench-kit)

benchmark-tiles: .venv/installed  ## quadruple tiles against the direct transcription
	cd tests && python -m benchmark.tiles

benchmark-embed: .venv/installed  ## the embedding engine against the bare forward pass
	cd tests && python -m benchmark.embed

benchmark-train: .venv/installed  ## training steps against a direct transcription
	cd tests && OMP_WAIT_POLICY=passive python -m benchmark.train

benchmark-evaluate: .venv/installed  ## evaluation of 300,000 cells and 5,001 genes: time and memory
	cd tests && python -m benchmark.evaluate

benchmark-segment: .venv/installed  ## nuclei of an H&E against a scikit-image pipeline; memory by slide size
	cd tests && python -m benchmark.segment

benchmark-nuclei: .venv/installed  ## a slide's nuclei, types and expression in one pass against crops and morphometrics
	cd tests && OMP_WAIT_POLICY=passive python -m benchmark.nuclei

benchmark-apply: .venv/installed  ## a package on a slide, start to end, against its parts run bare; memory by slide size
	cd tests && python -m benchmark.apply

VIEWER ?= results/benchmark/viewer
benchmark-viewer: .venv/installed  ## a viewer of a million cells: build, size, first view, frames, memory
	cd tests && python -m benchmark.viewer $(abspath $(VIEWER))

lock: .venv/installed  ## resolve requirements.in into requirements.txt
	uv pip compile --system-certs --quiet --generate-hashes --no-header --no-annotate --python-version 3.11 requirements.in --output-file requirements.txt
	python envs/lock.py

docs: .venv/installed  ## write config/README.md, docs/troubleshooting.md and docs/ledger.md from schemas, code and table
	python config/describe.py
	python docs/describe.py

format: .venv/installed  ## format code and rules
	ruff check --fix-only --quiet . ; ruff format . ; snakefmt Snakefile workflow/rules

lint: .venv/installed  ## ruff, the import rule, snakefmt, snakemake --lint
	ruff check .
	ruff format --check .
	lint-imports
	snakefmt --check Snakefile workflow/rules
	snakemake --lint --configfile config/tiny.yaml

test-unit: .venv/installed  ## the library's tests
	OMP_NUM_THREADS=1 pytest tests/unit -n $(CORES) --dist loadfile -m "not slow"

test-workflow: .venv/installed  ## whole runs on small input
	pytest --durations 15 tests/workflow --ignore tests/workflow/test_conda.py

test-cluster: .venv/installed  ## the same on a SLURM that is started for it (as root on Debian)
	pytest --durations 15 tests/cluster

test-environments: .venv/installed  ## the same in the environments of envs/, made by conda or its stand-in
	pytest --durations 15 tests/workflow/test_conda.py

# Whole runs two files at a time: they wait much, for a queue, a disk or their last job.
test: lint .venv/installed  ## lint and every test
	OMP_NUM_THREADS=1 pytest -n $(CORES) --dist loadfile --durations 15 tests/unit
	pytest -n 2 --dist loadfile --no-loadscope-reorder --durations 25 tests/workflow tests/cluster

clean:  ## remove what runs wrote
	rm -rf results .snakemake
