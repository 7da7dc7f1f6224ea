# Everything that is done with this project. `make demo` and `make test` set up whatever they need.

PYTHON ?= python3
BIN    := .venv/bin
STAMP  := .venv/.installed

PLUGINS  := $(wildcard plugins/*)
PROJECTS := pyproject.toml core/pyproject.toml $(PLUGINS:%=%/pyproject.toml)
TYPED    := core/src $(PLUGINS:%=%/src) examples/cipher_chacha/src lab demo bench conftest.py

ROUNDS  ?= 3
SECONDS ?= 4
PEERS   ?= default

TESTS   := $(BIN)/python -m lab $(BIN)/python -m pytest
# pytest ends with 5 when ARGS selects tests of another sort only.
OR_NONE := || [ $$? -eq 5 ]

.PHONY: help install system demo test check lint bench clean

help: ## list what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(STAMP) ## put the program and the tools into .venv (plain pip, all members editable)

$(STAMP): $(PROJECTS)
	@scripts/system build
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e core $(PLUGINS:%=-e %) --group dev
	touch $@

system: ## install the Debian packages that tests and demo need (root), as far as they are missing
	@scripts/system build lab test

demo: install ## watch a hub and six nodes at work, on namespaces of this machine
	@scripts/system lab
	@$(BIN)/python -m demo

test: lint ## run everything that CI runs
	@scripts/system lab test
	$(TESTS) -m "not netns" -n auto $(ARGS) $(OR_NONE)
	$(TESTS) -m "netns and not alone" -n 3 $(ARGS) $(OR_NONE)
	$(TESTS) -m alone $(ARGS) $(OR_NONE)

check: lint ## run the fast part: all but the tests that need namespaces
	$(BIN)/python -m pytest -m "not netns" -n auto $(ARGS)

lint: install
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy $(TYPED)
	$(BIN)/lint-imports

bench: install ## measure all transports beside a plain link and wireguard-go; PEERS=all: and others; ROUNDS=3 SECONDS=4
	@scripts/system lab
	@scripts/system bench $(if $(filter all,$(PEERS)),bench-all) || true
	@$(BIN)/python -m bench --rounds $(ROUNDS) --seconds $(SECONDS) --peers $(PEERS)

clean: ## remove the environment, caches and results
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis bench/results
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
