# Each target does all of its own set-up: a virtual environment in .venv, the pinned packages, this project.
# Repeats start at once; changed pins are installed again. Runs with GNU make 3.81 and later.
#
#   make explore ARGS="--port 8700"      further arguments for the tool
#   make test ARGS="-k depth"            further arguments for pytest
#   make test PYTHON=python3.12          another interpreter (3.11 or later)

VENV   ?= .venv
PYTHON ?= python3
OUT    ?= report
ARGS   ?=

BIN     := $(VENV)/bin
CREATED := $(VENV)/.created
RUNTIME := $(VENV)/.runtime-installed
DEV     := $(VENV)/.dev-installed

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help setup explore report test lint lock clean

help:
	@echo "make explore   open the explorer on the bundled pair of models"
	@echo "make report    write the report of the bundled pair to $(OUT)/"
	@echo "make test      run the tests (offline once set up)"
	@echo "make lint      check format, style, types and import arrows"
	@echo "make setup     install what the tests and checks need, and stop there"
	@echo "make lock      bring the pinned requirements in line with pyproject.toml (needs uv)"
	@echo "make clean     remove .venv, builds and caches"

explore: $(RUNTIME)
	@$(BIN)/engram-interp explore $(ARGS)

report: $(RUNTIME)
	@$(BIN)/engram-interp report --out $(OUT) $(ARGS)

test: $(DEV)
	@$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile $(ARGS)

lint: $(DEV)
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo --no-cache

setup: $(DEV)

# --- set-up ----------------------------------------------------------------------------------------

NEWER := import sys; sys.exit(sys.version_info < (3, 11))

$(CREATED):
	@for python in "$(PYTHON)" python3.13 python3.12 python3.11 python3.14; do \
	  if "$$python" -c "$(NEWER)" 2>/dev/null; then found=$$python; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "engram-interp needs Python 3.11 or later; $(PYTHON) is `$(PYTHON) --version 2>&1`." >&2; \
	  echo "Install one, or name it: make PYTHON=/path/to/python3.12 ..." >&2; exit 1; \
	fi; \
	echo "Setting up $(VENV) with `$$found --version`"; \
	"$$found" -m venv --clear "$(VENV)" || { \
	  echo "Python's venv module did not work (Debian and Ubuntu: apt install python3-venv)." >&2; exit 1; }
	@touch $@

# $(call install,FILE): the pins of FILE and, without touching them, this project. Large downloads are shown.
define install
	@echo "Installing the pinned packages of $(1) (the first time takes minutes: torch is large)"
	@rm -f $@.ok; { $(BIN)/python -m pip install -r $(1) && touch $@.ok; } \
	  | sed -n 's/^ *Downloading \(.*([0-9.]* [MG]B)\)$$/  \1/p'; rm $@.ok 2>/dev/null || { \
	  echo "Installing $(1) failed; pip says why above." >&2; exit 1; }
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@
endef

$(RUNTIME): requirements-runtime.txt pyproject.toml $(CREATED)
	$(call install,requirements-runtime.txt)

$(DEV): requirements.txt pyproject.toml $(CREATED)
	$(call install,requirements.txt)
	@touch $(RUNTIME)

# --- pins ------------------------------------------------------------------------------------------

# The present pins are kept where they still fit; `make lock ARGS=--upgrade` takes the newest versions.
# Kept out: what only torch's CUDA build needs (torch itself names it there), and a part for browsers.
COMPILE  := uv pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest \
            --no-emit-index-url --no-header --no-annotate
KEPT_OUT := /^cuda-/d; /^nvidia-/d; /^triton==/d; /^httpx2-jsfetch==/d

lock:
	@$(COMPILE) $(ARGS) --extra dev pyproject.toml --output-file requirements.txt >/dev/null
	@cp requirements.txt requirements-runtime.txt
	@echo hatchling | $(COMPILE) pyproject.toml - --output-file requirements-runtime.txt >/dev/null
	@for file in requirements.txt requirements-runtime.txt; do \
	  { echo "# Exact versions, written by 'make lock' from pyproject.toml. torch's CUDA parts (nvidia-*, cuda-*,"; \
	    echo "# triton) are left to torch, which names those its build needs: so its CPU-only wheel installs too."; \
	    sed -e '/^#/d' -e '$(KEPT_OUT)' $$file; } > $$file.new && mv $$file.new $$file; \
	done

clean:
	@rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
