# Everything runs in an environment of its own, .venv, which the targets make when they need it.
# Two stamps say what is installed there: the package and what it runs on, and the tools of a developer.

VENV := .venv
PYTHON := $(VENV)/bin/python
CORE := $(VENV)/.installed-core
DEV := $(VENV)/.installed-dev
ZOO := $(VENV)/.installed-zoo
TOOLS := $(VENV)/.installed-tools
WILD := $(VENV)/wild
UNFINISHED := $(VENV)/.unfinished
REPORT := graphflops-report.json

# The first of these that is there and new enough makes the environment.
BASE_PYTHON ?= $(firstword $(foreach each,python3 python3.11 python3.12 python3.13 python3.14,\
    $(shell $(each) -c 'import sys; sys.version_info >= (3, 11) and print("$(each)")' 2>/dev/null)))

# Tests of one file run in one process, and share what they set up.
WORKERS ?= 2
TESTS ?=
JSON ?= $(REPORT)
LENGTHS ?= 128,512,2048,8192

# Some systems ship venv without what puts pip into it.
MAKE_VENV = { $(BASE_PYTHON) -m venv $(VENV) 2>/dev/null || { $(BASE_PYTHON) -m venv --clear --without-pip $(VENV) \
    && touch $(UNFINISHED) && $(BASE_PYTHON) -m pip --python $(PYTHON) install --quiet pip; }; }

# A value as one word of the shell, whatever is in it; and an option for it, if it is given.
quoted = '$(subst ','\'',$(1))'
option = $(if $(2),$(1) $(call quoted,$(2)))

ANALYZE = $(strip $(if $(MODEL),$(call quoted,$(MODEL))) \
    $(call option,--input,$(INPUT)) $(call option,--batch,$(BATCH)) $(call option,--seq,$(SEQ)) \
    $(call option,--config,$(CONFIG)) $(call option,--optimizer,$(OPTIMIZER)) \
    $(call option,--convention,$(CONVENTION)) $(call option,--attention,$(ATTENTION)) \
    $(call option,--rules,$(RULES)) $(call option,--rate,$(RATE)) $(call option,--explain,$(EXPLAIN)) \
    $(if $(filter-out 0,$(STRICT)),--strict) $(if $(filter-out 0,$(INFERENCE)),--inference) \
    $(call option,--json,$(JSON)))

SCALE = $(strip $(if $(MODEL),$(call quoted,$(MODEL))) \
    $(call option,--size,$(SIZE)) $(call option,--input,$(INPUT)) $(call option,--config,$(CONFIG)) \
    $(call option,--phase,$(PHASE)) $(call option,--optimizer,$(OPTIMIZER)) \
    $(call option,--convention,$(CONVENTION)) $(call option,--attention,$(ATTENTION)) \
    $(call option,--rules,$(RULES)) $(if $(filter-out 0,$(INFERENCE)),--inference) \
    $(call option,--budget,$(BUDGET)) $(call option,--plot,$(PLOT)))

COMPARE = $(strip $(call option,--from,$(FROM)) $(call option,--to,$(TO)) \
    $(call option,--batch,$(BATCH)) $(call option,--seq,$(SEQ)) $(call option,--optimizer,$(OPTIMIZER)) \
    $(call option,--convention,$(CONVENTION)) $(call option,--steps,$(STEPS)) \
    $(call option,--rate,$(RATE)))

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help analyze compare scale test lint docs demo reconcile rules conformance wild repositories tools bench versions soak clean

