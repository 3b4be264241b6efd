"""What is imported as `tensorrt` where no TensorRT takes the GPU and this folder is on PYTHONPATH: kernels in the network's place.

It has as much of TensorRT 10's interface as edge_agent/inference/tensorrt/api.py uses, so that everything around the network is
the station's own: the builder's process, engine files, the GPU thread, lanes, streams, graphs, memory, parity, and losses.
The one network it takes is that of tools/gpu/stand_in_model.py, whose map is known for each gray level.
"""

from __future__ import annotations

import ctypes
import enum
import json
import math
from typing import Any

import numpy as np
import numpy.typing as npt
from kernels import CudaError, Kernels

__version__ = "10.12.stand-in"
TURNS = 64  # times a kernel looks at each pixel: it then takes about as long as a small network
THREADS, MOST_BLOCKS = 256, 128
_KIND = "edge-agent stand-in"


class Severity(enum.Enum):
    """Of the library's messages."""

    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)


class TensorIOMode(enum.Enum):
    NONE, INPUT, OUTPUT = range(3)


class DataType(enum.Enum):
    FLOAT, UINT8 = range(2)


class ExecutionContextAllocationStrategy(enum.Enum):
    STATIC, USER_MANAGED = range(2)


class MemoryPoolType(enum.Enum):
    WORKSPACE = 0


class BuilderFlag(enum.Enum):
    TF32 = 0


class NetworkDefinitionCreationFlag(enum.IntEnum):
    STRONGLY_TYPED = 1


class ILogger:
    """Subclassed by whoever wants to hear."""

    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = Severity

    def __init__(self) -> None: ...

    def log(self, severity: Severity, message: str) -> None: ...


# --- what the network is ----------------------------------------------------------------------------------------------
def tables(centre: float, slope: float) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """Of every gray level, what the map has for it, and its logit: a sigmoid of the gray level."""
    logits = (np.arange(256, dtype=np.float32) - np.float32(centre)) * np.float32(slope)
    return np.rint(255 / (1 + np.exp(-logits.astype(np.float64)))).astype(np.uint8), logits


def ptx_of(centre: float, slope: float) -> str:
    """Two kernels with their tables. `look`: for each row of blocks the map of a picture, and its brightest pixel, 0 before.
    `peak`: one thread for each picture, the logit of its brightest pixel."""
    levels, logits = tables(centre, slope)
    bits = ", ".join(f"0f{word:08X}" for word in logits.view(np.uint32).tolist())
    return _PTX % (", ".join(map(str, levels.tolist())), bits)


_PTX = """
.version 6.3
.target sm_75
.address_size 64
.global .align 4 .b8 levels[256] = {%s};
.global .align 4 .f32 logits[256] = {%s};

.visible .entry look(.param .u64 frames, .param .u64 maps, .param .u64 brightest, .param .u32 pixels, .param .u32 turns)
{
  .reg .pred %%done, %%again;
  .reg .b32 %%pixels, %%turns, %%at, %%first, %%stride, %%picture, %%block, %%size, %%lane, %%gray, %%most, %%level;
  .reg .b64 %%frame, %%map, %%best, %%offset, %%place, %%table, %%entry;
  ld.param.u64 %%frame, [frames];
  ld.param.u64 %%map, [maps];
  ld.param.u64 %%best, [brightest];
  ld.param.u32 %%pixels, [pixels];
  ld.param.u32 %%turns, [turns];
  cvta.to.global.u64 %%frame, %%frame;
  cvta.to.global.u64 %%map, %%map;
  cvta.to.global.u64 %%best, %%best;
  mov.u32 %%picture, %%ctaid.y;
  mul.wide.u32 %%offset, %%picture, %%pixels;
  add.u64 %%frame, %%frame, %%offset;
  add.u64 %%map, %%map, %%offset;
  mul.wide.u32 %%offset, %%picture, 4;
  add.u64 %%best, %%best, %%offset;
  mov.u32 %%block, %%ctaid.x;
  mov.u32 %%size, %%ntid.x;
  mov.u32 %%lane, %%tid.x;
  mad.lo.u32 %%first, %%block, %%size, %%lane;
  mov.u32 %%stride, %%nctaid.x;
  mul.lo.u32 %%stride, %%stride, %%size;
  mov.u64 %%table, levels;
  mov.u32 %%most, 0;
TURN:
  mov.u32 %%at, %%first;
PIXEL:
  setp.ge.u32 %%done, %%at, %%pixels;
  @%%done bra NEXT;
  cvt.u64.u32 %%offset, %%at;
  add.u64 %%place, %%frame, %%offset;
  ld.volatile.global.u8 %%gray, [%%place];
  max.u32 %%most, %%most, %%gray;
  cvt.u64.u32 %%entry, %%gray;
  add.u64 %%entry, %%table, %%entry;
  ld.global.u8 %%level, [%%entry];
  add.u64 %%place, %%map, %%offset;
  st.volatile.global.u8 [%%place], %%level;
  add.u32 %%at, %%at, %%stride;
  bra PIXEL;
NEXT:
  sub.u32 %%turns, %%turns, 1;
  setp.ne.u32 %%again, %%turns, 0;
  @%%again bra TURN;
  red.global.max.u32 [%%best], %%most;
  ret;
}

.visible .entry peak(.param .u64 brightest, .param .u64 peaks)
{
  .reg .b32 %%picture, %%gray;
  .reg .b64 %%best, %%answer, %%offset, %%entry;
  .reg .f32 %%logit;
  ld.param.u64 %%best, [brightest];
  ld.param.u64 %%answer, [peaks];
  cvta.to.global.u64 %%best, %%best;
  cvta.to.global.u64 %%answer, %%answer;
  mov.u32 %%picture, %%tid.x;
  mul.wide.u32 %%offset, %%picture, 4;
  add.u64 %%best, %%best, %%offset;
  add.u64 %%answer, %%answer, %%offset;
  ld.global.u32 %%gray, [%%best];
  mul.wide.u32 %%offset, %%gray, 4;
  mov.u64 %%entry, logits;
  add.u64 %%entry, %%entry, %%offset;
  ld.global.f32 %%logit, [%%entry];
  st.global.f32 [%%answer], %%logit;
  ret;
}
"""


