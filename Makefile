# `make demo` and `make test` are all that a fresh machine with Python 3.11 needs: .venv is made when it is missing.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export OMP_NUM_THREADS ?= 1

.PHONY: demo test chaos check audit fuzz bench format clean

demo: $(STAMP)
	$(BIN)/vp-ray demo

test: $(STAMP)
	$(BIN)/python -m pytest --numprocesses 2 --dist loadscope --no-loadscope-reorder $(PYTEST_ARGS)

chaos: $(STAMP)
	$(BIN)/python -m pytest -m chaos $(PYTEST_ARGS)

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/bandit --quiet --recursive vp_ray --configfile pyproject.toml --severity-level medium
	$(BIN)/python .ci/audit.py

audit: $(STAMP)
	$(BIN)/python .ci/audit.py

# Each parser for so long, by coverage; a finding is written to a file in build/fuzz and ends the command.
FUZZ_SECONDS ?= 60
fuzz: $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt '.[fuzz]' || echo "atheris cannot be installed here"
	for target in reply image manifest job; do \
	  mkdir -p build/fuzz/$$target && $(BIN)/python tests/fuzz/parsers.py $$target -max_total_time=$(FUZZ_SECONDS) \
	    -artifact_prefix=build/fuzz/ build/fuzz/$$target || exit 1; \
	done

bench: $(STAMP)
	$(BIN)/python benchmarks/run_all.py

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# torch comes first and alone: unpinned, another package would pull a CUDA build of several gigabytes.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(STAMP)

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache
