# make quickstart   photos -> records -> training -> SavedModel -> server -> descriptors -> evaluation -> page
# make test         the test suite            make lint   format, rules, docstrings
# make test-tfa     compares losses with tensorflow-addons, which gets an environment of its own; needs Python 3.11
# make peers        installs PyTorch and JAX too, for the tests that compare with them and for pipelines.import_torch
# make beam         installs Apache Beam, for jobs on more than one machine and their tests; see docs/beam.md
# make bench        speeds beside those of others and the machine's own limits, in minutes; make bench-full: with the peers
# PYTHON=python3.13 chooses the interpreter (3.11 to 3.13); each has an environment of its own.
SHELL := /bin/sh
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c '$(SUPPORTED)' >/dev/null 2>&1 && echo $$python && break; done)
VENV := $(if $(filter command% environment%,$(origin PYTHON)),.venv-$(notdir $(PYTHON)),.venv)
BIN := $(VENV)/bin
# An environment is up to date when it was made from requirement files with this checksum, whatever their dates.
checksum = $(shell cat $(1) | cksum | cut -d' ' -f1)
RUN_READY := $(VENV)/.ready-$(call checksum,requirements.txt)
DEV_READY := $(VENV)/.ready-dev-$(call checksum,requirements.txt requirements-dev.txt)
PEERS_READY := $(VENV)/.ready-peers-$(call checksum,requirements.txt requirements-dev.txt requirements-peers.txt)
BEAM_READY := $(VENV)/.ready-beam-$(call checksum,requirements.txt requirements-dev.txt requirements-beam.txt)
TFA_PYTHON ?= python3.11
TFA_VENV := .venv-tfa
TFA_READY := $(TFA_VENV)/.ready-$(call checksum,requirements-tfa.txt)
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

PHOTOS ?=
WEIGHTS ?=
BACKBONE ?=
QUICKSTART_OUTPUT ?= runs/quickstart
QUICKSTART_FLAGS ?=
PYTEST_FLAGS ?=
# A process for each core, up to four; each takes a file at a time. TEST_PROCESSES= runs the tests in one.
TEST_PROCESSES ?= --numprocesses=auto --maxprocesses=4 --dist=loadfile

.PHONY: quickstart test test-tfa lint format peers beam bench bench-full clean

quickstart: $(RUN_READY)
	@$(BIN)/python -m pipelines.quickstart --output="$(QUICKSTART_OUTPUT)" $(if $(PHOTOS),--photos="$(PHOTOS)") \
		$(if $(WEIGHTS),--weights="$(WEIGHTS)") $(if $(BACKBONE),--backbone="$(BACKBONE)") $(QUICKSTART_FLAGS)

test: $(DEV_READY)
	@$(BIN)/python -m pytest $(TEST_PROCESSES) $(PYTEST_FLAGS)

test-tfa: $(DEV_READY) $(TFA_READY)
	@$(BIN)/python -m pytest -m slow tests/tfretrieval/losses/test_tfa.py $(PYTEST_FLAGS)

lint: $(DEV_READY)
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .

format: $(DEV_READY)
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

peers: $(PEERS_READY)

beam: $(BEAM_READY)

# Sides whose packages are not installed are left out, with the reason.
bench: $(RUN_READY)
	@$(BIN)/python -m benchmarks.machine --rounds=3
	@$(BIN)/python -m benchmarks.decoding_peers --photos=48 --rounds=3
	@$(BIN)/python -m benchmarks.search_peers --rounds=3
	@$(BIN)/python -m benchmarks.peers --photos=2 --rounds=1
	@$(BIN)/python -m benchmarks.training_peers --steps=1 --rounds=2

bench-full: $(PEERS_READY)
	@$(BIN)/python -m benchmarks.machine
	@$(BIN)/python -m benchmarks.decoding_peers
	@$(BIN)/python -m benchmarks.augmentation
	@$(BIN)/python -m benchmarks.search_peers
	@$(BIN)/python -m benchmarks.peers --photos=12
	@$(BIN)/python -m benchmarks.extraction
	@$(BIN)/python -m benchmarks.training_peers
	@$(BIN)/python -m benchmarks.training

$(BIN)/python:
	@if [ -z "$(PYTHON)" ] || ! $(PYTHON) -c '$(SUPPORTED)' 2>/dev/null; then \
		echo "error: PYTHON=$(PYTHON) is not Python 3.11 to 3.13; name one, as in make test PYTHON=python3.12" >&2; exit 2; fi
	@echo "creating $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "error: $(PYTHON) -m venv failed; on Debian and Ubuntu, install the package python3-venv" >&2; exit 2; }

$(RUN_READY): | $(BIN)/python
	@echo "installing requirements.txt"
	@$(PIP) -r requirements.txt
	@touch $@

$(DEV_READY): $(RUN_READY)
	@echo "installing requirements-dev.txt"
	@$(PIP) -r requirements.txt -r requirements-dev.txt
	@touch $@

$(PEERS_READY): $(DEV_READY)
	@echo "installing requirements-peers.txt"
	@$(PIP) -r requirements.txt -r requirements-dev.txt -r requirements-peers.txt
	@touch $@

$(BEAM_READY): $(DEV_READY)
	@echo "installing requirements-beam.txt"
	@$(PIP) --no-deps -r requirements-beam.txt
	@touch $@

$(TFA_READY):
	@if ! $(TFA_PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then \
		echo "error: TFA_PYTHON=$(TFA_PYTHON) is not Python 3.11, the newest that tensorflow-addons 0.23 runs on" >&2; exit 2; fi
	@echo "installing requirements-tfa.txt in $(TFA_VENV)"
	@test -x $(TFA_VENV)/bin/python || $(TFA_PYTHON) -m venv $(TFA_VENV) || { rm -rf $(TFA_VENV); exit 2; }
	@$(TFA_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-tfa.txt
	@touch $@

clean:
	rm -rf .venv .venv-* build dist *.egg-info runs models
