# Every way to work on vastproxy. `make` alone lists them.
#
#   PYTHON   the interpreter that the environments are made with: 3.11 or newer
#   VENV     where the development environment lives
#   ARGS     more arguments for pytest, for example ARGS="-k retry -x"
#   WORKERS  processes that share the tests

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
# Many tests wait for others: a few more processes than there are cores keep all of them busy.
WORKERS ?= $(shell expr $$(scripts/cores.sh) + 3)
SOAK ?=
CHAOS ?=
BENCH ?=
FUZZ ?=
BIN := $(VENV)/bin
MINIMUM_COVERAGE ?= 90
# What `make test` runs against the compiled build; `make compiled COMPILED_TESTS=tests/integration` runs more.
COMPILED_TESTS ?= tests/unit/api/http tests/unit/services/dispatch tests/unit/services/upstream tests/unit/api/test_foreign.py \
	tests/unit/services/metrics/test_usage.py tests/unit/services/routing/test_own.py \
	tests/integration/test_proxy.py tests/integration/test_routing.py tests/integration/test_http_sse.py

.PHONY: help test setup system beside-compiled check fix unit integration tests race coverage compiled docs site screenshots test-engine demo soak chaos fuzz bench wheel lock upgrade clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

test: setup ## set everything up and run every check: what CI runs
	@$(MAKE) --jobs=2 --output-sync=target beside-compiled compiled
	@$(MAKE) tests

# What one core does while the other one compiles. Tests that were read once are read by many in a third of the time.
beside-compiled: setup
	@$(MAKE) check
	@$(MAKE) wheel
	@echo "reading the tests"
	@mkdir -p build && PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --collect-only --quiet --quiet --no-header >build/collected.txt || { tail -40 build/collected.txt; exit 1; }

system:
	@scripts/system.sh "$(PYTHON)"

setup: system ## system packages and the development environment
	@scripts/venv.sh "$(PYTHON)" "$(VENV)" dev

check: setup ## lint, format, types, import rules
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	NO_COLOR=1 $(BIN)/lint-imports --no-logo

fix: setup ## repair what ruff can repair
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

unit: setup ## the fast tests
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal tests/unit $(ARGS)

integration: setup ## the tests with real sshd, HTTP servers and processes
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal tests/integration $(ARGS)

race: setup ## all tests on a hostile schedule: eager tasks, debug mode, no blocking calls
	PYTHONASYNCIODEBUG=1 $(BIN)/python -m pytest -p tests.helpers.race -o timeout=180 $(ARGS)

tests: setup ## all tests, with fewer random examples than each has by itself
	TESTS_PROFILE=quick $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

coverage: setup ## all tests, each package covered to at least MINIMUM_COVERAGE percent
	@$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n $(WORKERS) --dist worksteal $(ARGS)
	@$(BIN)/coverage combine --quiet
	@mkdir -p build && $(BIN)/coverage json --quiet -o build/coverage.json
	$(BIN)/python scripts/coverage_gate.py build/coverage.json --minimum $(MINIMUM_COVERAGE)

compiled: setup ## compile the path of a request (build/compiled) and run the tests of it
	@scripts/compiled.sh $(BIN)/python
	cd build/compiled && TESTS_PROFILE=quick PYTHONPATH=. $(abspath $(BIN))/python -m pytest -p no:cacheprovider -n $(WORKERS) $(COMPILED_TESTS)

wheel: setup ## build sdist and wheel, and try the wheel in an environment of its own
	@scripts/venv.sh "$(PYTHON)" "$(VENV)-wheel" dependencies
	$(BIN)/python scripts/wheel_check.py "$(VENV)-wheel"

screenshots: setup ## draw docs/images from the running program
	$(BIN)/python scripts/screenshots.py docs/images
	$(BIN)/python -m scripts.screenshots_web docs/images

docs: setup ## write what the documents take from the code: settings, schema, commands, metrics, state diagram
	$(BIN)/python -m vastproxy.settings.document config/settings.schema.json docs/CONFIGURATION.md
	$(BIN)/python scripts/state_diagram.py docs/ARCHITECTURE.md
	$(BIN)/python scripts/cli_document.py docs/CLI.md
	$(BIN)/python -m vastproxy.services.metrics.document docs/METRICS.md
	$(BIN)/python -m tests.corpus.document docs/HTTP.md

site: setup ## build the documentation as a site into build/site; anything that leads nowhere is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	@echo "build/site/index.html"

test-engine: system ## the tests against a real inference engine (downloads torch)
	@scripts/venv.sh "$(PYTHON)" "$(VENV)-engine" dev
	$(VENV)-engine/bin/python -m pip --disable-pip-version-check install --quiet --requirement tests/engine/requirements.txt
	$(VENV)-engine/bin/python -m pytest tests/engine -m engine $(ARGS)

demo: ## try vastproxy on a simulated account, without a key
	@scripts/system.sh "$(PYTHON)" venv
	@scripts/venv.sh "$(PYTHON)" "$(VENV)" runtime
	$(BIN)/vastproxy demo

soak: setup ## half an hour of mixed load with kills; nothing may grow, nobody else may fail (SOAK="--minutes 5")
	@scripts/compiled.sh $(BIN)/python
	$(BIN)/python -m bench.soak --json bench/results/soak.json --plot docs/images/perf-soak.svg $(SOAK)

chaos: setup ## ten minutes of load while everything breaks at random; every request must end as it should (CHAOS="--minutes 2")
	$(BIN)/python -m bench.chaos --out bench/results/chaos.json $(CHAOS)

fuzz: setup ## give everything that parses bytes a minute with a fuzzer each, where atheris can be had (FUZZ="--seconds 600 request")
	@$(BIN)/python -m pip --disable-pip-version-check install --quiet --requirement fuzz/requirements.txt || echo "atheris cannot be installed here"
	$(BIN)/python -m fuzz $(FUZZ)

bench: setup ## measure side by side with other proxies, and write docs/PERFORMANCE.md (BENCH="--quick": do not write)
	@scripts/system.sh "$(PYTHON)" bench
	@scripts/bench_venv.sh "$(PYTHON)"
	@scripts/compiled.sh $(BIN)/python
	$(BIN)/python -m bench run --out bench/results/latest.json $(BENCH)
	$(if $(BENCH),,$(BIN)/python -m bench report bench/results/latest.json)

lock: ## write requirements.lock after a change of dependencies in pyproject.toml
	@scripts/lock.sh "$(PYTHON)"

upgrade: ## write requirements.lock with the newest versions that pyproject.toml allows
	@scripts/lock.sh "$(PYTHON)" --upgrade

clean: ## remove what was built here, the environments too
	rm -rf build dist vastproxy.egg-info htmlcov .coverage .coverage.* $(VENV) $(VENV)-wheel $(VENV)-engine .venv-lock .venv-bench
	rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find src tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +
