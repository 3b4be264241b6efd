"""libcuda on the GPU of `fake_gpu.py`: what pycuda lacks or does otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fake_gpu import World


class LibCuda:
    """libcuda's graph and page-locking functions; each answers with a CUresult."""

    def __init__(self, world: World) -> None:
        self._world = world

    def _code(self, name: str) -> int:
        return int(self._world.fail.get(name, 0))

    def cuStreamBeginCapture_v2(self, stream: Any, mode: int) -> int:
        assert mode == 1, "a capture that is not thread-local"
        if not self._code("begin"):
            self._world.streams[stream.value].captured = []
        return self._code("begin")

    def cuStreamEndCapture(self, stream: Any, graph: Any) -> int:
        of = self._world.streams[stream.value]
        work, of.captured = of.captured or [], None
        if self._code("end"):
            return self._code("end")
        if self._code("empty"):
            work = []
        number = next(self._world.numbers)
        self._world.graphs[number] = work
        graph._obj.value = number
        return 0

    def cuGraphGetNodes(self, graph: Any, nodes: Any, count: Any) -> int:
        assert nodes is None
        work = self._world.graphs[graph.value]
        count._obj.value = len(work) + (self._world.kernels - 1 if work else 0)
        return 0

    def cuGraphInstantiateWithFlags(self, executable: Any, graph: Any, flags: int) -> int:
        assert flags == 0
        if self._code("instantiate"):
            return self._code("instantiate")
        number = next(self._world.numbers)
        self._world.graphs[number] = self._world.graphs[graph.value]
        executable._obj.value = number
        self._world.took(0, "graph")
        return 0

    def cuGraphUpload(self, executable: Any, stream: Any) -> int:
        return self._code("upload")

    def cuGraphLaunch(self, executable: Any, stream: Any) -> int:
        self._world.launched.append(len(self._world.graphs[executable.value]))
        for work in self._world.graphs[executable.value]:
            self._world.streams[stream.value].put(work)
        return self._code("launch")

    def cuGraphDestroy(self, graph: Any) -> int:
        del self._world.graphs[graph.value]
        return 0

    def cuGraphExecDestroy(self, executable: Any) -> int:
        del self._world.graphs[executable.value]
        self._world.note("-graph")
        return 0

    def cuMemHostRegister_v2(self, address: Any, size: int, flags: int) -> int:
        world, first = self._world, address.value
        assert flags == 1, "memory that is not locked for every context"
        assert world.current() is not None
        if self._code("cuMemHostRegister"):
            return self._code("cuMemHostRegister")
        if any(first < other + length and other < first + size for other, length in world.locked.items()):
            return 712
        world.locked[first] = size
        world.took(0, "locked")
        return 0

    def cuMemHostUnregister(self, address: Any) -> int:
        world = self._world
        if self._code("cuMemHostUnregister"):
            return self._code("cuMemHostUnregister")
        if world.locked.pop(address.value, None) is None:
            return 713
        world.gone("locked")
        return 0

    def cuGetErrorName(self, code: int, text: Any) -> int:
        text._obj.value = {712: b"CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED"}.get(code, b"CUDA_ERROR_FAKE")
        return 0
