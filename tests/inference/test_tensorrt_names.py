"""Every name of TensorRT's that the engine uses is in the versions it is used with, or is asked for before.

`listings` has what `dir()` tells of these classes in the real bindings 8.6.1, 10.16.1 and 11.4.0, and in TensorRT-RTX 1.7.1.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOM = Path(__file__).parents[2] / "edge_agent" / "inference" / "tensorrt"
LISTINGS = {file.stem: set(file.read_text().split()) for file in (Path(__file__).parent / "listings").glob("*.txt")}
NAMES = (
    "Builder",
    "Builder.create_network",
    "Builder.create_builder_config",
    "Builder.build_serialized_network",
    "NetworkDefinitionCreationFlag.EXPLICIT_BATCH",
    "NetworkDefinitionCreationFlag.STRONGLY_TYPED",
    "OnnxParser",
    "OnnxParser.parse",
    "OnnxParser.num_errors",
    "OnnxParser.get_error",
    "ParserError.desc",
    "IBuilderConfig.set_memory_pool_limit",
    "IBuilderConfig.clear_flag",
    "IBuilderConfig.set_flag",
    "IBuilderConfig.builder_optimization_level",
    "IBuilderConfig.progress_monitor",
    "IBuilderConfig.create_timing_cache",
    "IBuilderConfig.set_timing_cache",
    "IBuilderConfig.num_compute_capabilities",
    "IBuilderConfig.set_compute_capability",
    "ITimingCache.serialize",
    "IProgressMonitor",
    "IProgressMonitor.phase_start",
    "IProgressMonitor.step_complete",
    "IProgressMonitor.phase_finish",
    "MemoryPoolType.WORKSPACE",
    "BuilderFlag.TF32",
    "BuilderFlag.INT8",
    "BuilderFlag.FP16",
    "BuilderFlag.REQUIRE_USER_ALLOCATION",
    "ComputeCapability.CURRENT",
    "ComputeCapability.SM75",
    "ComputeCapability.SM89",
    "ILogger",
    "ILogger.ERROR",
    "ILogger.INTERNAL_ERROR",
    "ILogger.WARNING",
    "ILogger.log",
    "Runtime",
    "Runtime.deserialize_cuda_engine",
    "ICudaEngine.num_io_tensors",
    "ICudaEngine.get_tensor_name",
    "ICudaEngine.get_tensor_mode",
    "ICudaEngine.get_tensor_shape",
    "ICudaEngine.get_tensor_dtype",
    "TensorIOMode.INPUT",
    "DataType.UINT8",
    "DataType.FLOAT",
    "ICudaEngine.create_execution_context",
    "ICudaEngine.create_execution_context_without_device_memory",
    "ICudaEngine.device_memory_size",
    "ICudaEngine.device_memory_size_v2",
    "ExecutionContextAllocationStrategy.USER_MANAGED",
    "IExecutionContext.set_device_memory",
    "IExecutionContext.device_memory",
    "IExecutionContext.set_tensor_address",
    "IExecutionContext.execute_async_v3",
)
# Of a name that not every listing has: how the source makes sure, in its own words.
GUARDS = {
    "NetworkDefinitionCreationFlag.EXPLICIT_BATCH": "if not library.is_strong:",
    "NetworkDefinitionCreationFlag.STRONGLY_TYPED": 'hasattr(flags, "STRONGLY_TYPED")',
    "IBuilderConfig.progress_monitor": 'hasattr(trt, "IProgressMonitor")',
    "IProgressMonitor": 'hasattr(trt, "IProgressMonitor")',
    "IProgressMonitor.phase_start": 'hasattr(trt, "IProgressMonitor")',
    "IProgressMonitor.step_complete": 'hasattr(trt, "IProgressMonitor")',
    "IProgressMonitor.phase_finish": 'hasattr(trt, "IProgressMonitor")',
    "IBuilderConfig.num_compute_capabilities": "if library.is_rtx:",
    "IBuilderConfig.set_compute_capability": "if library.is_rtx:",
    "ComputeCapability.CURRENT": "if library.is_rtx:",
    "ComputeCapability.SM75": "if library.is_rtx:",
    "ComputeCapability.SM89": "if library.is_rtx:",
    "BuilderFlag.INT8": "[] if library.is_strong else _weak_flags",
    "BuilderFlag.FP16": "[] if library.is_strong else _weak_flags",
    "BuilderFlag.REQUIRE_USER_ALLOCATION": 'hasattr(trt.BuilderFlag, "REQUIRE_USER_ALLOCATION")',
    "ICudaEngine.create_execution_context_without_device_memory": 'hasattr(trt, "ExecutionContextAllocationStrategy")',
    "ICudaEngine.device_memory_size": 'hasattr(engine, "device_memory_size_v2")',
    "ICudaEngine.device_memory_size_v2": 'hasattr(engine, "device_memory_size_v2")',
    "ExecutionContextAllocationStrategy.USER_MANAGED": 'hasattr(trt, "ExecutionContextAllocationStrategy")',
    "IExecutionContext.set_device_memory": 'hasattr(context, "set_device_memory")',
}
OBJECTS = ("trt", "builder", "parser", "config", "cache", "engine", "runtime", "context", "flags", "base", "_context", "module")
OURS = {"errors", "warnings", "__version__", "__init__"}


def used() -> set[str]:
    """Attributes that the source takes of TensorRT's modules and objects."""
    found = set()
    for name in ("api", "lane", "timing"):
        for node in ast.walk(ast.parse((ROOM / f"{name}.py").read_text())):
            if isinstance(node, ast.Attribute):
                of = node.value
                holder = of.id if isinstance(of, ast.Name) else of.attr if isinstance(of, ast.Attribute) else ""
                if holder in OBJECTS:
                    found.add(node.attr)
    return found - OURS


def test_every_name_used_is_in_the_table() -> None:
    known = {part for name in NAMES for part in name.split(".")}
    taken = used()
    assert {"execute_async_v3", "deserialize_cuda_engine", "set_device_memory"} <= taken
    assert taken <= known


def test_every_name_of_the_table_is_in_the_source() -> None:
    source = "".join(file.read_text() for file in ROOM.glob("*.py"))
    known = [name.rpartition(".")[2] for name in NAMES if not name.startswith("ComputeCapability.SM")]
    assert [name for name in known if name not in source] == []


def test_every_name_of_the_table_is_in_a_listing() -> None:
    assert set(LISTINGS) == {"8.6", "10.16", "11.4", "rtx"}
    assert [name for name in NAMES if not any(name in listing for listing in LISTINGS.values())] == []


def test_the_names_asked_for_first_are_those_that_a_listing_lacks() -> None:
    assert set(GUARDS) == {name for name in NAMES if not all(name in listing for listing in LISTINGS.values())}
    source = (ROOM / "api.py").read_text()
    assert [guard for guard in GUARDS.values() if guard not in source] == []


def test_no_flag_is_a_number() -> None:
    source = (ROOM / "api.py").read_text()
    assert "1 << int(flags." in source
    assert not [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.BinOp) and _shifts_a_number(node)]


def _shifts_a_number(node: ast.BinOp) -> bool:
    return isinstance(node.op, ast.LShift) and isinstance(node.left, ast.Constant) and isinstance(node.right, ast.Constant)


@pytest.mark.parametrize("name", NAMES)
def test_tensorrt_rtx_is_as_its_listing(name: str) -> None:
    library = pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx (extra `rtx`) is not here", exc_type=ImportError)
    found = library
    for part in name.split("."):
        found = getattr(found, part, None)
    assert (found is not None) == (name in LISTINGS["rtx"])
