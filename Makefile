# Every tool comes through these targets; nothing has to be installed by hand. `make` alone lists them.
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin
UV := $(RUN)/python -m uv
MODELS := $(or $(LOCALMODEL_CACHE),$(HOME)/.cache/localmodel)/models
export PYTHONPATH := operator
export CONTEXT REGISTRY NAMESPACE FUZZ_SECONDS

.DEFAULT_GOAL := help
.PHONY: help demo try test test-fast gpu gpu-bench cluster cluster-down cluster-binaries images weights generate lint fuzz lock venv clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: venv ## cluster, operator, model, and a streamed answer (CONTEXT=name REGISTRY=host:port for your own cluster)
	@$(RUN)/python hack/demo.py

try: venv weights ## the same model without root and without a cluster, as plain processes
	@$(RUN)/localmodel run examples/smollm2.yaml $(if $(ASK),--ask "$(ASK)")

test: venv ## every layer of tests, on real parts; builds what is missing (ONLY=layer for one; CONTEXT and REGISTRY as above)
	@$(RUN)/python hack/test.py $(addprefix --only ,$(ONLY))

test-fast: venv ## what one runs while working: lint, unit and golden tests, a minute or two
	@$(RUN)/python hack/test.py --fast

ON_CARD := PYTHONPATH=operator:tests:hack:$(GPU_PACKAGES) $(PYTHON) -m bench.on_card

gpu: ## the tests that need a CUDA card, with a PYTHON that has torch (GPU_PACKAGES=folder of packages that it lacks)
	@$(ON_CARD) --only tests

gpu-bench: ## the official benches on a card, resumable, and a table beside their bars (the same; BENCH="--only decode start")
	@$(ON_CARD) --without tests --skip-done $(BENCH)

cluster: ## the local two-node Kubernetes cluster
	@$(PYTHON) hack/cluster/main.py up

cluster-down: ## ends it and leaves the machine as it was found
	@$(PYTHON) hack/cluster/main.py down

cluster-binaries: ## builds Kubernetes and its companions from Go modules
	@$(PYTHON) hack/cluster/main.py build

images: cluster ## builds the three images and pushes them to the local registry
	@$(PYTHON) hack/images/main.py push

weights: venv ## SmolLM2-135M-Instruct as a model directory
	@$(RUN)/python hack/weights.py $(MODELS)/smollm2-135m-instruct

generate: venv ## CRD, chart copies, values schema, RBAC, dashboards, reference: everything made from code
	@$(RUN)/python hack/generate.py

lint: venv ## ruff, mypy, import layers, generated files
	@$(RUN)/python hack/test.py --only lint

fuzz: venv ## five minutes (FUZZ_SECONDS=) of coverage-guided fuzzing of the gateway's HTTP entry
	@$(UV) pip install --quiet --python $(RUN)/python --require-hashes -r hack/locks/fuzz.txt
	@PYTHONPATH=operator:tests $(RUN)/python -m fuzz.run

lock: venv ## renews the locked versions
	@PATH="$(CURDIR)/$(RUN):$$PATH" hack/lock.sh

venv: $(VENV)/.complete

$(VENV)/.complete: hack/locks/all.txt pyproject.toml $(wildcard operator/localmodel/*/*.[ch])
	@echo "making $(VENV): a minute or two the first time on a machine, seconds after that"
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is missing; on Debian: apt-get install python3-venv"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13) and "Python 3.11 or 3.12 is needed: make PYTHON=python3.12 ...")'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) can't make virtual environments; on Debian: apt-get install python3-venv"; exit 1; }
	@test -x $(RUN)/python || $(PYTHON) -m venv $(VENV)
	@$(RUN)/python -m pip install --quiet --require-hashes -r hack/locks/uv.txt
	@$(UV) pip install --quiet --python $(RUN)/python --require-hashes -r hack/locks/all.txt
	@$(UV) pip install --quiet --python $(RUN)/python --no-deps --no-build-isolation -e .
	@touch $@

clean: ## removes what was made in this checkout (the cache outside it stays)
	find operator hack tests -name __pycache__ -prune -exec rm -rf {} +
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
