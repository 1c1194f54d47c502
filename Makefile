PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

RUNS   ?= results/example
SITE   ?= site

.PHONY: bench test site lint clean

bench: $(READY)  ## measure everything that conforms; leaves an HTML report
	$(BIN)/python -m pytest suites --benchmark

test: lint  ## check the code, then Assay itself, then the frameworks
	$(BIN)/python -m pytest tests -n auto --dist worksteal
	$(BIN)/python -m pytest suites --self-test --strict-deviations
	$(BIN)/python -m pytest suites/conformance/test_operations.py --strict-deviations \
	  --isa avx2 --adapters torch_eager -k "conv or gelu or dense or matmul or attention or lstm"

site: $(READY)  ## a site from stored runs: make site RUNS=results/runs SITE=public
	$(BIN)/python -m reports $(RUNS) -o $(SITE)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV)

# made again only when what it is made from changes
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[all,dev]'
	touch $@
