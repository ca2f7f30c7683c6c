# Everything starts here. Needs python3 >= 3.11, make and PyPI; each target sets up what it needs.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules --no-print-directory

PYTHON ?= python3
BIN := .venv/bin
PY := $(BIN)/python

# Knobs; `make` explains them.
ORDERS ?=
JAEGER ?=
STORE ?=
UP_FLAGS ?=
FILE ?= replay/data/online_retail_2010-12.csv.gz
ORDER ?=
ARGS ?=
KILLS ?= 200
SEED ?= 1
PYTEST_FLAGS ?= -n 2 --dist loadfile
BROWSER ?=
DATA ?=
SEEDS ?= 1000
START ?= 0
TURNS ?= 10

# Caches stay in one ignored folder.
export HYPOTHESIS_STORAGE_DIRECTORY := .cache/hypothesis
unexport VIRTUAL_ENV PYTHONPATH

POSTGRES := $(filter postgres,$(STORE))
RUN_SET := $(if $(POSTGRES),--extra postgres --group postgres) --extra sqlite --extra nats --extra gateway --extra console --extra up
DEV_SET := $(RUN_SET) --extra postgres --extra redis --group dev $(if $(BROWSER),--group browser)
DEV := .venv/.dev$(if $(BROWSER),-browser)
RUN := .venv/.run$(if $(POSTGRES),-postgres)
LOCKED := pyproject.toml uv.lock protos/python/pyproject.toml scripts/bootstrap.py Makefile

.PHONY: help
help: ## what there is (this)
	@printf 'Usage: make TARGET [KNOB=value]\n\n'
	@awk -F ':.*## ' '/^[a-z-]+:.*## /  { printf "  %-14s%s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@printf '\nKnobs\n'
	@printf '  %-14s%-13s%s\n' \
	  ORDERS  run     'how many real orders to place after the start; 0: none (default: the first trading day)' \
	  JAEGER  run     '1: traces go to the real Jaeger, built first (default: the embedded trace store)' \
	  STORE   'run soak' 'postgres: every service keeps its data in a real PostgreSQL (default: sqlite, a file each)' \
	  UP_FLAGS run    'more flags for `mesh up`' \
	  FILE    replay  'a file in the format of the one in replay/data (default: that one, December 2010)' \
	  ARGS    replay  'its options, for example ARGS="--concurrency 32 --decline 0.1 --json"; reconcile and audit have some too' \
	  ORDER   audit   "an order's id" \
	  KILLS   soak    'how many processes to kill (default: 200); it takes about 2.5 s each' \
	  SEED    soak    'which ones, when, and under which orders (default: 1)' \
	  TURNS   soak-faults 'how often each, from another seed each time (default: 10); a turn takes about 3 minutes' \
	  PYTEST_FLAGS test 'for pytest (default: two files of tests at a time), for example "-n 0 -x -k breaker"' \
	  SEEDS   simulate 'how many seeds to run (default: 1000)' \
	  START   simulate 'the first of them (default: 0)' \
	  BROWSER test    '1: install playwright too; it needs a chromium on the PATH' \
	  DATA    clean   '1: delete .data (databases and logs) as well' \
	  PYTHON  all     'the Python, 3.11 or newer, that .venv is made with (default: python3)'

# --- what one does here ---------------------------------------------------------------------------

.PHONY: run
run: $(RUN) $(if $(JAEGER),jaeger-binary) ## start the whole system, place real orders, show one of them, stay up
	@$(if $(ORDERS),ORDERS=$(ORDERS)) $(if $(JAEGER),JAEGER=$(JAEGER)) $(if $(STORE),STORE=$(STORE)) $(PY) -m mesh up $(UP_FLAGS)

.PHONY: replay
replay: .venv/.run ## send a month of real orders through the running system
	@$(PY) -m replay $(FILE) $(ARGS)

.PHONY: reconcile
reconcile: .venv/.run ## do the services agree on each order? Read the running system and say
	@$(PY) -m reconcile $(ARGS)

.PHONY: audit
audit: .venv/.run ## what happened to the payment of ORDER; without one: are the books right?
	@$(PY) -m services.payment.audit $(ORDER) $(ARGS)

.PHONY: soak
soak: $(DEV) ## kill processes at random under real orders, KILLS times, and add up the books
	@$(PY) -m tests.soak --kills $(KILLS) --seed $(SEED) $(if $(STORE),--store $(STORE)) $(ARGS)

.PHONY: soak-faults
soak-faults: $(DEV) ## cut the power, fill disks, break connections and set clocks, TURNS times each
	@$(PY) -m pytest -m turns --turns $(TURNS) tests/disk tests/e2e $(ARGS)

.PHONY: simulate
simulate: $(DEV) ## the whole system from seeds, with everything going wrong that can, on all cores
	@PYTHONHASHSEED=0 $(PY) -m mesh.testing tests.simulation.shop:Shop --seeds $(SEEDS) --start $(START) $(ARGS)

