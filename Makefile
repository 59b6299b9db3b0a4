# Every target that needs Python goes through `setup`, which fills .venv once and is a no-op afterwards.

VENV  := .venv
BIN   := $(CURDIR)/$(VENV)/bin
READY := $(VENV)/.ready
# Kernels for this machine's processor, compiled once for each state of their source.
KERNELS := build/kernels/.ready
# A second one, with the lowest versions that pyproject.toml allows.
LOWEST := .venv-lowest
LOWEST_PIP := "$(CURDIR)/$(LOWEST)/bin/python" -m pip --disable-pip-version-check -q

# The first interpreter that is new enough; 3.11 is preferred because constraints.txt was resolved and tested on it.
PYTHON ?= $(shell for p in python3.11 python3 python3.12 python3.13 python3.14; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { command -v "$$p"; break; }; done)

# How pip is called, and from where torch comes (empty: wherever pip looks anyway). Of twenty thousand files a few
# thousand are ever imported: Python compiles those when it first meets them.
PIP             ?= $(BIN)/python -m pip --disable-pip-version-check -q
TORCH_INDEX_URL ?=
# The torch that a file pins.
torch_of         = torch==$(shell sed -n 's/^torch==//p' $(1))
TORCH           := $(call torch_of,constraints.txt)
TORCH_FROM      := $(if $(TORCH_INDEX_URL),--index-url "$(TORCH_INDEX_URL)")

# Arguments added to pytest, e.g. make test ARGS="-x -k maml"
ARGS ?=
# How many processes share the tests: one a core. 0: all in one process, as a debugger wants it.
WORKERS ?= logical
# A module's tests stay together until a process has none left and takes over half of another's.
SHARED := -n $(WORKERS) --maxprocesses 8 --dist worksteal
# Tests start many processes: what is compiled once, tests included, is kept.
export PYTHONDONTWRITEBYTECODE :=
# What is run against an installed wheel: packaging shows in commands and the parts that they find.
WHEEL_TESTS_IN ?= cli/test_cli_surface.py cli/test_cli_adapt.py cli/test_cli_plugin.py cli/data/test_prepare.py \
	unit/jobs/test_package.py unit/test_packaging.py unit/recipe/test_recipe_files.py unit/test_plugins.py
# What is run where the environment supplies nothing: every command as a process, and of all rooms some in one.
SCRUBBED_TESTS_IN ?= scrubbed cli/test_cli_surface.py data/test_recipe_data.py unit/api/test_results.py unit/jobs \
	unit/track/test_store.py
# What is run with the lowest versions: imports, commands, the object store, MLflow, the report, Ray.
LOWEST_TESTS_IN ?= unit/test_dependencies.py cli/test_cli_surface.py cli/test_cli_adapt.py data/test_objects.py \
	data/test_images.py unit/track/test_points.py unit/track/test_registry.py unit/report/test_page.py \
	unit/executors/test_trial_schedulers.py 'distributed/test_world_size.py::test_workers_do_not_matter[2]'
# The run of `make demo`; fresh each time, because a name in use is refused.
NAME ?= demo-$$(date +%Y%m%d-%H%M%S)

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow test-wheel test-lowest test-scrubbed test-benchmark lint format site lock lock-lowest clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' Makefile

setup: $(READY) $(KERNELS) ## fill .venv with the tested set of packages (once; about 2 GB)

$(READY): pyproject.toml constraints.txt Makefile
	@test -n "$(PYTHON)" || { echo "metadist needs Python 3.11 or newer; none was found." \
		"Install one, or name it: make setup PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "Setting up $(VENV) with $(PYTHON) (once; it takes a few minutes). What is downloaded:"
	@echo "  1. $(TORCH) from $(if $(TORCH_INDEX_URL),$(TORCH_INDEX_URL),the index pip is configured for): about 200 MB as a CPU build,"
	@echo "     with CUDA (what pip's default index has for Linux) several GB"
	@echo "  2. ray, mlflow, pyarrow, scipy and the rest of constraints.txt: about 300 MB"
	@echo "  On disk about 2 GB with the CPU build of torch. To choose that build, give the CPU wheel index named on"
	@echo "  pytorch.org's install page: make setup TORCH_INDEX_URL=..."
	@# venv also mends a folder that an interrupted run left without pip.
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || "$(PYTHON)" -m venv $(VENV)
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "$(VENV) holds a Python older than 3.11; remove it and run make setup again." >&2; exit 1; }
	@# torch first and alone: an index that is given need not hold anything else, and what is installed is not replaced.
	@echo "[1/2] $(TORCH)"
	@$(PIP) install --no-compile --no-deps $(TORCH_FROM) "$(TORCH)"
	@echo "[2/2] metadist[tune,dev,docs] and what it needs"
	@$(PIP) install --no-compile -c constraints.txt -e '.[tune,dev,docs,s3]'
	@touch $@
	@echo "Ready: $(VENV)/bin/metadist --help"

