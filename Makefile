# `make demo` and `make test` do all their own set-up; `make help` lists the rest.
.NOTPARALLEL:
.DEFAULT_GOAL := help
SHELL := /bin/sh

MEMMIG_VENV ?= .venv
export MEMMIG_VENV
PYTHON = "$(MEMMIG_VENV)/bin/python"
# The crash tests wait for servers and processes most of the time: three workers keep two processors busy. A Memgraph of the
# user's own is one for all tests, so they run one after another.
WORKERS ?= $(if $(MEMMIG_TEST_MEMGRAPH_URI),1,3)
# One file's tests stay on one worker, so that a server is started once for them.
PYTEST = MEMMIG_CLIENT_PYTHON="$$(sh tools/client.sh)" $(PYTHON) -m pytest -n $(WORKERS) --dist loadfile

.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' Makefile | while IFS="$$(printf '\t')" read -r name text; do \
	    printf '  make %-12s %s\n' "$$name" "$$text"; done

.PHONY: demo
demo: ## the main job on a sample store: migrate, look at the journal, take it back
	@sh tools/environment.sh demo
	@$(PYTHON) -m migrator demo

.PHONY: environment
environment:
	@sh tools/environment.sh test

.PHONY: test
test: environment lint typecheck ## style, types, import directions, and the whole suite on real engines
	@$(PYTEST) $(ARGS)

.PHONY: test-long
test-long: environment ## what takes minutes: crash sweeps, large stores
	@$(PYTEST) --dist load -m long $(ARGS)

.PHONY: sweep
sweep: environment ## kill processes at every pair of steps, on every kind of target: hours
	@MEMMIG_SWEEP_STEP="$${MEMMIG_SWEEP_STEP:-1}" $(PYTEST) --dist worksteal -m long tests/crash/test_sweep.py $(ARGS)

.PHONY: test-servers
test-servers: environment ## what needs a Memgraph, on servers of compose.yaml (needs Docker)
	@MEMMIG_REQUIRE_ENGINES=memgraph sh tools/servers.sh $(PYTHON) -m pytest -m "" -k memgraph $(ARGS)

.PHONY: mutation
mutation: environment ## seed bugs into a copy, one at a time: the suite that is named for each must turn red
	@$(PYTHON) -m tools.mutation $(ARGS)

.PHONY: bench
bench: environment ## speed and memory, printed as a table
	@$(PYTHON) bench/run.py --small $(ARGS)

.PHONY: lint
lint: environment ## ruff (all rules), formatting, import directions
	@$(PYTHON) -m ruff check
	@$(PYTHON) -m ruff format --check --quiet
	@"$(MEMMIG_VENV)/bin/lint-imports" --no-logo

.PHONY: typecheck
typecheck: environment ## mypy --strict
	@$(PYTHON) -m mypy

.PHONY: fmt
fmt: environment ## format, and fix what can be fixed safely
	@$(PYTHON) -m ruff format
	@$(PYTHON) -m ruff check --fix

.PHONY: docs
docs: environment ## write the generated pages of docs/reference anew
	@$(PYTHON) -m tools.reference

.PHONY: clean
clean: ## remove what the tools made, the environment included
	@[ ! -f "$(MEMMIG_VENV)/pyvenv.cfg" ] || rm -rf "$(MEMMIG_VENV)"
	@rm -rf build dist memmig-demo .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .benchmarks
	@find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
