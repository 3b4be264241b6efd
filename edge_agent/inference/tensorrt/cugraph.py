"""CUDA graphs through libcuda itself, which pycuda lacks: capture what is put into a stream once, launch it as one.

The entry points are those of CUDA 11.4 and newer (CUDA Driver API, "Stream Management" and "Graph Management").
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from edge_agent.errors import EngineError

_POINTER, _SIZE = ctypes.c_void_p, ctypes.c_size_t
_SIGNATURES: dict[str, list[Any]] = {
    "cuStreamBeginCapture_v2": [_POINTER, ctypes.c_int],
    "cuStreamEndCapture": [_POINTER, ctypes.POINTER(_POINTER)],
    "cuGraphGetNodes": [_POINTER, ctypes.POINTER(_POINTER), ctypes.POINTER(_SIZE)],
    "cuGraphInstantiateWithFlags": [ctypes.POINTER(_POINTER), _POINTER, ctypes.c_ulonglong],
    "cuGraphUpload": [_POINTER, _POINTER],
    "cuGraphLaunch": [_POINTER, _POINTER],
    "cuGraphDestroy": [_POINTER],
    "cuGraphExecDestroy": [_POINTER],
    "cuGetErrorName": [ctypes.c_int, ctypes.POINTER(ctypes.c_char_p)],
}
_THREAD_LOCAL = 1  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: global capture makes other threads' CUDA calls fail meanwhile


class GraphError(EngineError):
    """A stream's work cannot be captured or launched as a graph."""


def open_library(signatures: dict[str, list[Any]] = _SIGNATURES) -> Any:
    """Return libcuda with these signatures set. Raises GraphError where it, or one of the functions, is missing."""
    try:
        library = ctypes.CDLL("libcuda.so.1")
        for name, arguments in signatures.items():
            function = getattr(library, name)
            function.argtypes, function.restype = arguments, ctypes.c_int
    except (OSError, AttributeError) as error:
        raise GraphError(f"libcuda lacks what is needed ({error}); CUDA graphs need CUDA 11.4") from None
    return library


class Graph:
    """A captured and instantiated graph. `nodes` tells of how many copies, memsets and kernels."""

    def __init__(self, library: Any, executable: Any, stream: Any, nodes: int) -> None:
        self._library, self._executable, self._stream = library, executable, stream
        self.nodes = nodes

    def launch(self) -> None:
        """Put the whole graph into its stream; returns at once. Raises GraphError."""
        code = self._library.cuGraphLaunch(self._executable, self._stream)
        if code:
            raise GraphError(f"cuGraphLaunch: {_name(self._library, code)}")

    def close(self) -> None:
        if self._executable is not None:
            self._library.cuGraphExecDestroy(self._executable)
            self._executable = None


def capture(library: Any, stream: int, enqueue: Callable[[], None], least_nodes: int) -> Graph:
    """Capture what `enqueue` puts into the stream. Raises GraphError, or what `enqueue` raises; the stream is usable after either.

    A graph of fewer nodes than are certain is refused: a failed capture may leave an empty one, which "runs" and does nothing."""
    handle, graph = _POINTER(stream), _POINTER()
    check(library, library.cuStreamBeginCapture_v2(handle, _THREAD_LOCAL), "cuStreamBeginCapture")
    try:
        enqueue()
    except BaseException:
        library.cuStreamEndCapture(handle, ctypes.byref(graph))
        if graph.value:
            library.cuGraphDestroy(graph)
        raise
    check(library, library.cuStreamEndCapture(handle, ctypes.byref(graph)), "cuStreamEndCapture")
    try:
        return _instantiate(library, graph, handle, least_nodes)
    finally:
        library.cuGraphDestroy(graph)


def _instantiate(library: Any, graph: Any, stream: Any, least_nodes: int) -> Graph:
    nodes, executable = _SIZE(), _POINTER()
    check(library, library.cuGraphGetNodes(graph, None, ctypes.byref(nodes)), "cuGraphGetNodes")
    if nodes.value < least_nodes:
        raise GraphError(f"the captured graph has {nodes.value} nodes, fewer than the {least_nodes} that were enqueued")
    code = library.cuGraphInstantiateWithFlags(ctypes.byref(executable), graph, 0)
    check(library, code, "cuGraphInstantiate")
    made = Graph(library, executable, stream, int(nodes.value))
    try:
        check(library, library.cuGraphUpload(executable, stream), "cuGraphUpload")
    except GraphError:
        made.close()
        raise
    return made


def check(library: Any, code: int, what: str) -> None:
    """Raise GraphError, with CUDA's name for it, for a code that is not success."""
    if code:
        raise GraphError(f"{what}: {_name(library, code)}")


def _name(library: Any, code: int) -> str:
    text = ctypes.c_char_p()
    library.cuGetErrorName(code, ctypes.byref(text))
    return f"{(text.value or b'unknown').decode()} ({code})"
