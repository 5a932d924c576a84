# `make` lists what there is. Only Python 3.11 or newer and make are needed.

VENV ?= .venv
BIN := $(VENV)/bin
SETUP := $(VENV)/.setup-complete
ARGS ?=
# Compiled modules are kept, whatever the environment says: without them each process that starts compiles all it
# imports, and the tests start hundreds.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help setup run test chaos fuzz check check-lint check-types check-tests check-examples fmt lock bench bench-anomalies bench-faults bench-peers clean

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1|\2/p' Makefile | while IFS='|' read -r name what; do \
		printf '  %-16s %s\n' "$$name" "$$what"; done

setup: $(SETUP) ## Make .venv with the locked dependencies

$(SETUP): requirements.lock pyproject.toml
	@python=; for candidate in $(PYTHON) python3 python3.13 python3.12 python3.11; do \
		if $$candidate -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then python=$$candidate; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
		echo "streamproc needs Python 3.11 or newer; none found. Install one, or name it: make setup PYTHON=/path/to/python3" >&2; \
		exit 1; \
	fi; \
	if ! $(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
		echo "making $(VENV) with $$($$python --version)"; \
		$$python -m venv --clear $(VENV) || { echo "python's venv module is missing: on Debian, apt install python3-venv" >&2; exit 1; }; \
	fi
	@echo "installing the locked dependencies into $(VENV); a minute or two the first time"
	@$(BIN)/python -m pip install --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation --editable .
	@touch $(SETUP)

run: $(SETUP) ## Run everything on this machine; make run ARGS="--no-simulate" passes options on
	@exec $(BIN)/streamproc dev $(ARGS)

# The live tests mostly wait; four at a time keep two cores busy. A file's tests stay together, for what they share,
# and files come in the order of tests/conftest.py, not the greatest number of tests first.
TEST_PROCESSES ?= 4

test: $(SETUP) ## Run all tests, those with a real broker included
	$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder $(ARGS)

SEED ?= 1
MINUTES ?= 3

chaos: $(SETUP) ## Kill, pause and cut off everything at random from SEED for MINUTES, and compare with an oracle
	$(BIN)/python -m tests.chaos --seed $(SEED) --minutes $(MINUTES) $(ARGS)

fuzz: $(SETUP) ## Send a real gateway nearly right requests from SEED for MINUTES, and look at what it leaves on the topic
	$(BIN)/python -m tests.fuzz --seed $(SEED) --minutes $(MINUTES) $(ARGS)

# Side by side: the types take as long as the tests.
check: $(SETUP) ## Lint, types, layers and the fast tests, in under a minute
	@$(MAKE) --no-print-directory --jobs 2 --output-sync=target check-tests check-types check-lint check-examples

check-lint:
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports

check-types:
	$(BIN)/mypy

# Files differ in length, and some tests wait: who has nothing left takes from the others, and a third process fills the gaps.
check-tests:
	$(BIN)/python -m pytest -q -m "not live" -n 3 --dist worksteal --ignore=tests/live -p no:schemathesis --hypothesis-profile=quick

check-examples:
	$(BIN)/python -m pytest -q -p no:schemathesis --doctest-modules --ignore=streamproc/__main__.py --ignore=streamproc/worker.py streamproc

fmt: $(SETUP) ## Format, and repair what can be repaired
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

lock: ## Resolve the dependencies anew into requirements.lock (needs uv)
	@command -v uv >/dev/null || { echo "make lock needs uv: https://docs.astral.sh/uv/getting-started/installation/" >&2; exit 1; }
	uv pip compile pyproject.toml --extra embedded --extra sqlserver --group test --group lint --group build --universal \
		--python-version 3.11 --generate-hashes --no-annotate --no-header -o requirements.lock

bench: $(SETUP) ## Measure again what the README says
	$(BIN)/streamproc bench engine
	$(BIN)/streamproc bench gateway
	$(BIN)/streamproc bench latency
	$(BIN)/streamproc bench sink

# The labelled series are no part of the project.
ANOMALIES ?= ../shared/anomalies

bench-anomalies: $(SETUP) ## Score the learners on the labelled series in ANOMALIES, and tell their cost
	$(BIN)/streamproc bench anomalies "$(ANOMALIES)"

SEEDS ?= 20

bench-faults: $(SETUP) ## Which faults of a catalogue are found, how soon, and the false alarms, as tables (docs/faults.md)
	$(BIN)/streamproc bench faults --seeds $(SEEDS) --markdown $(ARGS)

# The peers are no part of the project; those in Java need Maven and a JDK 17, and are skipped without.
PEERS ?= ../shared/peers
READINGS ?= 4000000
SENSORS ?= 1000
FAUST_READINGS ?= 40000

bench-peers: $(SETUP) ## Compare with Faust, Quix Streams, Kafka Streams and Flink (docs/benchmarks.md)
	$(BIN)/python -m streamproc.bench.peers "$(PEERS)" --readings $(READINGS) --sensors $(SENSORS) \
		--faust-readings $(FAUST_READINGS) $(ARGS)

clean: ## Remove .venv and caches; what dev has stored (data) stays
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find streamproc tests -name __pycache__ -type d -prune -exec rm -rf {} +