help:  ## this list
	@echo 'Usage: make TARGET [VARIABLE=VALUE …]'
	@echo
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | while IFS="$$(printf '\t')" read -r name about; do \
	    printf '  %-13s%s\n' "$$name" "$$about"; done
	@echo
	@echo 'Variables of make analyze; without any it is ResNet-BK, batch 32, sequence 128:'
	@echo '  MODEL=my.models:tiny              a module and, in it, what makes the model'
	@echo '  INPUT="tokens=32x128:int64"       its inputs, with a space or a comma between them'
	@echo '  BATCH=8                           the leading size of every input'
	@echo '  SEQ=256                           the sequence length of ResNet-BK'
	@echo '  CONFIG="d_model=128,n_layers=8"   the configuration of ResNet-BK'
	@echo '  OPTIMIZER=sgd                     adamw, adam, sgd, sgd_momentum or none'
	@echo '  CONVENTION=exact                  standard, exact, torch, fvcore, … or a file.toml'
	@echo '  ATTENTION=math                    whose backward attention has: flash or math'
	@echo '  INFERENCE=1                       forward alone'
	@echo '  STRICT=1                          refuse a model with an op that no rule names'
	@echo '  RULES=my_rules.py                 a file or folder of rules of your own'
	@echo '  RATE="blocks.3.*=0.62"            how often modules run, where data decides'
	@echo '  EXPLAIN=lm_head                   why the numbers of a module, component or op are what they are'
	@echo '  JSON=report.json                  where the whole report goes; $(REPORT) unless told'
	@echo
	@echo 'Variables of make scale, beside MODEL, INPUT, CONFIG, OPTIMIZER, CONVENTION, ATTENTION, INFERENCE, RULES:'
	@echo '  SIZE="N=128..2048 D=64"           sizes: a value, a range, or LOW..HIGH:32 for multiples of 32'
	@echo '  PHASE=forward                     of what: total, forward, backward, optimizer or parameters'
	@echo '  BUDGET=1e18                       say the largest size within so many FLOPs'
	@echo '  PLOT=scale.svg                    draw it: .png, .svg or .pdf'
	@echo
	@echo 'Variables of make compare, beside BATCH, SEQ, OPTIMIZER and CONVENTION:'
	@echo '  FROM=BASELINE_CONFIG              the configuration to begin with'
	@echo '  TO="FULL_CONFIG,n_layers=8"       the one to arrive at'
	@echo '  STEPS=1000                        of a run of so many steps instead of one'
	@echo '  LENGTHS=128,512,2048              the lengths at which Mamba and a Transformer stand beside it'
	@echo
	@echo 'Variables of make test:'
	@echo '  TESTS="tests/models -k published"   which tests, as pytest takes it; all unless told'
	@echo '  WORKERS=4                         how many run at a time; $(WORKERS) unless told'
	@echo
	@echo 'Variables of make versions, beside TESTS and WORKERS:'
	@echo '  TORCH="2.8.0 2.15.0"              which versions; the oldest, two in between and the newest unless told'
	@echo
	@echo 'Variables of make bench:'
	@echo '  ROWS="llama* start_up"            which rows are measured again; all unless told'

analyze: $(CORE)  ## what a training step of a model costs
	$(PYTHON) -m graphflops analyze $(ANALYZE)

scale: $(if $(PLOT),$(DEV),$(CORE))  ## how what a model costs grows with its sizes
	$(PYTHON) -m graphflops scale $(SCALE)

# Each worker has a core of its own; PyTorch would have as many threads in each as there are cores.
test: $(DEV)  ## all tests
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -n $(WORKERS) --dist loadfile $(TESTS)

lint: $(DEV)  ## style, format and types
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check
	$(PYTHON) -m mypy

docs: $(DEV)  ## the documentation as web pages, in site/
	NO_MKDOCS_2_WARNING=1 $(PYTHON) -m mkdocs build --strict --quiet

compare: $(CORE)  ## from one configuration of ResNet-BK to another, flag by flag; and beside Mamba and a Transformer
	$(PYTHON) -m graphflops compare $(COMPARE)
	$(PYTHON) -m graphflops compare --lengths $(call quoted,$(LENGTHS))

demo: $(CORE)  ## every use of the quick reference, one after the other
	$(PYTHON) docs/examples/flops_counter_demo.py

reconcile: $(CORE)  ## write docs/reconciliation.md, the hand count against the graph
	$(PYTHON) -m graphflops.models.reconciliation docs/reconciliation.md

rules: $(DEV)  ## write docs/rules/, a page for each file of rules
	$(PYTHON) -m graphflops.rules.pages docs/rules

