"""Every name of TensorRT's that the engine uses exists in the versions it is used with.

The table was taken from `dir()` of the real bindings 8.6.1, 10.16.1 and 11.4.0, and of TensorRT-RTX 1.7.1 ("rtx").
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOM = Path(__file__).parents[2] / "edge_agent" / "inference" / "tensorrt"
ALL = {"8.6", "10.16", "11.4", "rtx"}
NAMES = {
    "Builder": "8.6 10.16 11.4 rtx",
    "Builder.create_network": "8.6 10.16 11.4 rtx",
    "Builder.create_builder_config": "8.6 10.16 11.4 rtx",
    "Builder.build_serialized_network": "8.6 10.16 11.4 rtx",
    "NetworkDefinitionCreationFlag.EXPLICIT_BATCH": "8.6 10.16",
    "NetworkDefinitionCreationFlag.STRONGLY_TYPED": "10.16 11.4 rtx",
    "OnnxParser": "8.6 10.16 11.4 rtx",
    "OnnxParser.parse": "8.6 10.16 11.4 rtx",
    "OnnxParser.num_errors": "8.6 10.16 11.4 rtx",
    "OnnxParser.get_error": "8.6 10.16 11.4 rtx",
    "ParserError.desc": "8.6 10.16 11.4 rtx",
    "IBuilderConfig.set_memory_pool_limit": "8.6 10.16 11.4 rtx",
    "IBuilderConfig.clear_flag": "8.6 10.16 11.4 rtx",
    "IBuilderConfig.set_flag": "8.6 10.16 11.4 rtx",
    "IBuilderConfig.builder_optimization_level": "8.6 10.16 11.4 rtx",
    "IBuilderConfig.progress_monitor": "10.16 11.4 rtx",
    "IBuilderConfig.create_timing_cache": "8.6 10.16 11.4 rtx",
    "IBuilderConfig.set_timing_cache": "8.6 10.16 11.4 rtx",
    "IBuilderConfig.num_compute_capabilities": "rtx",
    "IBuilderConfig.set_compute_capability": "rtx",
    "ITimingCache.serialize": "8.6 10.16 11.4 rtx",
    "IProgressMonitor": "10.16 11.4 rtx",
    "IProgressMonitor.phase_start": "10.16 11.4 rtx",
    "IProgressMonitor.step_complete": "10.16 11.4 rtx",
    "IProgressMonitor.phase_finish": "10.16 11.4 rtx",
    "MemoryPoolType.WORKSPACE": "8.6 10.16 11.4 rtx",
    "BuilderFlag.TF32": "8.6 10.16 11.4 rtx",
    "BuilderFlag.INT8": "8.6 10.16",
    "BuilderFlag.FP16": "8.6 10.16",
    "BuilderFlag.REQUIRE_USER_ALLOCATION": "rtx",
    "ComputeCapability.CURRENT": "rtx",
    "ComputeCapability.SM75": "rtx",
    "ComputeCapability.SM89": "rtx",
    "ILogger": "8.6 10.16 11.4 rtx",
    "ILogger.ERROR": "8.6 10.16 11.4 rtx",
    "ILogger.INTERNAL_ERROR": "8.6 10.16 11.4 rtx",
    "ILogger.WARNING": "8.6 10.16 11.4 rtx",
    "ILogger.log": "8.6 10.16 11.4 rtx",
    "Runtime": "8.6 10.16 11.4 rtx",
    "Runtime.deserialize_cuda_engine": "8.6 10.16 11.4 rtx",
    "ICudaEngine.num_io_tensors": "8.6 10.16 11.4 rtx",
    "ICudaEngine.get_tensor_name": "8.6 10.16 11.4 rtx",
    "ICudaEngine.get_tensor_mode": "8.6 10.16 11.4 rtx",
    "ICudaEngine.get_tensor_shape": "8.6 10.16 11.4 rtx",
    "ICudaEngine.get_tensor_dtype": "8.6 10.16 11.4 rtx",
    "TensorIOMode.INPUT": "8.6 10.16 11.4 rtx",
    "DataType.UINT8": "8.6 10.16 11.4 rtx",
    "DataType.FLOAT": "8.6 10.16 11.4 rtx",
    "ICudaEngine.create_execution_context": "8.6 10.16 11.4 rtx",
    "ICudaEngine.create_execution_context_without_device_memory": "8.6 10.16",
    "ICudaEngine.device_memory_size": "8.6 10.16",
    "ICudaEngine.device_memory_size_v2": "10.16 11.4 rtx",
    "ExecutionContextAllocationStrategy.USER_MANAGED": "10.16 11.4 rtx",
    "IExecutionContext.set_device_memory": "10.16 11.4 rtx",
    "IExecutionContext.device_memory": "8.6 10.16 11.4 rtx",
    "IExecutionContext.set_tensor_address": "8.6 10.16 11.4 rtx",
    "IExecutionContext.execute_async_v3": "8.6 10.16 11.4 rtx",
}
# Of a name that not every version has: how the source makes sure, in its own words.
GUARDS = {
    "NetworkDefinitionCreationFlag.EXPLICIT_BATCH": "if not library.is_strong:",
    "NetworkDefinitionCreationFlag.STRONGLY_TYPED": 'hasattr(flags, "STRONGLY_TYPED")',
    "IBuilderConfig.progress_monitor": 'hasattr(trt, "IProgressMonitor")',
    "IProgressMonitor": 'hasattr(trt, "IProgressMonitor")',
    "IProgressMonitor.phase_start": 'hasattr(trt, "IProgressMonitor")',
    "IProgressMonitor.step_complete": 'hasattr(trt, "IProgressMonitor")',
    "IProgressMonitor.phase_finish": 'hasattr(trt, "IProgressMonitor")',
    "IBuilderConfig.create_timing_cache": "if not library.is_rtx:",
    "IBuilderConfig.set_timing_cache": "if not library.is_rtx:",
    "ITimingCache.serialize": "if cache is not None",
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
    assert {"execute_async_v3", "deserialize_cuda_engine", "set_device_memory", "TF32"} <= taken | {"TF32"}
    assert taken <= known


def test_every_name_of_the_table_is_in_the_source() -> None:
    source = "".join(file.read_text() for file in ROOM.glob("*.py"))
    known = [name.rpartition(".")[2] for name in NAMES if not name.startswith("ComputeCapability.SM")]
    assert [name for name in known if name not in source] == []


@pytest.mark.parametrize("name", [name for name, versions in NAMES.items() if set(versions.split()) != ALL])
def test_a_name_that_some_versions_lack_is_asked_for_first(name: str) -> None:
    assert GUARDS[name] in (ROOM / "api.py").read_text()


def test_no_flag_is_a_number() -> None:
    source = (ROOM / "api.py").read_text()
    assert "1 << int(flags." in source
    assert not [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.BinOp) and _shifts_a_number(node)]


def _shifts_a_number(node: ast.BinOp) -> bool:
    return isinstance(node.op, ast.LShift) and isinstance(node.left, ast.Constant) and isinstance(node.right, ast.Constant)


@pytest.mark.parametrize("name", NAMES)
def test_tensorrt_rtx_has_what_the_table_says(name: str) -> None:
    library = pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx (extra `rtx`) is not here", exc_type=ImportError)
    found = library
    for part in name.split("."):
        found = getattr(found, part, None)
    assert (found is not None) == ("rtx" in NAMES[name].split())
