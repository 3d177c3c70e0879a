# All targets run in a virtual environment, .venv, which they create when needed.
# Stamp files record what is installed there: the package with its dependencies, and the development tools.

VENV := .venv
PYTHON := $(VENV)/bin/python
CORE := $(VENV)/.installed-core
DEV := $(VENV)/.installed-dev
ZOO := $(VENV)/.installed-zoo
TOOLS := $(VENV)/.installed-tools
WILD := $(VENV)/wild
UNFINISHED := $(VENV)/.unfinished
REPORT := graphflops-report.json

# The first of these that exists and is new enough creates the environment.
BASE_PYTHON ?= $(firstword $(foreach python,python3 python3.11 python3.12 python3.13 python3.14,\
    $(shell $(python) -c 'import sys; sys.version_info >= (3, 11) and print("$(python)")' 2>/dev/null)))

# Tests of one file run in one process and share their fixtures.
WORKERS ?= 2
TESTS ?=
JSON ?= $(REPORT)
LENGTHS ?= 128,512,2048,8192

# Some systems ship venv without ensurepip.
MAKE_VENV = { $(BASE_PYTHON) -m venv $(VENV) 2>/dev/null || { $(BASE_PYTHON) -m venv --clear --without-pip $(VENV) \
    && touch $(UNFINISHED) && $(BASE_PYTHON) -m pip --python $(PYTHON) install --quiet pip; }; }

# A value quoted for the shell; an option with its value, if it is set.
quoted = '$(subst ','\'',$(1))'
option = $(if $(2),$(1) $(call quoted,$(2)))

