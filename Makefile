# make repro | test | check | deps | help …  Each makes .venv first, once, from pyproject.toml and constraints.txt.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/installed
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export PYTHONPATH := $(CURDIR)
export RAY_USAGE_STATS_ENABLED := 0
# Images of containers set it, and then each of many processes compiles all code again: 0.3 s of a stage, 5 s of a pytest worker.
unexport PYTHONDONTWRITEBYTECODE

# One Ray head for all stages, where params.yaml wants one on this machine; stopped whatever happens. A second Ctrl-C may stop DVC in
# the middle of its lock file, which no later command of its would read.
MEND := python -m workspace.dvc_lock --quiet
WITH_RAY = trap '$(MEND); python -m cluster.head stop' EXIT; $(MEND) && python -m cluster.head start --params params.yaml &&

# A container's user may have no name and no home (docker run --user 1000), and a service none in its environment: DVC asks for both.
export USER := $(or $(USER),$(shell id -un 2>/dev/null),$(shell id -u))
export HOME := $(or $(HOME),$(shell getent passwd $$(id -u) | cut -d: -f6),$(CURDIR)/.runs/home)

# A path as it was typed, also one with a quote or a dollar sign in it.
typed = $(subst ','\'',$(value $(1)))

.DEFAULT_GOAL := help
.PHONY: help install repro flow dashboard sweep-time preset test load hostile field fuzz interrupts check deps docs clean table6 table7 court court_photographs figure6 figures real text longer tuning chaos bench speedrun

help:  ## this list
	@awk -F ':.*## ' '/^[a-z0-9][a-z0-9_ -]*:.*## /{ n = split($$1, names, " "); for (i = 1; i <= n; i++) printf "%-18s%s\n", names[i], $$2 }' $(MAKEFILE_LIST)

install: $(STAMP)  ## .venv from pyproject.toml + constraints.txt

