"""What a builder of TensorRT 8, 10 and 11 is asked for, and what its refusals mean; it is faked, with each version's names."""

from __future__ import annotations

import numpy as np
import pytest
from fake_gpu import World, install
from onnx import TensorProto, helper, numpy_helper

from edge_agent.errors import ConfigurationError, EngineUnavailable
from edge_agent.inference.tensorrt.api import BuildOptions, build_plan, load_library

OPTIONS = BuildOptions(workspace_mb=64, optimization=4)
VERSIONS = ["8.5.2", "8.6.1", "10.3.0", "10.16.1", "11.4.0"]


def network(*kinds: str) -> bytes:
    """A graph that quantises, holds float16 weights, casts to float16, or takes the axes of a maximum as an input."""
    nodes = [helper.make_node("Identity", ["in"], ["out"])]
    weights = []
    if "int8" in kinds:
        nodes.append(helper.make_node("QuantizeLinear", ["in", "scale"], ["q"]))
        weights.append(numpy_helper.from_array(np.float32(0.1), "scale"))
    if "half" in kinds:
        weights.append(numpy_helper.from_array(np.zeros(1, np.float16), "half"))
    if "cast" in kinds:
        nodes.append(helper.make_node("Cast", ["in"], ["narrow"], to=TensorProto.FLOAT16))
    if "axes" in kinds:
        nodes.append(helper.make_node("ReduceMax", ["in", "axes"], ["most"]))
        weights.append(numpy_helper.from_array(np.array([0]), "axes"))
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("in", "out")]
    return helper.make_model(helper.make_graph(nodes, "net", value[:1], value[1:], weights)).SerializeToString()


def world_of(monkeypatch: pytest.MonkeyPatch, version: str) -> World:
    return install(monkeypatch, version)


@pytest.mark.parametrize(
    ("version", "asked"),
    [
        ("8.5.2", {"network": 1, "flags": [], "level": None}),
        ("8.6.1", {"network": 1, "flags": [], "level": 4}),
        ("10.3.0", {"network": 2, "flags": [], "level": 4}),
        ("11.4.0", {"network": 1, "flags": [], "level": 4}),  # the bit of STRONGLY_TYPED moved
    ],
)
def test_float32_is_asked_for_as_each_version_wants_it(
    monkeypatch: pytest.MonkeyPatch, version: str, asked: dict[str, object]
) -> None:
    world = world_of(monkeypatch, version)
    steps: list[tuple[str, int, int]] = []
    plan, learnt = build_plan(load_library(), network(), OPTIONS, b"fake cache", lambda *step: steps.append(step))
    assert plan.startswith(b"fake plan")
    assert learnt == b"fake cache"
    assert world.builds == [{**asked, "WORKSPACE": 64 << 20, "cache": b"fake cache"}]
    assert steps == ([] if version.startswith("8") else [("tactics", 0, 2), ("tactics", 1, 2), ("tactics", 2, 2)])


