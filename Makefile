# Needs git, make, Python 3.10 to 3.13 and Java 17 or 21. `make run` on a fresh clone is enough.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
KEY ?= 2013-01-02

OLDEST := .venv-oldest
AIRFLOW := .venv-airflow

.PHONY: help run test fast nightly airflow aws datafactory cluster connect object-storage scale versions lint format docs bench wheel venv java clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(STAMP) java ## run the main job on the bundled data (KEY=2013-01-02)
	@./spark-submit.sh jobs/daily_flights.py --config conf/daily_flights.yaml key=$(KEY) --show 50

TESTS := -m pytest --numprocesses 2 --dist worksteal

test: lint java ## everything but the nightly tests: lint, types, layers, tests; prints the branch coverage
	@failed=0; \
	$(BIN)/coverage run $(TESTS) --durations 10 || failed=1; \
	$(BIN)/coverage combine --quiet; \
	$(BIN)/coverage report --skip-covered --sort=cover; \
	exit $$failed

fast: $(STAMP) ## the tests that need neither Spark nor processes nor a browser
	@$(BIN)/python $(TESTS) -m "not spark and not process and not browser"

nightly: $(STAMP) java ## long tests: chains of kills, random kills, jobs as processes, laws with many examples
	@LAWS=thorough $(BIN)/python $(TESTS) -m "nightly or law"

cluster: $(STAMP) java ## jobs, runners and random kills on a standalone cluster of processes (CLUSTER_KILLS=1 of each kind)
	@$(BIN)/python -m pytest -m cluster

connect: $(STAMP) java ## the Spark tests on a local Spark Connect server
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[connect]'
	@CONNECT=yes $(BIN)/python $(TESTS) -m "spark and not process"

scale: $(STAMP) java ## how costs grow with events, branches, keys, pipelines and processes (long): docs/scale.svg
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check matplotlib
	@$(BIN)/python benchmarks/scale.py

object-storage: $(STAMP) java ## jobs, leases and random kills on an emulated S3 (STORE_KILLS=4)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[object-storage]'
	@$(BIN)/python -m pytest -m object_storage

airflow: $(STAMP) java ## jobs under a real Airflow 3.3 on PostgreSQL (Debian: postgresql), in an environment of its own
	@test -x $(AIRFLOW)/bin/airflow || $(BIN)/python -m venv --clear $(AIRFLOW)
	@$(AIRFLOW)/bin/python -m pip install --quiet --disable-pip-version-check --editable . --editable 'integrations/airflow[dev]'
	@cd integrations/airflow && ../../$(AIRFLOW)/bin/python -m pytest --durations 10

aws: $(STAMP) java ## state machines and steps of EMR on emulators (statelint, moto), with real jobs behind them
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[aws-tests]'
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest -m aws --durations 10

datafactory: $(STAMP) ## the routing of pipelines of Data Factory, by a framework for testing them
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[datafactory-tests]'
	@$(BIN)/python -m pytest -m datafactory

versions: $(STAMP) java ## the Spark tests with the newest and the oldest pair of Spark and Delta
	@test -x $(OLDEST)/bin/pytest || { $(BIN)/python -m venv --clear $(OLDEST); \
	  $(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]' pyspark==4.0.1 delta-spark==4.0.1; }
	@$(BIN)/python $(TESTS) -m "spark and not process"
	@# PySpark 4.0.1 leaves sockets to the garbage collector.
	@$(OLDEST)/bin/python $(TESTS) -m "spark and not process" -W ignore::ResourceWarning -W ignore::pytest.PytestUnraisableExceptionWarning

lint: $(STAMP) ## ruff, mypy, import-linter, replaced words
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@MYPYPATH=benchmarks:jobs:scripts:tests $(BIN)/mypy --no-error-summary benchmarks scripts
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/python scripts/check_words.py

format: $(STAMP) ## fix what ruff can fix
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

docs: $(STAMP) ## make the reference pages from the code, and the site in build/site
	@$(BIN)/python scripts/make_reference.py
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict

bench: $(STAMP) java ## what durability, an event, a fan-in, a split and the runners cost (benchmarks/README.md)
	@$(BIN)/python benchmarks/speed.py
	@$(BIN)/python benchmarks/proofs.py
	@$(BIN)/python benchmarks/daily_flights.py
	@$(BIN)/python benchmarks/ledger.py
	@$(BIN)/python benchmarks/fan_in.py
	@$(BIN)/python benchmarks/fan_out.py
	@$(BIN)/python benchmarks/leases.py
	@$(BIN)/python benchmarks/backfill.py

wheel: $(STAMP) ## the wheel in dist/, to be installed by pip
	@$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .
	@ls dist/*.whl

venv: $(STAMP) ## the virtual environment in .venv

$(STAMP): pyproject.toml
	@python=; \
	for each in $(or $(PYTHON),python3.13 python3.12 python3.11 python3.10 python3); do \
	  if $$each -c 'import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' 2>/dev/null; \
	  then python=$$each; break; fi; \
	done; \
	if [[ -z $$python ]]; then \
	  echo "make: no Python 3.10 to 3.13 with venv found$(if $(PYTHON), at $(PYTHON)); install one, or name it: make PYTHON=/path/to/python" >&2; \
	  exit 2; \
	fi; \
	echo "make: building .venv with $$($$python --version) (once, about a minute)" >&2; \
	$$python -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

java:
	@java=$${JAVA_HOME:+$$JAVA_HOME/bin/}java; \
	found=$$("$$java" -version 2>&1) || { echo "make: Java does not run ($$java): install Java 17 or 21, or set JAVA_HOME to it" >&2; exit 2; }; \
	[[ $$found =~ version\ \"(1\.)?([0-9]+) ]] && ((BASH_REMATCH[2] >= 17)) || \
	{ echo "make: Java is too old: found $${found%%$$'\n'*}; expected 17 or 21, set JAVA_HOME to one" >&2; exit 2; }

clean: ## remove .venv, caches and what runs left behind
	@rm -rf $(VENV) $(OLDEST) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis .coverage .coverage.* htmlcov
	@rm -rf build dist state out spark-warehouse metastore_db derby.log artifacts
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
