# Two commands do everything on a fresh machine with Python 3.11+ and a package index:
#   make demo   pictures from sentences with the models that ship
#   make test   lint, types, import order and all tests
# PYTHON chooses the interpreter; `make install` alone makes the environment in .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: install demo test lint types imports tests clean

install: $(VENV)/.installed

$(VENV)/.core: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --constraint constraints.txt --editable .
	# Builds the kernels that suit the processor, so that the first picture does not wait for them.
	$(BIN)/python -m darkroom.nn.native
	touch $@

$(VENV)/.installed: $(VENV)/.core
	$(PIP) install --quiet --constraint constraints.txt --editable '.[dev]'
	scripts/debian_packages.sh
	touch $@

demo: $(VENV)/.core
	$(BIN)/darkroom generate \
		"a red house left of a yellow tree, at night" \
		"an orange lighthouse left of a blue boat on the sea" \
		"three blue balloons above a meadow" \
		"a white cat on a beach at sunset" \
		--seed 2 --output out/demo
	$(BIN)/darkroom generate -m picturebook-turbo \
		"a red house left of a yellow tree, at night" \
		"a red house with a green roof" \
		"a white snowman with a green hat and a red scarf" \
		"a purple boat with a yellow sail on the sea" \
		--seed 2 --output out/demo-turbo

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/pyright

imports: install
	$(BIN)/lint-imports

# Processes that tests start find their modules compiled; each worker has one half, so that tests of a file share fixtures.
tests: install
	scripts/debian_packages.sh
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal

test: lint types imports tests

clean:
	rm -rf $(VENV) build dist *.egg-info
