.DEFAULT_GOAL := help
PY := .venv/bin/python
TORCH ?= torch torchaudio
OPS = $(patsubst kernels/%/bench.py,%,$(wildcard kernels/*/bench.py))
.PHONY: help install serve check fix test test-gpu bench bench-kernels demo dist clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

.venv/installed: pyproject.toml
	test -x $(PY) || python3 -m venv .venv
	.venv/bin/pip install --quiet --upgrade pip
	.venv/bin/pip install --quiet $(TORCH)
	.venv/bin/pip install --quiet --editable '.[train,test,check]'
	touch $@

install: .venv/installed  ## create .venv with everything (TORCH=torch==… picks another build)

serve: install  ## serve the shipped model on 127.0.0.1:8765 and print the page's address
	.venv/bin/audiomamba serve

check: install  ## format, lint, types and import contracts; changes nothing
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports

fix: install  ## format and mend what ruff can mend
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .

test: install  ## run every test that a machine without a GPU can run
	$(PY) -m pytest -q --numprocesses logical --maxprocesses 4 --dist worksteal

test-gpu: install  ## run the kernel tests on the GPU; fails if one was skipped
	$(PY) -m pytest -q -m gpu audiomamba/kernels --require-gpu

bench: install  ## measure speed as ratios within one run
	.venv/bin/audiomamba bench

bench-kernels: install  ## time every op beside its peers, on the GPU where there is one
	for op in $(OPS); do $(PY) -m audiomamba.kernels.$$op.bench || exit; done

demo: install  ## draw the README's picture: a recording, and its words as they came
	$(PY) demos/plot_captions.py tests/recordings/zero_one_five.flac demos/captions.svg

dist: install  ## build the sdist, and the wheel from it
	$(PY) -m pip install --quiet build && $(PY) -m build

clean:  ## remove everything that was built
	rm -rf .venv dist build .mypy_cache .ruff_cache .pytest_cache