@pytest.mark.parametrize("version", VERSIONS)
def test_a_quantised_file_is_built_by_every_version(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    world = world_of(monkeypatch, version)
    build_plan(load_library(), network("int8"), OPTIONS)
    assert world.builds[0]["flags"] == (["FP16", "INT8"] if version.startswith("8") else [])


@pytest.mark.parametrize("kind", ["half", "cast"])
def test_8_is_given_no_file_of_float16(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    world = world_of(monkeypatch, "8.6.1")
    with pytest.raises(EngineUnavailable, match=r"8\.6\.1 builds no network with float16 .*need TensorRT 10\.12: update it"):
        build_plan(load_library(), network("int8", kind), OPTIONS)
    assert world.builds == []


def test_8_is_given_no_maximum_over_axes_that_it_would_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    world = world_of(monkeypatch, "8.6.1")
    with pytest.raises(EngineUnavailable, match="takes opset 17 at most"):
        build_plan(load_library(), network("axes"), OPTIONS)
    assert world.builds == []
    world_of(monkeypatch, "10.3.0")
    assert build_plan(load_library(), network("axes"), OPTIONS)[0]


@pytest.mark.parametrize("step", ["parse", "build"])
@pytest.mark.parametrize("kinds", [("half",), ("int8",), ("int8", "half")])
def test_what_an_early_10_refuses_of_types_names_the_version_it_needs(
    monkeypatch: pytest.MonkeyPatch, kinds: tuple[str, ...], step: str
) -> None:
    world = world_of(monkeypatch, "10.3.0")
    world.fail[step] = "QuantizeLinear: the scale must be of type float"
    with pytest.raises(
        EngineUnavailable, match=r"10\.3\.0 cannot .*the scale must be of type float.*need TensorRT 10\.12: update it"
    ):
        build_plan(load_library(), network(*kinds), OPTIONS)


@pytest.mark.parametrize(
    ("version", "kinds"), [("10.3.0", ()), ("10.16.1", ("half",)), ("11.4.0", ("int8", "half")), ("8.6.1", ())]
)
@pytest.mark.parametrize("step", ["parse", "build"])
def test_a_network_that_the_version_should_know_is_the_models_fault(
    monkeypatch: pytest.MonkeyPatch, version: str, kinds: tuple[str, ...], step: str
) -> None:
    world = world_of(monkeypatch, version)
    world.fail[step] = "no implementation for node 7"
    with pytest.raises(ConfigurationError, match="no implementation for node 7"):
        build_plan(load_library(), network(*kinds), OPTIONS)


@pytest.mark.parametrize(
    ("why", "remedy"),
    [
        ("Cuda Runtime (out of memory)", r"too little free memory.*lower engine\.workspace_mb"),
        ("Could not find any implementation for node up/Conv due to insufficient workspace", r"Raise engine\.workspace_mb"),
        ("Cuda failure: 35", "Update the driver"),
        ("Compute capability is invalid or not supported", "is not for this GPU: .*Install one that supports it"),
        ("Cuda failure: 2", "too little free memory"),
    ],
)
def test_memory_and_driver_may_come(monkeypatch: pytest.MonkeyPatch, why: str, remedy: str) -> None:
    world = world_of(monkeypatch, "10.3.0")
    world.fail["build"] = why
    with pytest.raises(EngineUnavailable, match=remedy):
        build_plan(load_library(), network("half"), OPTIONS)


@pytest.mark.parametrize(
    "why",
    [
        "Cuda failure: 209",  # begins as 2 does
        "[engine.cpp::run::81] Error Code 1: Cuda Runtime (an illegal memory access was encountered)",
        "CUDA_ERROR_ECC_UNCORRECTABLE",
        "Unable to load library: libnvinfer_builder_resource_sm75.so.10.3.0",
        "the launch timed out and was terminated",
    ],
)
def test_a_gpu_that_fails_or_a_library_that_lacks_a_part_is_no_fault_of_the_network(
    monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    world = world_of(monkeypatch, "10.16.1")
    world.fail["build"] = why
    with pytest.raises(EngineUnavailable, match=r"the GPU or its libraries failed: .*dmesg"):
        build_plan(load_library(), network(), OPTIONS)


def test_a_network_that_cannot_be_built_never_will_be(monkeypatch: pytest.MonkeyPatch) -> None:
    world = world_of(monkeypatch, "10.16.1")
    world.fail["build"] = "Could not find any implementation for node /head/Conv"
    with pytest.raises(ConfigurationError, match="/head/Conv"):
        build_plan(load_library(), network(), OPTIONS)


@pytest.mark.parametrize(
    "warning",
    [
        "Tactic Device request: 4245MB Available: 3804MB. Device memory is insufficient to use tactic.",
        "UNSUPPORTED_STATE: Skipping tactic 44 due to insufficient memory on requested size of 1048576000 detected for tactic 0x6e",
        "Skipping tactic 3 due to insuficient memory on requested size of 538 detected for tactic 4.",
    ],
)
def test_a_node_whose_kernels_were_all_too_large_for_the_free_memory_is_no_fault_of_the_network(
    monkeypatch: pytest.MonkeyPatch, warning: str
) -> None:
    world = world_of(monkeypatch, "10.16.1")
    world.fail |= {
        "warnings": [warning],
        "build": "Error Code 10: Internal Error (Could not find any implementation for node pool.)",
    }
    with pytest.raises(EngineUnavailable, match=r"too little free memory: .*pool.*emory.*End what else uses it"):
        build_plan(load_library(), network(), OPTIONS)
    world.fail["build"] = "the network has no output"
    with pytest.raises(ConfigurationError, match="no output"):
        build_plan(load_library(), network(), OPTIONS)


@pytest.mark.parametrize("version", ["8.6.1", "10.3.0", "11.4.0"])
@pytest.mark.parametrize("maker", ["Builder", "OnnxParser"])
def test_a_constructor_that_makes_nothing_is_told_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch, version: str, maker: str
) -> None:
    world = world_of(monkeypatch, version)
    world.fail[maker] = ("warning", "CUDA initialization failure with error: 35. Please check your CUDA installation")
    with pytest.raises(EngineUnavailable, match="the NVIDIA driver is too old for this TensorRT"):
        build_plan(load_library(), network(), OPTIONS)


@pytest.mark.parametrize("method", ["network", "config"])
def test_a_method_that_makes_nothing_is_told(monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    world = world_of(monkeypatch, "10.3.0")
    world.fail[method] = True
    with pytest.raises(EngineUnavailable, match=r"tensorrt 10\.3\.0 cannot begin: it gave no reason"):
        build_plan(load_library(), network(), OPTIONS)


@pytest.mark.parametrize("answer", ["none", "false"])
def test_a_damaged_timing_cache_is_begun_anew(monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    world = world_of(monkeypatch, "10.3.0")
    world.fail["cache"] = answer
    _, learnt = build_plan(load_library(), network(), OPTIONS, b"\0damaged")
    assert world.builds[0]["cache"] == b""
    assert learnt == b"fake cache"
