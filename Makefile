# The few commands of this repository; each makes .venv itself.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed

.PHONY: help demo demo-short test lint bench clean
help:            ## Show these commands
	@grep -E '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 16

demo: $(INSTALLED)       ## Run the main job on this machine, some 5 minutes on idle cores: demo-output/
	$(BIN)/python examples/demo.py --out demo-output

demo-short: $(INSTALLED) ## The same with less of everything, about a minute: what CI runs
	$(BIN)/python examples/demo.py --out demo-output/short --short

test: $(INSTALLED)       ## Run the whole test suite
	$(BIN)/python -m pytest -n 2

lint: $(INSTALLED)       ## ruff and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(INSTALLED)      ## Run the benchmarks on this machine
	for name in throughput predictors latency_loss one_path scale agreement repeatability tensorrt_build gate; do $(BIN)/python -m benchmarks.$$name || exit 1; done

clean:           ## Remove what these commands made
	rm -rf $(VENV) demo-output

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "latbench needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[all,tensorrt-rtx,openvino,mnn,dev]'
	touch $@
