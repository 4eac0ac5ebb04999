# Needs Python >= 3.11 and pip; the rest is fetched into .venv at first use, and again when setup.cfg changes.
#   make test ARGS="-k lease"      a selection          make test WORKERS=0      in one process
#   make demo REDIS=redis://...    through Redis        make venv PYTHON=...     another Python
#   make demo WORKERS=4            several processes    ... DATABASE=postgresql+psycopg://... SECONDS=4

VENV    ?= .venv
REDIS   ?=
ARGS    ?=
# Two workers have a Redis each. One server given by URL serves one worker.
# For the demo WORKERS means its processes, and counts only where it was given.
GIVEN   := $(if $(filter undefined,$(origin WORKERS)),,$(WORKERS))
WORKERS ?= $(if $(SQLMODEL_CACHE_TEST_REDIS_URL),0,2)
PYTHON  ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN     := $(VENV)/bin

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "%-9s %s\n", $$1, $$2 }' Makefile

venv: $(VENV)/.demo $(VENV)/.test $(VENV)/.lint $(VENV)/.bench  ## everything into .venv

demo: $(VENV)/.demo  ## real data read and written, with and without the cache
	@REDIS='$(REDIS)' DATABASE='$(DATABASE)' SECONDS='$(SECONDS)' WORKERS='$(GIVEN)' \
		$(BIN)/python -m examples.demo

test: $(VENV)/.test  ## the whole suite, on real servers, with branch coverage
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --cov --cov-report term $(ARGS)

lint: $(VENV)/.lint  ## style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.lint $(VENV)/.test  ## mypy --strict, and pyright on the public face
	$(BIN)/mypy $(wildcard sqlmodel_cache _sqlmodel_cache_pytest.py tests/typing tests/servers tests/recording.py tests/conftest.py)
	$(BIN)/pyright --pythonpath $(BIN)/python $(wildcard sqlmodel_cache/__init__.py sqlmodel_cache/api.py tests/typing)

bench: $(VENV)/.bench  ## each target of the performance table, as a ratio
	$(BIN)/python -m $(if $(PEERS),benchmarks.peers,benchmarks) $(if $(ALL),--all) $(if $(P10),zipf) $(if $(GROWTH),growth)

coherence: $(VENV)/.test  ## the proof that nothing stale is read, in SECONDS=600
	@SECONDS='$(SECONDS)' $(BIN)/python -m tests.coherence

queries: $(VENV)/.test  ## cached queries against a session without cache, in EXAMPLES=50000 from SEED=0
	@QUERIES_EXAMPLES='$(or $(EXAMPLES),50000)' QUERIES_SEED='$(SEED)' QUERIES_URL='$(or $(DATABASE),sqlite://)' QUERIES_LEVEL='$(LEVEL)' $(BIN)/python -m pytest -n 0 --hypothesis-profile=long \
		tests/queries/test_oracle.py -p no:cacheprovider --timeout=0

suites: $(VENV)/.test  ## SQLModel's own tests, without the cache and with every class cached
	@$(BIN)/python -m tests.suites

docs: $(VENV)/.docs  ## the site, into site/index.html; every warning is an error
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs --quiet build && \
		echo "site/index.html; with the search: $(BIN)/python -m http.server -d site"

clean:  ## remove the virtual environments and everything generated
	rm -rf .venv* build dist site *.egg-info .coverage* .hypothesis .pytest_cache .mypy_cache .ruff_cache

# What an extra of setup.cfg needs. PIN narrows a version: make test VENV=.venv-20 PIN='sqlalchemy<2.1'
$(VENV)/.%: setup.cfg | $(BIN)/pip
	@echo "installing the extra '$*' into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$*]' $(if $(PIN),'$(PIN)')
	@touch $@

# Some systems split ensurepip off: then the pip that is there fills the environment.
$(BIN)/pip:
	@test -n "$(PYTHON)" || { echo "no Python >= 3.11 found: name one with PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) >/dev/null 2>&1 || { \
		$(PYTHON) -m venv --without-pip --clear $(VENV) && \
		$(PYTHON) -m pip --python $(BIN)/python install --quiet pip; }

.PHONY: help venv demo test lint types bench coherence queries suites docs clean