$(KERNELS): $(READY) metadist/kernels/build.py $(wildcard metadist/kernels/source/*)
	@echo "Compiling metadist/kernels for this processor (once; about half a minute)"
	@mkdir -p $(@D)
	@"$(BIN)/python" -m metadist.kernels.build --optional
	@touch $@

demo: setup ## train on embedded data with 2 Ray workers, evaluate, report
	@"$(BIN)/metadist" train strokes-5w1s-maml --name "$(NAME)" --workers 2 --json

test: setup ## run the tests, except the slow ones
	@"$(BIN)/python" -m pytest -m "not slow" $(SHARED) $(ARGS)

test-slow: setup ## run the slow tests: full products, faults, learning, machines
	@"$(BIN)/python" -m pytest -m "slow and not benchmark" --timeout 1800 $(SHARED) $(ARGS)

test-benchmark: setup ## run the benchmarks, which want a machine of their own
	@"$(BIN)/python" -m pytest -m benchmark --timeout 1800 $(ARGS)

test-wheel: setup ## build the wheel and run the quick tests against it, from another directory
	@set -e; tmp="$$(mktemp -d)"; trap 'rm -rf "$$tmp"' EXIT; mkdir "$$tmp/site" "$$tmp/elsewhere"; \
	"$(BIN)/python" -m build --wheel --no-isolation --outdir "$$tmp/dist" . >"$$tmp/build.log" 2>&1 \
		|| { cat "$$tmp/build.log" >&2; exit 1; }; \
	$(PIP) install --no-deps --target "$$tmp/site" "$$tmp"/dist/*.whl; \
	cd "$$tmp/elsewhere"; \
	PYTHONSAFEPATH=1 PYTHONPATH="$$tmp/site" METADIST_EXPECT_INSTALLED="$$tmp/site" "$(BIN)/python" -m pytest \
		-c "$(CURDIR)/pyproject.toml" --rootdir "$(CURDIR)" -p no:cacheprovider -m "not slow" $(ARGS) \
		$(addprefix "$(CURDIR)"/tests/,$(WHEEL_TESTS_IN))

test-scrubbed: setup ## run commands and some tests where the environment supplies nothing, from another directory
	@set -e; tmp="$$(mktemp -d)"; trap 'rm -rf "$$tmp"' EXIT; cd "$$tmp"; \
	env -i PATH=/usr/bin:/bin LC_ALL=C METADIST_SCRUBBED=1 $(foreach name,METADIST_CI METADIST_DATA_ROOT, \
		$(if $($(name)),$(name)="$($(name))")) "$(BIN)/python" -m pytest -c "$(CURDIR)/pyproject.toml" \
		--rootdir "$(CURDIR)" -p no:cacheprovider -m "(not slow or scrubbed) and not long" $(SHARED) $(ARGS) \
		$(addprefix "$(CURDIR)"/tests/,$(SCRUBBED_TESTS_IN))

test-lowest: $(LOWEST)/.ready ## run a few tests with the lowest versions that pyproject.toml allows
	@# The source of this moment, built with the lowest hatchling.
	@$(LOWEST_PIP) install --no-deps --no-build-isolation --force-reinstall .
	@# What is new warns of what is old; those who wrote either know.
	@PYTHONSAFEPATH=1 METADIST_EXPECT_INSTALLED="$(CURDIR)/$(LOWEST)" "$(LOWEST)/bin/pytest" -p no:cacheprovider \
		-W ignore -m "not slow" $(ARGS) $(addprefix tests/,$(LOWEST_TESTS_IN))

$(LOWEST)/.ready: tests/constraints-lowest.txt
	@echo "Setting up $(LOWEST) with the lowest versions (once; about as large as $(VENV))"
	@"$(PYTHON)" -m venv --clear $(LOWEST)
	@$(LOWEST_PIP) install --no-compile --no-deps $(TORCH_FROM) "$(call torch_of,$<)"
	@$(LOWEST_PIP) install --no-compile -c $< '.[tune,dev,docs,s3,mlflow-server]'
	@$(LOWEST_PIP) check
	@touch $@

lint: setup ## ruff, mypy, the import contracts, the structure and literals
	@"$(BIN)/ruff" check .
	@"$(BIN)/ruff" format --check .
	@"$(BIN)/mypy"
	@"$(BIN)/lint-imports"
	@"$(BIN)/python" tests/support/structure.py --check
	@"$(BIN)/python" tests/support/literals.py --check

format: setup ## mend what ruff can mend
	@"$(BIN)/ruff" check --fix .
	@"$(BIN)/ruff" format .

site: setup ## build docs/ as a site, strictly, into build/site
	@NO_MKDOCS_2_WARNING=1 "$(BIN)/mkdocs" build --strict --quiet --config-file .mkdocs.yml
	@echo "Read it: build/site/index.html, or with a search: $(VENV)/bin/python -m http.server -d build/site"

lock: FLOOR := true
lock: PINS := constraints.txt
lock: ## resolve the newest set that fits pyproject.toml and write it to constraints.txt
lock-lowest: FLOOR := "$(PYTHON)" tests/support/lowest.py
lock-lowest: PINS := tests/constraints-lowest.txt
lock-lowest: ## the same with the lowest versions, for tests/constraints-lowest.txt
lock lock-lowest:
	@set -e; tmp="$$(mktemp -d)"; trap 'rm -rf "$$tmp"' EXIT; $(FLOOR) >"$$tmp/floor"; \
	"$(PYTHON)" -m venv "$$tmp/venv"; pip="$$tmp/venv/bin/python -m pip --disable-pip-version-check"; \
	echo "Resolving in a fresh environment; this takes a few minutes."; \
	$$pip install -q --no-deps $(TORCH_FROM) "$(call torch_of,$(PINS))"; \
	$$pip install -q -c "$$tmp/floor" "$(call torch_of,$(PINS))" '.[tune,dev,docs,s3,mlflow-server]'; $$pip check; \
	{ sed -n '/^#/p' $(PINS); $$pip freeze --exclude metadist \
		| grep -v -i -E '^(nvidia|cuda|triton)' | sed 's/^\(torch==[^+]*\)+.*/\1/'; } >"$$tmp/new"; \
	cp "$$tmp/new" $(PINS); echo "Wrote $(PINS); now: make setup test test-lowest"

clean: ## remove caches and build products; keeps .venv, runs and data
	@rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	@find . -name '.venv*' -prune -o -type d -name __pycache__ -prune -exec rm -rf {} +
