# Hubbub's front door. Paths are relative, so the folder's own name may contain spaces.
# Arguments go through ARGS: make chat ARGS='--help'

# A make inside a make would print the folder it enters on stdout, which belongs to the chat.
MAKEFLAGS += --no-print-directory --no-builtin-rules
PY = .venv/bin/python
# How many tests at once; they open sockets and wait more than they compute.
JOBS ?= 2
MINUTES ?= 30
PROJECT = pyproject.toml common/version.py scripts/setup.sh $(PY)

.DEFAULT_GOAL := help
.PHONY: help run chat broker setup bench soak peers test torture sim check fuzz fmt lock clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-7s %s\n", $$1, $$2 }' Makefile

# exec: signals reach the program itself, and its exit status is the recipe's.
run: .venv/.ready-run ## Chat now, with a broker on this machine if none is running
	@exec $(PY) -m client run $(ARGS)

chat: .venv/.ready-run ## Chat through a broker on the LAN
	@exec $(PY) -m client $(ARGS)

broker: .venv/.ready-run ## Serve the LAN
	@exec $(PY) -m broker --host 0.0.0.0 $(ARGS)

# Each run is on loopback; without ARGS it tells what there is to run.
bench: .venv/.ready-dev ## Load tests, of Hubbub alone or beside other servers
	@exec $(PY) -m bench $(or $(ARGS),--help)

soak: .venv/.ready-dev ## MINUTES=30 of mixed traffic: fails if something is lost, or grows
	@exec $(PY) -m bench soak --minutes $(MINUTES) $(ARGS)

setup: ## Make .venv ready to chat, or repair it
	@sh scripts/setup.sh run

peers: ## Install the servers that Hubbub is measured beside
	@sh scripts/peers.sh

test: .venv/.ready-dev ## Run all tests
	@$(PY) -m pytest -n $(JOBS) $(ARGS)

# KILLS=300 SEED=7 are the settings; a run of 300 takes about five minutes. ARGS=--secure encrypts,
# here, in soak and in fuzz.
torture: .venv/.ready-dev ## Kill broker and clients at random under load, hundreds of times
	@$(PY) -m tests.torture $(if $(KILLS),--kills $(KILLS)) $(if $(SEED),--seed $(SEED)) $(ARGS)

# SEED replays one run with all that happened; SEEDS says how many to hunt over, on all cores.
sim: .venv/.ready-dev ## Look for broken promises in simulation: make sim SEEDS=100000, SEED=17
	@$(PY) -m tests.sim $(if $(SEED),--seed $(SEED)) $(if $(SEEDS),--seeds $(SEEDS)) $(ARGS)

check: .venv/.ready-dev ## Format, lint, types, layers and the fast tests, in under a minute
	@.venv/bin/ruff format --check --quiet
	@.venv/bin/ruff check --quiet
	@$(PY) -m mypy --no-error-summary
	@.venv/bin/lint-imports --no-logo
	@$(PY) -m pytest -q -n $(JOBS) tests/unit tests/sim

# So many generated frames for each endpoint; the same SEED sends the same.
FRAMES ?= 1000000
fuzz: .venv/.ready-dev ## Attack a broker with generated frames and worse: FRAMES=1000000 SEED=1
	@$(PY) -m tests.hostile --frames $(FRAMES) $(if $(SEED),--seed $(SEED)) $(ARGS)

fmt: .venv/.ready-dev ## Format the code and fix what can be fixed
	@.venv/bin/ruff format
	@.venv/bin/ruff check --fix

# Pins stay as they are unless something forces them: make lock ARGS=--upgrade
LOCK = .venv/bin/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 \
	--generate-hashes --no-header --only-binary :all: --extra setup
lock: .venv/.ready-dev ## Write both lock files anew from pyproject.toml
	@$(LOCK) $(ARGS) -o requirements.lock
	@$(LOCK) $(ARGS) --extra dev --extra bench -c requirements.lock -o requirements-dev.lock

clean: ## Remove .venv and all caches, nothing of yours
	@rm -rf .venv build dist hubbub.egg-info
	@rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	@find bench broker client common tests -name __pycache__ -exec rm -rf {} +

# Written last by a finished set-up: while they are newer than these files, nothing is to be done.
.venv/.ready-run: requirements.lock $(PROJECT)
	@sh scripts/setup.sh run

.venv/.ready-dev: requirements.lock requirements-dev.lock $(PROJECT)
	@sh scripts/setup.sh dev

# Empty on purpose: if the Python under .venv is gone, what depends on it is made anew.
$(PY): ;
