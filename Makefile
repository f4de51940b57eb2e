# Every target sets up what it needs in .venv, once; set PYTHON to choose the interpreter.
PYTHON ?= python3
BIN := .venv/bin
WHEEL_BIN := .venv-wheel/bin
CHECKOUT := $(CURDIR)
PYTEST_FLAGS ?= -n 2 -q
# Tests that compare times run after the others, one by one.
TOGETHER := $(PYTEST_FLAGS) -m 'not timing'
APART := -q -m timing

# What XLA has compiled for the tests is kept, and found by the next run of them.
export JAX_COMPILATION_CACHE_DIR := $(CURDIR)/build/compiled
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS := 0
export JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES := -1

SOURCES := pytest_jaxact.py $(shell find jaxact interop benchmarks/bench -name '*.py' -o -name '*.html')

.PHONY: check test lint types test-checkout test-wheel test-oldest test-newest docs accuracy bench conformance crosscheck clean

check: .venv/installed  ## cross-check the activations against the installed PyTorch
	$(BIN)/jaxact check

test: lint types test-wheel  ## everything that must hold before a change lands

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# mypy looks for jaxact.bench and jaxact.interop inside jaxact: it is given the folders as they are installed.
types: .venv/installed
	rm -rf build/types && mkdir -p build/types && cp -r jaxact build/types/ && cp -r interop benchmarks/bench build/types/jaxact/
	MYPYPATH=build/types:benchmarks $(BIN)/mypy build/types/jaxact benchmarks/*.py pytest_jaxact.py

test-checkout: .venv/installed  ## the same tests on the checkout, without a wheel
	$(BIN)/pytest $(TOGETHER)
	$(BIN)/pytest $(APART)

# The tests are run on what users install, from outside the checkout, so that what was not packaged is missed.
test-wheel: .venv-wheel/installed
	cd .venv-wheel && bin/python -c "import jaxact; assert '.venv-wheel' in jaxact.__file__, jaxact.__file__"
	cd .venv-wheel && bin/python -m pytest $(TOGETHER) -c $(CHECKOUT)/pyproject.toml $(CHECKOUT)/tests
	cd .venv-wheel && bin/python -m pytest $(APART) -c $(CHECKOUT)/pyproject.toml $(CHECKOUT)/tests

# The two ends of what is supported: every lower bound of pyproject.toml, taken for a pin, and what is newest today.
test-oldest:  ## the tests with the oldest releases that are supported
	$(PYTHON) -m venv --clear .venv-oldest
	grep -oE '"[a-z0-9-]+>=[0-9.]*"' pyproject.toml | tr -d '"' | sed 's/>=/==/' > .venv-oldest/bounds.txt
	.venv-oldest/bin/pip install --quiet --disable-pip-version-check -c .venv-oldest/bounds.txt -e '.[test]'
	.venv-oldest/bin/python -m pytest $(TOGETHER)
	.venv-oldest/bin/python -m pytest $(APART)

test-newest:  ## the tests with the newest releases that there are
	$(PYTHON) -m venv --clear .venv-newest
	.venv-newest/bin/pip install --quiet --disable-pip-version-check -e '.[test]'
	.venv-newest/bin/python -m pytest $(TOGETHER)
	.venv-newest/bin/python -m pytest $(APART)

docs: .venv/installed  ## build the site into docs/_build
	$(BIN)/sphinx-build -W --keep-going -q docs docs/_build
	@echo "open docs/_build/index.html"

accuracy: .venv/installed  ## every float through every function that has changed: some two hours for all, resumable
	$(BIN)/python benchmarks/accuracy.py

bench: .venv/installed  ## speed beside torch and jax.nn: some ten minutes on a quiet machine
	$(BIN)/python benchmarks/speed.py

conformance: .venv/installed  ## PyTorch's own test inputs, NumPy's tables and public reports: some half an hour
	$(BIN)/python benchmarks/conformance.py

crosscheck: .venv/installed  ## twenty right ports and two hundred wrong ones before compare: some half an hour
	$(BIN)/python benchmarks/crosscheck.py

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all]'
	touch $@

# The wheel alone is installed here; its dependencies are those of .venv, which a .pth file puts behind it.
.venv-wheel/installed: .venv/installed $(SOURCES)
	rm -rf .venv-wheel build/lib build/bdist*
	$(BIN)/python -m venv .venv-wheel
	$(BIN)/pip wheel --quiet --disable-pip-version-check --no-deps -w .venv-wheel .
	$(WHEEL_BIN)/pip install --quiet --disable-pip-version-check --no-deps .venv-wheel/jaxact-*.whl
	$(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))" \
		> "$$($(WHEEL_BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/dependencies.pth"
	touch $@

clean:
	rm -rf .venv .venv-wheel .venv-oldest .venv-newest build docs/_build docs/reference *.egg-info
