# Two commands do everything on a fresh machine with Python 3.11 or newer: `make demo` and `make test`.
VENV := .venv
BIN := $(VENV)/bin
# The first of these that is 3.11 or newer.
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13 python3.14; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)

# Installs for this machine; ISPLIT_PLATFORM is for wheels.
INSTALL := env -u ISPLIT_PLATFORM $(BIN)/pip install --quiet --editable

# Long experiments of this checkout stand still meanwhile.
QUIETLY := $(BIN)/python experiments/pausing.py

# The variable silences an advertisement of the theme. With --quiet, --strict would let warnings pass.
SITE := NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

.PHONY: install demo test check bench docs wheel wheels peers reproduce-report mutants clean

install: $(VENV)/installed

$(VENV)/installed: $(VENV)/demo-installed
	@echo "Installing what tests, checks and documentation need as well."
	$(INSTALL) '.[design,ray,timm,dev,docs]'
	@touch $@

# The demo needs less than the tests do, so that a newcomer sees it sooner.
$(VENV)/demo-installed: pyproject.toml
	@test -n "$(PYTHON)" || { echo "isplit needs Python 3.11 or newer; none was found on the PATH"; exit 1; }
	@echo "Installing isplit and torch into $(VENV). This takes some minutes."
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) '.[design]'
	@touch $@

demo: $(VENV)/demo-installed
	$(BIN)/isplit demo

test: install
	$(QUIETLY) $(BIN)/pytest -q -n auto --dist loadfile --no-loadscope-reorder -m 'not ray'
	$(QUIETLY) $(BIN)/pytest -q -m ray $(shell grep -rl --include='*.py' 'mark\.ray' tests)

check: install
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(SITE)

bench: install
	$(INSTALL) '.[bench]'
	$(QUIETLY) $(BIN)/python benchmarks/importance.py
	$(QUIETLY) $(BIN)/python benchmarks/runtime_edge.py
	$(QUIETLY) $(BIN)/python benchmarks/runtime_server.py
	$(QUIETLY) $(BIN)/python benchmarks/hostile_clients.py --only mixed
	$(QUIETLY) $(BIN)/python benchmarks/thin_client.py
	$(QUIETLY) $(BIN)/python benchmarks/imports.py
	$(QUIETLY) $(BIN)/python benchmarks/codec.py
	$(BIN)/python benchmarks/ratios.py

# Small changes of the code that no test notices; Ctrl-C stops it, and the same command goes on. MUTANTS='--count 50' ...
mutants: install
	nice $(BIN)/python benchmarks/mutants.py $(MUTANTS)

# Tables and plots of the experiments from their committed results; nothing is trained.
reproduce-report: install
	$(BIN)/python experiments/reproduction/report.py

# Foreign servers to test against, in an environment of their own; the tests that need them are skipped without.
peers: .venv-peers/installed

.venv-peers/installed: tests/peers/requirements.txt
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/pip install --quiet --requirement tests/peers/requirements.txt
	@touch $@

# What `pip install` takes on a device or another workstation: dist/isplit-VERSION-cp311-abi3-PLATFORM.whl, or without a
# C compiler dist/isplit-VERSION-py3-none-any.whl, which codes in numpy.
wheel: install
	rm -f dist/isplit-*.whl
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir dist .
	@ls dist/isplit-*.whl

# The wheels of a release: the compiled coder for each kind of 64-bit Linux, and the pure wheel for everything else.
WHEELS := manylinux_2_28_x86_64 manylinux_2_28_aarch64 musllinux_1_2_x86_64 musllinux_1_2_aarch64
wheels: install
	rm -f dist/isplit-*.whl
	for platform in $(WHEELS); do \
		ISPLIT_COMPILED=1 ISPLIT_PLATFORM=$$platform $(BIN)/pip wheel --quiet --no-deps --wheel-dir dist . || exit; \
	done
	ISPLIT_COMPILED=0 $(BIN)/pip wheel --quiet --no-deps --wheel-dir dist .
	@ls dist/isplit-*.whl

# The site of docs/, in seconds; it fails on a page without navigation and on a link that leads nowhere.
docs: install
	$(SITE)

clean:
	rm -rf $(VENV) .venv-peers build dist site isplit-demo .pytest_cache .ruff_cache .hypothesis .import_linter_cache
