# One menu. `make start` on a fresh machine does everything; `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory

PYTHON := .venv/bin/python
STAMPS := .venv/.stamps
# An editable install names its directory: a moved or copied checkout must install itself again.
PROJECT := $(STAMPS)/project$(subst /,-,$(CURDIR))
PIP := $(PYTHON) -m pip --disable-pip-version-check --quiet --quiet
SCRIPTS := $(wildcard run_*.py)

# Recorded data, where it lies beside the checkout; tests that need it are skipped without it.
ifeq ($(FLEET_DATA),)
ifneq ($(wildcard ../shared/data/.),)
export FLEET_DATA := $(abspath ../shared/data)
endif
endif

.PHONY: help setup start stop restart status logs test check format bench bench-peers soak chaos day lock clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# --- set-up: each step leaves a stamp and runs again only when its inputs change -----------------

setup: $(STAMPS)/python $(PROJECT) node_modules/.stamp .env $(STAMPS)/logs ## everything but the start
	@:

# An empty stamp per step; the folder dies with the environment it describes.
$(STAMPS)/venv: scripts/preflight.sh
	@bash scripts/preflight.sh
	@echo "Making .venv"
	@python3 -m venv .venv
	@mkdir -p $(STAMPS)
	@touch $@

$(STAMPS)/python: requirements/runtime.txt requirements/dev.txt | $(STAMPS)/venv
	@echo "Installing the locked Python packages (about a minute the first time)"
	@$(PIP) install --require-hashes --no-deps -r requirements/runtime.txt -r requirements/dev.txt
	@touch $@

$(PROJECT): pyproject.toml | $(STAMPS)/python
	@echo "Installing this project into .venv"
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@$(PYTHON) -m compileall -q src $(SCRIPTS)
	@touch $@

node_modules/.stamp: package-lock.json package.json .npmrc | $(STAMPS)/venv
	@echo "Installing PM2"
	@npm ci --no-audit --no-fund --loglevel=error >/dev/null
	@touch $@

# Only when there is none: yours is never overwritten, whatever changes in the example.
.env:
	@( umask 077 && cp .env.example .env && chmod 0600 .env )
	@echo "Wrote .env (0600) from .env.example"

$(STAMPS)/logs: setup_logs.sh | $(PROJECT)
	@./setup_logs.sh
	@touch $@

# --- the fleet ---------------------------------------------------------------------------------

start: setup ## start what is not running and wait until it is healthy
	@./scripts/fleet.sh start

stop: ## stop the fleet
	@./scripts/fleet.sh stop

restart: setup ## stop, then start
	@./scripts/fleet.sh restart

status: ## what runs, and whether it is healthy
	@./scripts/fleet.sh status

logs: ## follow the logs
	@./scripts/fleet.sh logs

# --- development ---------------------------------------------------------------------------------

test: setup ## the whole test suite
	@$(PYTHON) -m pytest -n 2 --dist worksteal

check: setup ## lint, format, types, house rules
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m ruff format --check .
	@$(PYTHON) -m mypy src tests $(SCRIPTS)
	@$(PYTHON) -m pytest -q tests/test_tidy.py

format: setup ## apply the format and the safe fixes
	@$(PYTHON) -m ruff format .
	@$(PYTHON) -m ruff check --fix .

bench: setup ## measure, print one table, write bench/results.json
	@$(PYTHON) bench/run.py

bench-peers: setup ## install the peers that `make bench` compares with, in their own environment
	@bash bench/install_peers.sh

soak: setup ## run seeds and kills until stopped
	@$(PYTHON) -m tests.soak

SEEDS ?= 1000
chaos: setup ## live SEEDS chaotic lives on the sandbox, with faults and kill -9, and prove each
	@$(PYTHON) scripts/chaos.py --seeds $(SEEDS) --quiet

day: setup ## a day of PolyAI at 100 times the speed; 15 minutes, ends with 1 if its memory grows
	@$(PYTHON) scripts/polyai_day.py

lock: ## resolve the requirements again (needs uv)
	@command -v uv >/dev/null || { echo "uv is missing: see its documentation for how to install it" >&2; exit 1; }
	@for set in runtime dev; do \
	  uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	    --no-annotate --no-emit-index-url --no-emit-find-links \
	    --upgrade --output-file requirements/$$set.txt requirements/$$set.in; \
	done

clean: ## remove what set-up made; keeps .env, logs/ and var/ (stop the fleet first)
	@if [ -x .venv/bin/fleet ] && [ -x node_modules/.bin/pm2 ]; then ./scripts/fleet.sh stop; fi
	@rm -rf .venv node_modules .pytest_cache .ruff_cache .mypy_cache .hypothesis dist
	@find src tests bench -name __pycache__ -type d -prune -exec rm -rf {} +
	@echo "Removed .venv, node_modules and caches. .env, logs/ and var/ are still there."
