# make demo | test | check | bench | faults | soak. Works with a plain python3 -m venv; PYTHON= chooses the interpreter.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
RUNTIME := $(VENV)/.runtime
DEV := $(VENV)/.dev

# Options of `make demo`
SEED ?= 0
STEPS ?=
OBS ?= pixels
RUN ?=
HOURS ?=
CONSOLE ?=

.PHONY: demo test check format lint types imports bench faults soak clean

demo: $(RUNTIME)
	$(BIN)/serl demo --seed $(SEED) --obs $(OBS) $(if $(STEPS),--steps $(STEPS)) $(if $(RUN),--run $(RUN)) $(if $(CONSOLE),--console)

test: $(DEV)
	$(BIN)/pytest

# The fault table of docs/reliability.md, a row each, of the code as users run it; `make test` runs its quick rows, with
# the types of every call checked.
faults: $(DEV)
	$(BIN)/pytest tests/faults -m fault_row --jaxtyping-packages= --fault-seed $(SEED) --fault-table $(or $(RUN),runs/faults)

# The three programs and eight stub actors with a fault every 20 s, for HOURS (half of one if not given).
soak: $(DEV)
	$(BIN)/python benchmarks/soak.py --minutes $(if $(HOURS),$$(( $(HOURS) * 60 )),30) --seed $(SEED) $(if $(RUN),--run $(RUN))

check: format lint types imports test

format: $(DEV)
	$(BIN)/ruff format --check .

lint: $(DEV)
	$(BIN)/ruff check .

types: $(DEV)
	$(BIN)/mypy

imports: $(DEV)
	$(BIN)/lint-imports

bench: $(DEV)
	$(BIN)/python benchmarks/run.py

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(RUNTIME): $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[server,sim,learner,vision]'
	touch $@

$(DEV): $(RUNTIME)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[server,sim,learner,vision,franka,franka-sim,panda,realsense,robotiq,spacemouse,console,dev]'
	touch $@
