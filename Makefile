# Every target works as the first command after a clone: git, make and Python 3.11 or newer are enough.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
FUZZ_READY := $(VENV)/.ready-fuzz
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet --quiet --no-input
SHELL := /bin/sh

# Of the candidates the first that is new enough; python3.14 last: it is the least tried.
PYTHONS := $(PYTHON) python3.13 python3.12 python3.11 python3.14
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))

# Of each harness: there are some twenty, two at a time, so ten minutes each take an hour and a half or more.
SECONDS ?= 600

.PHONY: help demo test check fuzz bench-peers clean setup requirements

help:
	@echo 'make demo          three replica processes, 100 customers; the primary is killed on the way'
	@echo 'make test          the test suite'
	@echo 'make check         formatting, lint, two type checkers, import layers'
	@echo 'make fuzz          everything that decodes bytes from outside, SECONDS=$(SECONDS) each, two at a time'
	@echo 'make bench-peers   trio_pb, etcd and Redis under the same load; installs the others from packages'
	@echo 'make setup         only the set-up that the others do by themselves (in $(VENV))'
	@echo 'make requirements  pin the newest packages anew into requirements.txt, requirements-fuzz.txt'
	@echo 'make clean         remove $(VENV), caches and lab data'

demo: $(READY)
	@$(BIN)/trio-pb demo

test: $(READY)
	@$(BIN)/python -m pytest

# All of them, even when one fails: one run tells everything.
check: $(READY)
	@failed=; \
	$(BIN)/ruff format --check . || failed=1; \
	$(BIN)/ruff check . || failed=1; \
	$(BIN)/mypy || failed=1; \
	$(BIN)/pyright --warnings || failed=1; \
	$(BIN)/python -m pytest --quiet tests/test_layers.py || failed=1; \
	[ -z "$$failed" ]

fuzz: $(FUZZ_READY)
	@$(BIN)/python -m tests.fuzz --seconds $(SECONDS)

# About a quarter of an hour; the figures go into docs/performance.md.
bench-peers: $(READY)
	@benchmarks/peers/install
	@$(BIN)/python -m benchmarks.peers --write docs/performance.md

setup: $(READY)

# Two calls: pip refuses to check the hash of an editable project, and hashes are all or nothing.
$(READY): requirements.txt pyproject.toml
	@set -e; \
	if ! { [ -x $(BIN)/python ] && $(BIN)/python -c '$(NEW_ENOUGH)' && $(BIN)/python -m pip --version; } \
	    >/dev/null 2>&1; then \
	  found=; \
	  for candidate in $(PYTHONS); do \
	    if $$candidate -c '$(NEW_ENOUGH)' >/dev/null 2>&1; then found=$$candidate; break; fi; \
	  done; \
	  if [ -z "$$found" ]; then \
	    echo 'trio-pb needs Python 3.11 or newer, and none was found.' >&2; \
	    echo 'Install it (Debian, Ubuntu: apt install python3 python3-venv; macOS: brew install python@3.13),' >&2; \
	    echo 'or name one: make PYTHON=/path/to/python3.11' >&2; \
	    exit 1; \
	  fi; \
	  if ! $$found -c 'import ensurepip, venv' >/dev/null 2>&1; then \
	    echo "$$found cannot make virtual environments: its venv package is missing." >&2; \
	    echo 'Install it (Debian, Ubuntu: apt install python3-venv), then run make again.' >&2; \
	    exit 1; \
	  fi; \
	  echo "Setting up $(VENV) with $$($$found --version) ..."; \
	  $$found -m venv --clear $(VENV); \
	else \
	  echo 'Bringing $(VENV) up to date ...'; \
	fi; \
	$(PIP) install --no-compile --require-hashes -r requirements.txt; \
	$(PIP) install --no-deps --no-build-isolation -e .; \
	touch $@

$(FUZZ_READY): requirements-fuzz.txt $(READY)
	@if ! $(PIP) install --no-compile --require-hashes -r requirements-fuzz.txt; then \
	  echo 'There seems to be no atheris for this system: it is built for CPython 3.11 to 3.13 on x86-64 Linux.' >&2; \
	  exit 1; \
	fi; \
	touch $@

requirements: $(READY)
	@$(PIP) install pip-tools
	@for file in requirements requirements-fuzz; do \
	  CUSTOM_COMPILE_COMMAND='make requirements' $(BIN)/pip-compile --quiet --upgrade --generate-hashes \
	    --no-strip-extras --allow-unsafe --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options \
	    --output-file $$file.txt $$file.in || exit 1; \
	done

clean:
	@rm -rf $(VENV) .trio-pb .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage htmlcov build dist
	@find trio_pb sim tests examples -name __pycache__ -type d -prune -exec rm -rf {} +
