# `make demo` and `make test` are all a newcomer needs: they make .venv and install what is missing.
# A system without `python3` >= 3.11 on the PATH: make demo PYTHON=/path/to/python3.12

PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$python"; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo up test check bench clean
.DEFAULT_GOAL := help

.PHONY: help
help:
	@echo "make demo    a conversation through queue, worker, agents and stream; ends by itself"
	@echo "make up      the same stack left running: gateway, playground, Flower; Ctrl-C ends it"
	@echo "make test    checks and tests; lists what it had to leave out"
	@echo "make check   format, lint, types, layers"
	@echo "make bench   figures beside a baseline of the same run"
	@echo "make clean   removes .venv, caches and the data of 'make up'"

# The stamp is newer than pyproject.toml exactly when what it asks for is installed.
$(STAMP): pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: install it, or give PYTHON=/path/to/python" >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || \
		{ echo "making $(VENV) with $(PYTHON) …" >&2; "$(PYTHON)" -m venv --clear $(VENV); }
	@echo "installing what pyproject.toml asks for into $(VENV) (a minute when nothing is cached) …" >&2
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: $(STAMP)
	@$(BIN)/chatkit-workers demo

up: $(STAMP)
	@exec $(BIN)/chatkit-workers up

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy deploy/examples/*.py
	$(BIN)/lint-imports

# Tests mostly wait (for leases, restarts, processes), so more of them run at once than there are cores; a file stays
# together. In the order of the folders, so that the many small ones of unit/ come last and fill what the long ones leave.
# Those that promise something within seconds come after the others.
test: check test-untimed test-timed

.PHONY: test-untimed test-timed
test-untimed: $(STAMP)
	$(BIN)/python -m pytest -m "not timed" --numprocesses 3 --dist loadfile --no-loadscope-reorder

test-timed: $(STAMP)
	$(BIN)/python -m pytest -m timed --numprocesses 3 --dist loadfile --no-loadscope-reorder

bench: $(STAMP)
	$(BIN)/python -m tests.bench

clean:
	rm -rf $(VENV) .chatkit .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
