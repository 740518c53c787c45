# Every verb of the project. `make demo` and `make test` need nothing but Python 3.11 or newer and make.

PYTHON ?= $(shell for each in python3 python3.13 python3.12 python3.11; do \
	$$each -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$each && break; done)
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest
# Tests often wait for a server: one more at a time than the two cores that every machine has.
JOBS ?= 3
SIDE_BY_SIDE := --numprocesses $(JOBS) --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help install crosschecks demo up test test-compose check lint types contracts unit service coverage format openapi bench-speed bench-scale bench-spread bench-accuracy bench-upload bench-soak bench-load bench-tasks clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: .venv/.installed ## Create the environment and install everything into it

.venv/.installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Volcal needs Python 3.11 or newer; none was found. On Debian: sudo apt-get install python3"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || { rm -rf .venv; sh .ci/venv-package && $(PYTHON) -m venv .venv; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[all,dev]'
	@echo "Compiling the numerical kernels (once, about a minute) ..."
	@$(BIN)/python -m pipeline.warm
	@touch $@

crosschecks: .venv/.crosschecks ## Add the independent tools that tests/crosschecks uses (some 150 MB; skipped without)

.venv/.crosschecks: .venv/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[crosschecks]'
	@touch $@

demo: install ## Run the whole service once on the bundled real surveys
	$(BIN)/volcal demo

up: install ## Start the service on http://127.0.0.1:8000
	$(BIN)/volcal up

test: install check coverage ## Run everything: style, types, import rules, all tests with coverage

test-compose: install ## Build the images, bring docker-compose.yml up, use it, take it down (root; no Docker)
	$(BIN)/python -m tests.compose.run

check: install lint types contracts ## Run the checks that run no test

lint: install ## Check style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install ## Check types
	$(BIN)/mypy

contracts: install ## Check the direction of imports
	$(BIN)/lint-imports

unit: install ## Run the fast tests only
	$(PYTEST) -m "not service"

service: install ## Run the tests that start servers, workers and browsers
	$(PYTEST) -m service $(SIDE_BY_SIDE)

coverage: install ## Run all tests and ask for their coverage
	rm -f .coverage .coverage.*
	$(BIN)/coverage run -m pytest $(SIDE_BY_SIDE) || { test -n "$$CI" && \
		echo "CI machines are shared: what failed is tried once more, by itself. Both reports count." && \
		$(BIN)/coverage run -m pytest --last-failed --last-failed-no-failures none; }
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

format: install ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

openapi: install ## Write docs/openapi.json
	$(BIN)/volcal openapi > docs/openapi.json

bench-speed: install ## Time `volcal run` at 0.5, 1 and 5 M points a cloud
	$(BIN)/python -m benchmarks.speed

bench-scale: install ## Measure 10 and 100 M points a cloud in tiles: an hour of writing and running, 20 GB of disk
	$(BIN)/python -m benchmarks.scale

bench-spread: install ## Measure one worker against two on surveys in tiles, each on a core of its own
	$(BIN)/python -m benchmarks.spread

bench-accuracy: install ## Hold the method against synthetic pairs whose truth is known
	$(BIN)/python -m benchmarks.accuracy --jobs 2

bench-upload: install ## Measure the upload endpoint
	$(BIN)/python benchmarks/tus.py

bench-soak: install ## Kill parts of the full stack for ten minutes and count what is lost
	PYTHONPATH=. $(BIN)/python benchmarks/soak.py

bench-load: install ## Measure what 100 clients feel, embedded and on the full stack
	PYTHONPATH=. $(BIN)/python benchmarks/load.py

bench-tasks: install ## Measure the task API with 100 000 tasks in PostgreSQL
	$(BIN)/python -m benchmarks.tasks

clean: ## Remove the environment and everything generated
	rm -rf .venv build dist *.egg-info .coverage* htmlcov .mypy_cache .ruff_cache .pytest_cache var volcal-demo
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
