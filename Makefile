# Everything runs from a virtual environment in .venv, made from pinned and hashed requirements.
# State (embedded database, demonstration store, Dagster's history) lives in .state.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
NEWEST := .venv-newest
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all:
# uv takes seconds where pip takes a minute; where it can't reach an index that pip is configured for, pip does it.
INSTALL = ($(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --only-binary :all: -r $(1) || $(PIP) -r $(1))

# Where it is set, as in many containers, each of the many processes compiles all of Python and Dagster anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install demo demo-vast test newest ui lint docs bench lock advisories clean

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | while IFS="$$(printf '\t')" read -r name text; do printf '  make %-11s %s\n' "$$name" "$$text"; done

install: $(VENV)/.runtime ## Make the virtual environment

demo: $(VENV)/.runtime ## Write a small show into an embedded S3 server, ingest it through Dagster, print a summary
	@$(BIN)/exr-pipeline demo

demo-vast: $(VENV)/.dev ## Take the same show by events into an emulated VAST DataBase, and compare its tables with DuckDB's
	@$(BIN)/python -m exr_pipeline_tests.demo_vast

# More processes than cores: many tests wait for services most of their time.
TEST_PROCESSES ?= $(shell nproc 2>/dev/null | awk '{ print $$1 + 2 }')

test: $(VENV)/.dev ## Run the whole test suite
	@$(BIN)/python -m pytest -n $(or $(TEST_PROCESSES),4) --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

newest: $(VENV)/.uv ## Run the test suite against the newest versions that the ranges allow, in an environment of its own
	@$(BIN)/uv venv --quiet --clear --python $(PYTHON) $(NEWEST)
	@$(BIN)/uv pip install --quiet --python $(NEWEST)/bin/python --refresh --only-binary :all: -r pyproject.toml --all-extras --group dev --group docs -r requirements/build.in
	@$(BIN)/uv pip install --quiet --python $(NEWEST)/bin/python --no-deps --no-build-isolation --no-index --editable .
	@echo "Newer here than in requirements/dev.txt:"
	@$(BIN)/uv pip install --python $(NEWEST)/bin/python --dry-run --no-deps -r requirements/dev.txt 2>&1 | sed -n 's/^ - /  newest  /p; s/^ + /  locked  /p'
	@$(NEWEST)/bin/python -m pytest -n $(or $(TEST_PROCESSES),4) --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

ui: $(VENV)/.runtime ## Dagster's page with the sensor running on the demonstration's store
	@$(BIN)/exr-pipeline ui

lint: $(VENV)/.dev ## Check style, layering and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

docs: $(VENV)/.dev ## Build the documentation site in site/; a broken link is an error
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

bench: $(VENV)/.dev ## Run the benchmarks and print their ratios
	@$(BIN)/python -m bench

lock: $(VENV)/.dev ## Compile the pinned requirements; UPGRADE=1 moves them up to the newest that the ranges allow
	@$(BIN)/uv pip compile requirements/installer.in $(LOCK) -o requirements/installer.txt
	@$(BIN)/uv pip compile pyproject.toml requirements/build.in --extra demo --extra pandas --extra vast $(LOCK) -o requirements/runtime.txt
	@$(BIN)/uv pip compile pyproject.toml -c requirements/runtime.txt $(LOCK) -o requirements/base.txt
	@$(BIN)/uv pip compile pyproject.toml requirements/build.in --extra demo --extra pandas --extra vast --extra celery --extra ecs --extra k8s -c requirements/runtime.txt $(LOCK) -o requirements/distributed.txt
	@for folder in dataengine lambda; do $(BIN)/uv pip compile pyproject.toml --extra pictures --extra vast -c requirements/runtime.txt $(LOCK) -o deploy/$$folder/requirements.txt; done
	@$(BIN)/uv pip compile pyproject.toml deploy/cloudrun/requirements.in --extra pictures --extra vast -c requirements/runtime.txt $(LOCK) -o deploy/cloudrun/requirements.txt
	@$(BIN)/uv pip compile pyproject.toml requirements/build.in --all-extras --group dev --group docs -c requirements/runtime.txt $(LOCK) -o requirements/dev.txt
LOCK = --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate --no-strip-extras $(if $(UPGRADE),--upgrade)

advisories: $(VENV)/.dev ## Renew the list of known vulnerabilities from DATABASE, a clone of the PyPA advisory database
	@$(BIN)/python -m exr_pipeline_tests.advisories $(DATABASE)

clean: ## Remove everything that the other targets made
	rm -rf $(VENV) $(NEWEST) .state .logs_queue logs .tmp_dagster_home_* .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage site
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.uv: requirements/installer.txt
	@echo "Making the virtual environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) -r requirements/installer.txt
	@touch $@

$(VENV)/.runtime: requirements/runtime.txt pyproject.toml exr_pipeline/__init__.py $(VENV)/.uv
	@echo "Installing what exr-pipeline needs (about 1.5 GB on disk)"
	@$(call INSTALL,requirements/runtime.txt)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --no-index --editable .
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.runtime
	@echo "Installing what the tests need"
	@$(call INSTALL,requirements/dev.txt)
	@touch $@
