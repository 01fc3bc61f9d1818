# Every target makes what it needs in .venv and build/; a second run does only what has changed. 'make help' lists them.
#
# Settings, as in 'make test THINWIRE_CUDA=ON':
#   PYTHON           the Python that .venv is made from; default: the first of python3, python3.14, ... 3.10 that serves
#   TORCH            torch in place of the pinned one: TORCH=torch==2.12.1, or the path of a wheel
#   THINWIRE_CUDA    ON, OFF or AUTO: compile the CUDA kernels. Default: OFF for development, AUTO for a wheel
#   CUDA_ARCH        the architectures to compile for, as in CUDA_ARCH='80;90'. Default: 90 for 'make cuda', those of
#                    a release for 'make wheel'
#   ARGS             more arguments for the program that the target runs: make demo ARGS='--rate 1gbit'

development = PYTHON=$$(sh scripts/needs.sh) && \
  THINWIRE_CUDA=$(or $(THINWIRE_CUDA),OFF) "$$PYTHON" scripts/environment.py
python = .venv/bin/python
in_venv = PATH="$(CURDIR)/.venv/bin:$$PATH"
threaded = test_cuts test_device_operation test_engine test_file_reader test_file_reader_files test_mesh test_no_memory test_parallel test_pool \
  test_pool_inbox test_pool_limits test_pool_waits test_strangers test_tcp_link test_window_messages test_windows
space := $(subst ,, )
comma := ,
# Architectures. Fails where a kernel spills. pip and build spell the option alike up to here.
cuda_settings = --config-setting=cmake.define.THINWIRE_WERROR=ON '--config-setting=cmake.define.CMAKE_CUDA_ARCHITECTURES=$(1)'
# Folder under build/, sanitizers.
native_build = $(in_venv); cmake -S . -B build/$(1) -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo -DTHINWIRE_PYTHON=OFF \
  -DTHINWIRE_NATIVE_TESTS=ON -DTHINWIRE_CUDA=OFF -DTHINWIRE_SANITIZE=$(2) -DTHINWIRE_WERROR=ON
native_run = ctest --test-dir build/$(1) --output-on-failure --parallel $$(nproc)
native_sources = $$(find csrc tests/native -name '*.[ch]pp' -o -name '*.inl' -o -name '*.cu' -o -name '*.cuh')

.PHONY: help demo test torture bench lint format native-test thread-test wheel cuda gpu examples docs clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## train over a 100 Mbit/s link, with and without thinwire; under 5 minutes
	@$(development) demo
	@$(python) -m thinwire demo $(ARGS)

test: ## the tests, examples left out; about 6 minutes on two cores
	@$(development) test
	@$(python) scripts/run_tests.py $(ARGS)

torture: ## the long tests: fuzzing, many seeds, many ranks
	@$(development) test
	@$(python) -m pytest -m torture $(ARGS)

bench: ## every benchmark, in its quick form
	@$(development) bench
	@for file in bench/[a-z]*.py; do $(python) $$file --quick $(ARGS) || exit 1; done

lint: ## ruff, mypy, clang-format
	@$(development) lint
	@$(in_venv); ruff check . && ruff format --check . && mypy && clang-format --dry-run -Werror $(native_sources)

format: ## let ruff and clang-format change the files
	@$(development) lint
	@$(in_venv); ruff check --fix . ; ruff format . ; clang-format -i $(native_sources)

native-test: ## the C++ tests under AddressSanitizer and UndefinedBehaviorSanitizer
	@$(development) native-test
	@$(call native_build,native,address$(comma)undefined) && cmake --build build/native
	@$(in_venv); $(call native_run,native)

thread-test: ## those of links and engine under ThreadSanitizer
	@$(development) native-test
	@$(call native_build,threads,thread) && cmake --build build/threads --target $(threaded)
	@$(in_venv); $(call native_run,threads) --tests-regex '$(subst $(space),|,$(threaded))'

wheel: ## sdist, and from it a wheel that auditwheel has repaired, in dist/; then used in a clean environment
	@$(development) dist
	@rm -rf build/dist && mkdir -p dist && rm -f dist/thinwire-*
	@$(in_venv); THINWIRE_CUDA=$(or $(THINWIRE_CUDA),AUTO) python -m build --no-isolation --outdir build/dist \
	  $(if $(CUDA_ARCH),$(call cuda_settings,$(CUDA_ARCH))) .
	@$(in_venv); auditwheel repair --wheel-dir dist build/dist/*.whl && cp build/dist/*.tar.gz dist/
	@sh scripts/check_wheel.sh dist/*.whl

# --no-cache-dir: pip keeps the wheel of a folder called like NAME-VERSION, and would not build it again.
cuda: ## a wheel with the CUDA kernels for one architecture, in build/cuda; needs nvcc, but no GPU
	@$(development) dist
	@rm -f build/cuda/*.whl
	@THINWIRE_CUDA=ON $(python) -m pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir build/cuda \
	  --config-settings=build-dir=build/cuda $(call cuda_settings,$(or $(CUDA_ARCH),90)) .
	@sh scripts/check_wheel.sh build/cuda/*.whl

# Not in .venv: what proves the GPU path is the torch and the toolkit that the machine has.
gpu: ## build with this machine's own python3, torch and nvcc, and prove it on its GPU; says so where there is none
	@"$(or $(PYTHON),python3)" scripts/gpu.py $(ARGS)

examples: ## every example, for five steps
	@$(development) examples
	@$(python) -m pytest tests/test_examples.py $(ARGS)

docs: ## the documentation as HTML, in build/docs
	@$(development) docs
	@$(python) -m sphinx -W --keep-going --builder html docs build/docs

clean: ## remove build/ and dist/, but not .venv
	rm -rf build dist