# --- building ---------------------------------------------------------------------------------------------------------
class _Error:
    def __init__(self, text: str) -> None:
        self._text = text

    def desc(self) -> str:
        return self._text


class _Network:
    plan: dict[str, Any] | None = None


class OnnxParser:
    """Takes the stand-in's own network and refuses every other."""

    def __init__(self, network: _Network, log: ILogger) -> None:
        del log
        self._network, self._errors = network, list[_Error]()

    def parse(self, onnx: bytes) -> bool:
        import onnx as library

        model = library.load_from_string(onnx)
        told = {each.key: each.value for each in model.metadata_props}
        if told.get("kind") != _KIND:
            self._errors.append(_Error("the stand-in computes its own network and no other"))
            return False
        tensors = [each.type.tensor_type for each in model.graph.input]
        batch, _, rows, cols = (int(each.dim_value) for each in tensors[0].shape.dim)
        names = [model.graph.input[0].name, *(each.name for each in model.graph.output)]
        self._network.plan = {"kind": _KIND, "names": names, "batch": batch, "rows": rows, "cols": cols}
        self._network.plan |= {"centre": float(told["centre"]), "slope": float(told["slope"])}
        return True

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, index: int) -> _Error:
        return self._errors[index]


class _Cache:
    def serialize(self) -> bytes:
        return b"a stand-in times nothing"


class _Config:
    builder_optimization_level = 3

    def set_memory_pool_limit(self, pool: MemoryPoolType, size: int) -> None: ...

    def set_flag(self, flag: BuilderFlag) -> None: ...

    def clear_flag(self, flag: BuilderFlag) -> None: ...

    def create_timing_cache(self, known: bytes) -> _Cache:
        del known
        return _Cache()

    def set_timing_cache(self, cache: _Cache, ignore_mismatch: bool) -> bool:
        del cache, ignore_mismatch
        return True


class Builder:
    """Writes down what the network's ports are; nothing is compiled before the driver has it."""

    def __init__(self, log: ILogger) -> None: ...

    def create_network(self, flags: int = 0) -> _Network:
        del flags
        return _Network()

    def create_builder_config(self) -> _Config:
        return _Config()

    def build_serialized_network(self, network: _Network, config: _Config) -> bytes | None:
        del config
        return json.dumps(network.plan).encode() if network.plan else None


# --- running ----------------------------------------------------------------------------------------------------------
class ExecutionContext:
    """Enqueues two kernels. Its device memory holds the brightest pixel of each picture."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self._scratch, self._addresses = engine, 0, dict[str, int]()

    def set_device_memory(self, address: int, size: int) -> None:
        if size < self._engine.device_memory_size_v2:
            raise ValueError(f"{size} bytes of device memory are too few")
        self._scratch = address

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return name in self._engine.names

    def execute_async_v3(self, stream_handle: int) -> bool:
        engine = self._engine
        frames, maps, peaks = (self._addresses[name] for name in engine.names)
        pixels, batch = engine.rows * engine.cols, engine.batch
        blocks = min(MOST_BLOCKS, math.ceil(pixels / THREADS))
        at, count = ctypes.c_uint64, ctypes.c_uint32
        try:
            engine.kernels.zero(self._scratch, batch, stream_handle)
            looks = (at(frames), at(maps), at(self._scratch), count(pixels), count(TURNS))
            engine.kernels.launch("look", (blocks, batch), THREADS, stream_handle, *looks)
            engine.kernels.launch("peak", (1, 1), batch, stream_handle, at(self._scratch), at(peaks))
        except CudaError as error:
            engine.log.log(Severity.ERROR, str(error))
            return False
        return True


class Engine:
    """The kernels, compiled by the driver for the GPU that is here."""

    def __init__(self, plan: dict[str, Any], log: ILogger) -> None:
        self.log, self.names = log, tuple(plan["names"])
        self.batch, self.rows, self.cols = (int(plan[name]) for name in ("batch", "rows", "cols"))
        self.kernels = Kernels(ptx_of(plan["centre"], plan["slope"]))
        self.num_io_tensors = len(self.names)
        self.device_memory_size_v2 = 4 * self.batch

    def get_tensor_name(self, index: int) -> str:
        return str(self.names[index])

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name == self.names[0] else TensorIOMode.OUTPUT

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (self.batch,) if name == self.names[2] else (self.batch, 1, self.rows, self.cols)

    def get_tensor_dtype(self, name: str) -> DataType:
        return DataType.FLOAT if name == self.names[2] else DataType.UINT8

    def create_execution_context(self, strategy: ExecutionContextAllocationStrategy) -> ExecutionContext:
        assert strategy is ExecutionContextAllocationStrategy.USER_MANAGED
        return ExecutionContext(self)

    def __del__(self) -> None:
        if hasattr(self, "kernels"):
            self.kernels.unload()


class Runtime:
    """Takes the plans that `Builder` writes."""

    def __init__(self, log: ILogger) -> None:
        self._log = log

    def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
        try:
            told = json.loads(plan)
            if told["kind"] != _KIND:
                raise ValueError("it is another's")
            return Engine(told, self._log)
        except (ValueError, KeyError, CudaError) as error:
            self._log.log(Severity.ERROR, f"the stand-in does not take the plan: {error}")
            return None
