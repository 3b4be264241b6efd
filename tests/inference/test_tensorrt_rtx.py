"""The real parser and builder of TensorRT-RTX, which need no GPU: networks build for the GPUs there are, and files hold them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from bright import write_bright_model, write_float_model

from edge_agent.errors import ConfigurationError, EngineUnavailable
from edge_agent.inference.model import load_model
from edge_agent.inference.tensorrt.api import BuildOptions, build_plan, load_library
from edge_agent.inference.tensorrt.build import build_aside
from edge_agent.inference.tensorrt.network import Network, network_of
from edge_agent.inference.tensorrt.store import EngineKey, Manifest, Refused, read_engine, write_engine

try:
    import tensorrt_rtx  # noqa: F401
except (ImportError, OSError) as error:
    pytest.skip(f"tensorrt_rtx (extra `rtx`) is not here: {error}", allow_module_level=True)

MODELS = Path(__file__).parents[2] / "models"


def build(network: Network, folder: Path, *capabilities: str, said: list[str] | None = None) -> bytes:
    told = (said if said is not None else []).append
    return build_aside(network, folder / "timing.cache", "tensorrt_rtx", 256, 3, told, capabilities=capabilities)


@pytest.mark.slow
@pytest.mark.parametrize("capability", ["7.5", "8.6", "8.9", "12.0"])
def test_the_demo_model_builds_for_every_gpu(tmp_path: Path, capability: str) -> None:
    said: list[str] = []
    plan = build(network_of(load_model(MODELS / "demo-texture")), tmp_path, capability, said=said)
    assert len(plan) > 100_000
    assert any("/" in text for text in said)


def test_an_engine_is_kept_in_a_file_and_refused_when_damaged(tmp_path: Path) -> None:
    model = load_model(write_bright_model(tmp_path / "bright"))
    network, library = network_of(model), load_library("tensorrt_rtx")
    plan = build(network, tmp_path, "8.9")
    key = EngineKey(
        library=library.name,
        version=library.version,
        network_hash=network.sha256,
        gpu="ahead",
        capability="8.9",
        driver="none",
        options={"workspace_mb": 256, "optimization": 3},
    )
    file = tmp_path / f"{key.digest}.engine"
    digest = hashlib.sha256(plan).hexdigest()
    write_engine(file, Manifest(key=key, sha256=digest, bytes=len(plan), built="now", parity=""), plan)
    stored = read_engine(file, key)
    assert stored is not None
    assert stored[1] == plan
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    with pytest.raises(Refused, match="checksum"):
        read_engine(file, key)


@pytest.mark.parametrize(
    ("layout", "kind", "head", "channels"),
    [
        ("NCHW", "logits", "sigmoid", 1),
        ("NHWC", "probability", "sigmoid", 2),
        ("NCHW", "logits", "softmax", 3),
        ("NHWC", "probability", "softmax", 3),
    ],
)
def test_every_form_that_model_yaml_can_tell_builds(tmp_path: Path, layout: str, kind: str, head: str, channels: int) -> None:
    folder = write_float_model(tmp_path / "model", layout, kind, head, channels)
    options = BuildOptions(256, 0, ("8.6",))
    plan, timing = build_plan(load_library("tensorrt_rtx"), network_of(load_model(folder)).onnx, options)
    assert plan
    assert timing == b""  # this library keeps none


def test_a_network_it_cannot_read_will_never_work(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot read the network"):
        build(Network(b"no ONNX at all", ""), tmp_path, "8.9")


def test_a_build_for_this_machines_gpu_says_what_is_missing(tmp_path: Path) -> None:
    network = network_of(load_model(write_bright_model(tmp_path / "bright")))
    try:
        assert build(network, tmp_path)  # with a GPU
    except EngineUnavailable as error:
        assert "driver" in str(error) or "GPU" in str(error)  # either is right: it is this machine's


def test_a_folder_that_takes_nothing_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EngineUnavailable, match="Free space there"):
        build(Network(b"", ""), tmp_path / "file" / "beneath")