$(STAMP): pyproject.toml constraints.txt
	@echo "installing into $(VENV): once, some minutes"
	@$(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[workflow,dev]'
	@touch $@

repro: $(STAMP) preset  ## run everything that is out of date (PRESET=faces SOURCE=/path/to/images takes presets/faces.yaml first)
	@$(WITH_RAY) dvc repro && echo "the report: file://$$PWD/artifacts/report/index.html"

flow: $(STAMP) preset  ## the same as a Prefect flow
	@$(WITH_RAY) python -m pipelines.reproduce

dashboard: $(STAMP)  ## Prefect's server and a worker on this machine: start, watch and stop runs in a browser (PORT=4200)
	@python -m pipelines.dashboard $(if $(PORT),--port $(PORT))

sweep-time: $(STAMP)  ## six arms of Stackformer two at a time against one after another, into docs/results/sweep.json
	python -m benchmarks.sweep

preset: $(STAMP)  ## write presets/NAME.yaml out in full as params.yaml (PRESET=NAME), unless that has edits of yours
	@python -m pipelines.overrides
	@python -m workflow.preset $(PRESET) $(if $(SOURCE),--source '$(call typed,SOURCE)') $(if $(WEIGHTS),--weights '$(call typed,WEIGHTS)')

# Files in the order that tests/cpu.py gives them, the longest first (xdist alone would begin with those of the most tests).
# Three at a time on two cores: tests that wait for servers, browsers and kills leave theirs to the others.
test: $(STAMP)  ## all tests, at most 15 minutes on two cores of which one is busy (OPTIONS=--cpu says what they cost)
	python -m pytest --numprocesses=4 --dist=loadfile --no-loadscope-reorder $(OPTIONS)

# .dvcignore hides the tables' stages from every other DVC command.
VIEW := python -m pipelines.view

# Seed by seed, so that a stop leaves whole seeds; what is up to date does not run again.
SEEDS = $(shell python -c 'import yaml; print(*yaml.safe_load(open("experiments/arms.yaml"))["seeds"]["$(TABLE)"])')
TABLE = shapes
table6 table7: $(STAMP)  ## the paper's table in miniature: arms × seeds, then docs/results/TABLE.md
	@for seed in $(SEEDS); do $(VIEW) dvc repro --glob "experiments/$@/dvc.yaml:*@*-$$seed" || exit 1; done
	@python -m experiments.table --table experiments/$@/params.yaml --runs artifacts/arms --out docs/results/$@

# Results of several days and machines gather in docs/results/court.json.
ONLY = $(shell python -c 'import yaml; print(*yaml.safe_load(open("experiments/court/params.yaml"))["trained"])')
court: TABLE = court
court: $(STAMP)  ## who should choose the cells: every rule against the paper's scorer (SEEDS=0 ONLY=random-75-f2 takes some runs)
	@for seed in $(SEEDS); do for arm in $(ONLY); do \
		$(VIEW) dvc repro --glob "experiments/court/dvc.yaml:*@$$arm-$$seed" || exit 1; done; done
	@python -m experiments.court --table experiments/court/params.yaml --runs artifacts/court --out docs/results/court

SETS = faces flowers
court_photographs: TABLE = court_photographs
court_photographs: ONLY = $(shell python -c 'import yaml; print(*yaml.safe_load(open("experiments/court_photographs/params.yaml"))["trained"])')
court_photographs: $(STAMP)  ## the same on data/faces and data/flowers, by two extractors (SETS=faces SEEDS=0 ONLY=random-75)
	@for seed in $(SEEDS); do for set in $(SETS); do for arm in $(ONLY); do \
		$(VIEW) dvc repro --glob "experiments/court_photographs/dvc.yaml:arm@$$set-$$arm-$$seed" || exit 1; done; done; done
	@for set in $(SETS); do python -m experiments.court --table experiments/court_photographs/$$set.yaml \
		--runs artifacts/court_$$set --out docs/results/court_$$set || exit 1; done

figure6: $(STAMP)  ## curves and speed of Stackformers on Table 6's tokens: docs/results/figure6.svg
	@$(VIEW) dvc repro experiments/figure6/dvc.yaml
	@$(VIEW) dvc repro $(foreach arm,vqgan adaptive-25 adaptive-50 adaptive-75,experiments/table6/dvc.yaml:stackformer@$(arm)-0)
	@python -m experiments.figures curves --runs artifacts/arms --long artifacts/figure6 --out docs/results

figures: table6  ## masks and codebooks of Table 6's arms: docs/results/figure4-*.png, figure5.svg
	@python -m experiments.figures codes --runs artifacts/arms --out docs/results

text: $(STAMP)  ## shapes from captions, with and without guidance, on the demo's MQ-VAE
	@$(WITH_RAY) dvc repro train_mqvae reference
	@$(VIEW) dvc repro experiments/text/dvc.yaml
	@python -m experiments.text --runs artifacts/text --out docs/results/text

real: $(STAMP)  ## the reconstruction halves of both tables on data/faces
	@$(VIEW) dvc repro experiments/real/dvc.yaml
	@python -m experiments.table --table experiments/real/params.yaml --runs artifacts/real --out docs/results/real

longer: $(STAMP)  ## reconstruction orderings of tables 6 and 7, three times the steps
	@$(VIEW) dvc repro experiments/longer/dvc.yaml
	@python -m experiments.table --table experiments/longer/params.yaml --runs artifacts/longer --out docs/results/longer

tuning: $(STAMP)  ## flowers from faces' weights against from scratch, and what a second extractor says of faces and the demo
	@$(WITH_RAY) dvc repro sample
	@$(VIEW) dvc repro experiments/tuning/dvc.yaml
	@python -m experiments.table --table experiments/tuning/params.yaml --runs artifacts/tuning --out docs/results/tuning
	@for set in demo faces; do \
		python -m experiments.table --table experiments/tuning/$$set.yaml --runs artifacts/tuning --out docs/results/tuning_$$set || exit 1; done

chaos: $(STAMP)  ## kill -9 at random moments and full disks, an hour; needs root for the disks → docs/results/
	python -m tests.chaos.run --replace
	python -m tests.chaos.run --images 20000 --add
	python -m tests.chaos.rejoin
	python -m tests.chaos.disk
	python -m tests.chaos.store

BENCH := $(VENV)/installed-bench
$(BENCH): $(STAMP)
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	@touch $@

bench: $(BENCH)  ## every CPU row of the speed table, at most 15 minutes on two quiet cores (ROWS="1 4" for some)
	python -m benchmarks.run $(if $(ROWS),--only $(ROWS))

load: $(STAMP)  ## the tests that watch other processes, ten times each beside eight busy ones: some hours
	python -m tests.load

speedrun: $(STAMP)  ## the race, three seeds in fresh clones (TRACK=second); rules and records: docs/records.md
	python -m benchmarks.speedrun $(if $(TRACK),--track $(TRACK))

hostile: $(STAMP)  ## every hostile case, 500 flipped bytes, and docs/robustness.md from their outcomes
	python -m tests.hostile.render
	python -m tests.hostile.flips

field: $(STAMP)  ## every symptom that people met, tried; its table in docs/robustness.md
	python -m tests.field.render

fuzz: $(STAMP)  ## 210,000 hostile inputs to every reader
	python -m tests.hostile.fuzz

interrupts: $(STAMP)  ## `make repro` stopped at 30 random moments
	python -m tests.hostile.interrupts

check: $(STAMP)  ## ruff, mypy, and dvc.yaml's code dependencies
	ruff check .
	ruff format --check .
	mypy
	python -m workspace.code

deps: $(STAMP)  ## rewrite the code dependencies in dvc.yaml
	python -m workspace.code --write

docs: $(STAMP)  ## docs/api.md from the docstrings
	python docs/api.py

clean:  ## forget runs and artifacts (the DVC cache and .venv stay)
	rm -rf .runs artifacts experiments/.dvcignore .mypy_cache .ruff_cache .hypothesis