ANALYZE = $(strip $(if $(MODEL),$(call quoted,$(MODEL))) \
    $(call option,--input,$(INPUT)) $(call option,--batch,$(BATCH)) $(call option,--seq,$(SEQ)) \
    $(call option,--image,$(IMAGE)) $(call option,--config,$(CONFIG)) $(call option,--optimizer,$(OPTIMIZER)) \
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
.PHONY: help analyze compare scale test test-all lint docs pictures demo reconcile rules commands conformance wild repositories tools bench versions newcomer soak clean

help:  ## list the targets and variables
	@echo 'Usage: make TARGET [VARIABLE=VALUE …]'
	@echo
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | while IFS="$$(printf '\t')" read -r name about; do \
	    printf '  %-13s%s\n' "$$name" "$$about"; done
	@echo
	@echo 'Variables of make analyze (default: ResNet-BK, batch 32, sequence 128):'
	@echo '  MODEL=my.models:tiny              model: MODULE:FACTORY, hf:NAME, timm:NAME, torchvision:NAME'
	@echo '  INPUT="tokens=32x128:int64"       its inputs, separated by spaces or commas'
	@echo '  BATCH=8                           leading size of every input'
	@echo '  SEQ=256                           sequence length of ResNet-BK, or of a text that is made up'
	@echo '  IMAGE=224                         size of an image that is made up'
	@echo '  CONFIG="d_model=128,n_layers=8"   configuration of ResNet-BK'
	@echo '  OPTIMIZER=sgd                     adamw, adam, sgd, sgd_momentum or none'
	@echo '  CONVENTION=exact                  standard, exact, torch, fvcore, … or a file.toml'
	@echo '  ATTENTION=math                    attention backward: flash (recompute) or math'
	@echo '  INFERENCE=1                       forward pass only'
	@echo '  STRICT=1                          fail if any op is unsupported'
	@echo '  RULES=my_rules.py                 file or folder with rules of your own'
	@echo '  RATE="blocks.3.*=0.62"            how often data-dependent modules run'
	@echo '  EXPLAIN=lm_head                   explain the numbers of a module path, component or op'
	@echo '  JSON=report.json                  file for the report; default: $(REPORT)'
	@echo
	@echo 'Variables of make scale, in addition to MODEL, INPUT, CONFIG, OPTIMIZER, CONVENTION, ATTENTION, INFERENCE, RULES:'
	@echo '  SIZE="N=128..2048 D=64"           sizes: a value, a range, or LOW..HIGH:32 for multiples of 32'
	@echo '  PHASE=forward                     total, forward, backward, optimizer or parameters'
	@echo '  BUDGET=1e18                       say the largest size within so many FLOPs'
	@echo '  PLOT=scale.svg                    draw it: .png, .svg or .pdf'
	@echo
	@echo 'Variables of make compare, beside BATCH, SEQ, OPTIMIZER and CONVENTION:'
	@echo '  FROM=BASELINE_CONFIG              the configuration to begin with'
	@echo '  TO="FULL_CONFIG,n_layers=8"       the one to arrive at'
	@echo '  STEPS=1000                        of a run of so many steps instead of one'
	@echo '  LENGTHS=128,512,2048              the lengths at which Mamba and a Transformer stand beside it'
	@echo
	@echo 'Variables of make test and make test-all:'
	@echo '  TESTS="tests/models -k published"   pytest arguments; default: all tests'
	@echo '  WORKERS=4                         parallel processes; default: $(WORKERS)'
	@echo
	@echo 'Variables of make versions, in addition to TESTS and WORKERS:'
	@echo '  TORCH="2.8.0 2.15.0"              PyTorch versions; default: the oldest, two in between and the newest'
	@echo
	@echo 'Variables of make bench:'
	@echo '  ROWS="llama* start_up by_name"    rows to measure; default: all'

analyze: $(CORE)  ## count the FLOPs of a training step of a model
	$(PYTHON) -m graphflops $(if $(MODEL),,resnet-bk )analyze $(ANALYZE)

scale: $(if $(PLOT),$(DEV),$(CORE))  ## find the FLOPs of a model as an expression in its sizes
	$(PYTHON) -m graphflops $(if $(MODEL),,resnet-bk )scale $(SCALE)

# One thread per worker: by default PyTorch starts as many threads in each as there are cores.
test: $(DEV)  ## run the tests, but for the slow ones
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -n $(WORKERS) --dist loadfile $(TESTS)

test-all: $(DEV)  ## run the tests, the slow ones included
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -n $(WORKERS) --dist loadfile -m 'not soak' $(TESTS)

lint: $(DEV)  ## check style, format and types
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check
	$(PYTHON) -m mypy

docs: $(DEV)  ## build the documentation in site/, with its pictures; open site/index.html
	NO_MKDOCS_2_WARNING=1 $(PYTHON) -m mkdocs build --strict --quiet
	$(PYTHON) tests/report/pictures.py site/pictures

pictures: $(DEV)  ## draw the pictures in docs/pictures/ anew, with Chromium and chromedriver
	$(PYTHON) tests/report/pictures.py docs/pictures

compare: $(CORE)  ## compare two configurations of ResNet-BK, and ResNet-BK with Mamba and a Transformer
	$(PYTHON) -m graphflops resnet-bk compare $(COMPARE)
	$(PYTHON) -m graphflops resnet-bk compare --lengths $(call quoted,$(LENGTHS))

demo: $(CORE)  ## run every example of the quick reference
	$(PYTHON) docs/examples/flops_counter_demo.py

reconcile: $(CORE)  ## regenerate docs/reconciliation.md: a hand count of ResNet-BK and its graph
	$(PYTHON) -m graphflops.models.reconciliation docs/reconciliation.md

rules: $(DEV)  ## regenerate docs/rules/, one page per rule file
	$(PYTHON) -m graphflops.rules.pages docs/rules

commands: $(DEV)  ## regenerate the options of each command in docs/commands/
	$(PYTHON) -m graphflops.cli.pages docs/commands

conformance: $(ZOO)  ## verify hundreds of public models; regenerates docs/conformance.md
	$(PYTHON) tests/conformance $(MODELS)

wild: $(WILD)/.installed  ## verify models of a hundred public packages, installed in a separate folder
	PYTHONPATH=$(WILD) $(PYTHON) tests/conformance --family wild --jobs 1 $(MODELS)

repositories: $(WILD)/.installed  ## verify models of public repositories, which it clones
	$(PYTHON) tests/conformance/clone.py $(VENV)/repositories
	PYTHONPATH=$(WILD) $(PYTHON) tests/conformance --family repositories --jobs 1 $(MODELS)

tools: $(TOOLS)  ## run other FLOP counters: the conventions named after them, and the numbers in README.md
	$(PYTHON) -m pytest tests/tools tests/test_readme.py

bench: $(TOOLS)  ## measure analysis time beside other counters; regenerates docs/benchmarks.md
	$(PYTHON) tests/benchmarks $(foreach row,$(ROWS),$(call quoted,$(row)))

versions:  ## run the tests on several versions of PyTorch and Python; regenerates docs/versions.md
	$(BASE_PYTHON) tests/versions $(TORCH) --workers $(WORKERS) $(if $(TESTS),--tests $(TESTS))

newcomer: $(DEV)  ## time a newcomer from pip install to an HTML page of a model; regenerates docs/newcomer.md
	$(PYTHON) tests/versions/newcomer.py docs/newcomer.md

soak: $(DEV)  ## run thousands of analyses in one process: no leaks, no changed results
	$(PYTHON) -m pytest -m soak tests/soak tests/tracing

clean:  ## remove everything that make created, including .venv
	rm -rf $(VENV) site build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis $(REPORT)
	find graphflops rules tests docs -name __pycache__ -type d -prune -exec rm -rf {} +

# An interrupted installation may be incomplete: a marker file exists while one runs, and if it is left behind, the
# environment is created again. When pip itself fails it changes nothing, and the marker is removed.
define install
	@test ! -e $(UNFINISHED) || rm -rf $(VENV)
	@test -x $(PYTHON) || { rm -rf $(VENV) && mkdir $(VENV) && touch $(UNFINISHED) && $(MAKE_VENV); }
	@touch $(UNFINISHED); trap 'exit 130' INT TERM; \
	$(PYTHON) -m pip install $(2) --disable-pip-version-check -c constraints.txt -e $(1) \
	    || { rm -f $(UNFINISHED); exit 1; }
	@rm -f $(UNFINISHED)
	@touch $@
endef

$(CORE): pyproject.toml constraints.txt
	@test -n "$(BASE_PYTHON)" || { echo 'graphflops needs Python 3.11 or newer: install it, or set BASE_PYTHON=…' >&2; exit 1; }
	@echo 'Installing graphflops and its dependencies in $(VENV). This downloads PyTorch: about 200 MB as the CPU build, and'
	@echo 'several GB with CUDA. PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu selects the CPU build.'
	$(call install,.)

$(DEV): $(CORE) pyproject.toml constraints.txt
	@echo 'Installing test, lint and documentation tools …'
	$(call install,'.[dev]',--quiet)

# torchvision's wheel is built against CUDA; the models need only its Python files, and timm requires it.
$(ZOO): $(CORE) pyproject.toml constraints.txt
	@echo 'Installing the packages with public models …'
	$(call install,'.[zoo]',--quiet)
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps -c constraints.txt torchvision timm
	@touch $@

# The packages without their dependencies, some of which would install another torch; in a separate folder, so that
# development tools do not see them. torchaudio's libraries are built against CUDA; the models need its Python files.
WILD_PACKAGES = $(PYTHON) -c 'import tomllib; project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
    print(*project["optional-dependencies"]["wild"])'

$(WILD)/.installed: $(ZOO) pyproject.toml constraints.txt
	@echo 'Installing public packages in $(WILD): this takes some minutes …'
	@rm -rf $(WILD) && mkdir -p $(WILD)
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps -c constraints.txt --target $(WILD) \
	    $$($(WILD_PACKAGES))
	@rm -f $(WILD)/torchaudio/lib/*.so
	@touch $@

$(TOOLS): $(DEV) $(ZOO) pyproject.toml constraints.txt
	@echo 'Installing the other counters …'
	$(call install,'.[tools]',--quiet)