conformance: $(ZOO)  ## hundreds of public models against what autograd dispatches, in docs/conformance.md
	$(PYTHON) tests/conformance $(MODELS)

wild: $(WILD)/.installed  ## models of a hundred public packages, which it installs in a folder of their own
	PYTHONPATH=$(WILD) $(PYTHON) tests/conformance --family wild --jobs 1 $(MODELS)

repositories: $(WILD)/.installed  ## models of public repositories that are no packages, which it clones
	$(PYTHON) tests/conformance/clone.py $(VENV)/repositories
	PYTHONPATH=$(WILD) $(PYTHON) tests/conformance --family repositories --jobs 1 $(MODELS)

tools: $(TOOLS)  ## run other FLOP counters: the conventions named after them, and the numbers in README.md
	$(PYTHON) -m pytest tests/tools tests/test_readme.py

bench: $(TOOLS)  ## how long an analysis takes beside torch's counter and others, in docs/benchmarks.md
	$(PYTHON) tests/benchmarks $(foreach each,$(ROWS),$(call quoted,$(each)))

versions:  ## the test suite on several versions of PyTorch and Python, each in an environment of its own, in docs/versions.md
	$(BASE_PYTHON) tests/versions $(TORCH) --workers $(WORKERS) $(if $(TESTS),--tests $(TESTS))

soak: $(DEV)  ## thousands of analyses in one process: nothing grows, and every answer stays
	$(PYTHON) -m pytest -m soak tests/soak tests/capture

clean:  ## remove what make made, the environment too
	rm -rf $(VENV) site build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis $(REPORT)
	find graphflops rules tests docs -name __pycache__ -type d -prune -exec rm -rf {} +

# What was cut off in the middle of an installation cannot be trusted: a mark stands while one runs, and who finds
# it starts afresh. A failure that pip reports leaves no such mark: pip has then changed nothing.
define install
	@test ! -e $(UNFINISHED) || rm -rf $(VENV)
	@test -x $(PYTHON) || { rm -rf $(VENV) && mkdir $(VENV) && touch $(UNFINISHED) && $(MAKE_VENV); }
	@touch $(UNFINISHED); trap 'exit 130' INT TERM; \
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e $(1) \
	    || { rm -f $(UNFINISHED); exit 1; }
	@rm -f $(UNFINISHED)
	@touch $@
endef

$(CORE): pyproject.toml constraints.txt
	@test -n "$(BASE_PYTHON)" || { echo 'graphflops needs Python 3.11 or newer: install one, or give BASE_PYTHON=…' >&2; exit 1; }
	@echo 'Making the environment $(VENV): graphflops and what it runs on. PyTorch is large, the first time takes a while …'
	$(call install,.)

$(DEV): $(CORE) pyproject.toml constraints.txt
	@echo 'Adding what tests, lint and docs need …'
	$(call install,'.[dev]')

# torchvision's wheel is built against CUDA: its Python is all that the models need, and timm asks for it.
$(ZOO): $(CORE) pyproject.toml constraints.txt
	@echo 'Adding the models of the zoo …'
	$(call install,'.[zoo]')
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps -c constraints.txt torchvision timm
	@touch $@

# The packages of the extra, without what they ask for in turn: some would bring another torch. Beside the environment,
# so that no tool of a developer sees them. torchaudio's libraries are built against CUDA; the models need its Python.
WILD_PACKAGES = $(PYTHON) -c 'import tomllib; project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
    print(*project["optional-dependencies"]["wild"])'

$(WILD)/.installed: $(ZOO) pyproject.toml constraints.txt
	@echo 'Adding the public packages of the wild in $(WILD): this takes some minutes …'
	@rm -rf $(WILD) && mkdir -p $(WILD)
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps -c constraints.txt --target $(WILD) \
	    $$($(WILD_PACKAGES))
	@rm -f $(WILD)/torchaudio/lib/*.so
	@touch $@

$(TOOLS): $(DEV) $(ZOO) pyproject.toml constraints.txt
	@echo 'Adding the other counters …'
	$(call install,'.[tools]')