# The simulation replays a seed only if sets of strings have one order: hence the hash seed.
.PHONY: test
test: check ## what CI runs: check, then every test
	PYTHONHASHSEED=0 $(PY) -m pytest --cov $(PYTEST_FLAGS)

.PHONY: check
check: check-style check-types check-imports check-protos check-stubs check-calls ## style, types, import rules, protos, stale stubs, calls

.PHONY: bench
bench: $(DEV) ## measure: CPU and throughput, as ratios within one run
	@$(PY) -m benchmarks $(ARGS)

.PHONY: bench-sagas
bench-sagas: $(DEV) .venv/.peers ## measure: sagas beside DBOS, Temporal and bare gRPC (ARGS=--help)
	@$(PY) -m benchmarks.sagas $(ARGS)

.PHONY: bench-events
bench-events: $(DEV) ## measure: events while their broker is killed, none lost, none twice (ARGS=--help)
	@$(PY) -m benchmarks.events $(ARGS)

.PHONY: bench-overload
bench-overload: $(DEV) ## measure: ten times what a service can do, executed and refused (ARGS=--help)
	@$(PY) -m benchmarks.overload $(ARGS)

.PHONY: stubs
stubs: $(DEV) ## generate protos/python from protos
	@$(PY) scripts/stubs.py

.PHONY: jaeger
jaeger: jaeger-binary ## build the real Jaeger (about 6 minutes, once) and start it
	@$(PY) observability/jaeger/build.py --start

.PHONY: clean
clean: ## delete .venv, caches and build products
	rm -rf .venv .cache dist $(if $(DATA),.data)
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- the parts of check ---------------------------------------------------------------------------

.PHONY: check-style check-types check-imports check-protos check-stubs check-calls check-breaking
check-style: $(DEV)
	$(BIN)/ruff check --quiet
	$(BIN)/ruff format --check --quiet

check-types: $(DEV)
	$(BIN)/mypy --no-error-summary

check-imports: $(DEV)
	$(BIN)/lint-imports --no-logo --cache-dir .cache/import-linter

check-protos: $(DEV) check-breaking
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code

check-stubs: $(DEV)
	$(PY) scripts/stubs.py --check

# No call has more time than its caller, none comes to too many.
check-calls: $(DEV)
	@$(PY) -m mesh explain --check

# Against main as the remote has it; on main itself, as CI is, against the commit before. The base's
# files are unpacked from git, so that worktrees and shallow clones work as well.
check-breaking: $(DEV)
	@head=$$(git rev-parse --verify --quiet HEAD) || { echo 'buf breaking: skipped, no commit yet'; exit 0; }; \
	base=$$(git merge-base HEAD origin/main 2>/dev/null || git merge-base HEAD main 2>/dev/null || echo "$$head"); \
	if [ "$$base" = "$$head" ] && git diff --quiet HEAD -- protos; then \
	  base=$$(git rev-parse --verify --quiet HEAD~1) || { echo 'buf breaking: skipped, no earlier commit'; exit 0; }; \
	fi; \
	git cat-file -e "$$base:buf.yaml" 2>/dev/null || { echo 'buf breaking: skipped, no protos in the base'; exit 0; }; \
	rm -rf .cache/breaking && mkdir -p .cache/breaking; \
	git archive "$$base" buf.yaml protos | tar -x -C .cache/breaking; \
	echo "$(BIN)/buf breaking --against $$(git rev-parse --short "$$base")"; \
	$(BIN)/buf breaking --against .cache/breaking

.PHONY: jaeger-binary
jaeger-binary: .venv/.run
	@command -v go >/dev/null || $(PYTHON) scripts/bootstrap.py $(RUN_SET) --group jaeger
	@$(PY) observability/jaeger/build.py

# --- set-up ---------------------------------------------------------------------------------------

define require_python
@command -v $(PYTHON) >/dev/null || { \
  echo 'make: there is no $(PYTHON) on the PATH; this project needs Python 3.11 or newer.' >&2; exit 1; }
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
  echo "make: $(PYTHON) is $$($(PYTHON) --version 2>&1); this project needs Python 3.11 or newer." >&2; \
  echo '      Name another one: make PYTHON=python3.12' >&2; exit 1; }
endef

.venv/.run .venv/.run-postgres: $(LOCKED)
	$(require_python)
	@$(PYTHON) scripts/bootstrap.py $(RUN_SET)
	@touch $@

$(DEV): $(LOCKED)
	$(require_python)
	@$(PYTHON) scripts/bootstrap.py $(DEV_SET)
	@touch $@ .venv/.dev .venv/.run .venv/.run-postgres

.venv/.peers: $(LOCKED)
	$(require_python)
	@$(PYTHON) scripts/bootstrap.py $(DEV_SET) --group peers
	@touch $@
