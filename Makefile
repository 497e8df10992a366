# The two commands of the README: `make demo` and `make test`. Each sets up what it needs, once.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

.PHONY: demo test test-all lint types contracts format benchmark-environment clean
.DELETE_ON_ERROR:

$(VENV)/created:
	$(PYTHON) -c 'import sys; sys.exit("cloister needs Python 3.11 or newer, this is %d.%d" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/installed: $(VENV)/created constraints.txt pyproject.toml
	$(PIP) --editable '.[all]'
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(PIP) $$($(BIN)/python .ci/dependency_group.py dev)
	touch $@

$(VENV)/installed-benchmark: $(VENV)/installed-dev
	$(PIP) $$($(BIN)/python .ci/dependency_group.py benchmark)
	touch $@

demo: $(VENV)/installed
	$(BIN)/cloister demo --out demo

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/installed-dev
	$(BIN)/mypy

contracts: $(VENV)/installed-dev
	$(BIN)/lint-imports

# One thread per worker: two workers on two cores are faster than one worker with two threads.
test: lint types contracts
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/pytest -n 2 -q

test-all: lint types contracts
	HYPOTHESIS_PROFILE=exploring OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/pytest -n 2 -q -m 'slow or not slow' --timeout 3600

benchmark-environment: $(VENV)/installed-benchmark

format: $(VENV)/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) demo
