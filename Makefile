# Every target sets up what it needs, from nothing; a second run finds it done.
#
#   make demo       generate three networks for both frameworks, verify them, segment a photograph
#   make test       everything: lint, types, tests
#   make quick      the quick tests that need no framework, in an environment that has none
#   make lint       formatting, lint, types, and whether generated/ and README's tables are up to date
#   make generated  write generated/ anew
#   make readme     write README's tables of architectures anew
#   make bench      measure how long generating and checking the zoo takes, and converting weights
#   make fuzz       random specs in both frameworks: N=5000 of them, from SEED=1 on
#   make mutants    break generated code in every way of many kinds, and see verify catch it (six minutes)
#   make golden     let the tests write anew what they compare with
#
# make PYTHON=… chooses the interpreter. pip's own settings hold: PIP_INDEX_URL, PIP_FIND_LINKS, …
# choose, for one, between builds of PyTorch with and without CUDA; either will do.

SHELL := /bin/bash
.DEFAULT_GOAL := test
.DELETE_ON_ERROR:

# constraints.txt is for 3.11, so that is preferred. Each is tried: a name on the PATH may be a stub.
PYTHON ?= $(shell for python in python3.11 python3 python3.12 python3.13 python3.14; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; \
	done || echo python3)

NETWORKS := unet unet_upsample deeplabv3
JOBS ?= 2

BIN := .venv/bin
QUICK := .venv-quick/bin
FULL_READY := .venv/.ready
QUICK_READY := .venv-quick/.ready

.PHONY: demo test quick lint generated readme bench fuzz mutants golden

demo: $(FULL_READY)
	$(BIN)/segspec generate $(NETWORKS)
	$(BIN)/segspec verify $(NETWORKS)
	$(BIN)/python examples/segment_photo.py unet
	$(BIN)/python examples/segment_photo.py deeplabv3

test: lint
	$(BIN)/pytest -n $(JOBS)

quick: $(QUICK_READY)
	$(QUICK)/pytest -n $(JOBS) -m "not torch and not paddle and not slow"

lint: $(FULL_READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/segspec generate --all --check
	$(BIN)/python bench/architectures.py --check

# Generating needs no framework.
generated: $(QUICK_READY)
	$(QUICK)/segspec generate --all

readme: $(QUICK_READY)
	$(QUICK)/python bench/architectures.py

bench: $(QUICK_READY)
	$(QUICK)/python bench/compile.py
	$(QUICK)/python bench/weights.py

# What is found lies minimised in fuzz-found/.
N ?= 1000
SEED ?= 1
fuzz: $(FULL_READY)
	$(BIN)/python tests/fuzz/fuzz.py $(N) --seed $(SEED)
mutants: $(FULL_READY)
	$(BIN)/python bench/mutants.py --all --jobs $(JOBS)

golden: $(FULL_READY)
	$(BIN)/pytest --update

# torchvision is only compared with. It comes without what it depends on, so that it cannot bring
# another build of PyTorch along.
$(FULL_READY): pyproject.toml constraints.txt
	$(call environment,.venv,torch$(comma)paddle$(comma)test)
	.venv/bin/python -m pip install --quiet --constraint constraints.txt --no-deps torchvision
	@touch $@

$(QUICK_READY): pyproject.toml constraints.txt
	$(call environment,.venv-quick,test)
	@touch $@

comma := ,

define environment
@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	{ echo "segspec needs Python 3.11 or newer; name one: make PYTHON=/path/to/python3.11" >&2; exit 1; }
"$(PYTHON)" -m venv $(1)
$(1)/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[$(2)]'
endef
