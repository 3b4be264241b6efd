"""Page-locked memory of others, through libcuda itself: locked once for the process, however many engines copy from it.

A frame ring outlives the engines of its line, and CUDA refuses to lock what is locked. With pycuda only the thread that locked
memory could let it go. Entry points: CUDA Driver API, "Memory Management".
"""

from __future__ import annotations

import ctypes
import threading
from typing import Any

from edge_agent.inference.tensorrt import cugraph
from edge_agent.records import Pixels

Span = tuple[int, int]  # address and bytes
SIGNATURES: dict[str, list[Any]] = {
    "cuMemHostRegister_v2": [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint],
    "cuMemHostUnregister": [ctypes.c_void_p],
    "cuGetErrorName": [ctypes.c_int, ctypes.POINTER(ctypes.c_char_p)],
}
_PORTABLE = 1  # CU_MEMHOSTREGISTER_PORTABLE: for every context
_ALREADY, _NOT = 712, 713  # CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED, _NOT_REGISTERED
_guard = threading.Lock()  # of what follows: engines that change over are on two threads
_users: dict[Span, int] = {}
_others: set[Span] = set()  # locked by somebody else, who also lets them go


def lock(memory: Pixels) -> Span:
    """Page-lock C-contiguous memory, or share the lock that is there. On a thread that has the context. Raises EngineError."""
    span = (int(memory.__array_interface__["data"][0]), memory.nbytes)
    with _guard:
        if span not in _users:
            library = cugraph.open_library(SIGNATURES)
            code = library.cuMemHostRegister_v2(ctypes.c_void_p(span[0]), span[1], _PORTABLE)
            if code == _ALREADY:
                _others.add(span)
            else:
                cugraph.check(library, code, "cuMemHostRegister")
        _users[span] = _users.get(span, 0) + 1
    return span


def unlock(span: Span) -> None:
    """The last user's call lets the memory go. On a thread that has the context. Raises EngineError."""
    with _guard:
        _users[span] -= 1
        if _users[span]:
            return
        del _users[span]
        if span in _others:
            _others.discard(span)
            return
        library = cugraph.open_library(SIGNATURES)
        code = library.cuMemHostUnregister(ctypes.c_void_p(span[0]))
        if code != _NOT:  # it went with the context of another GPU, whose engine had locked it
            cugraph.check(library, code, "cuMemHostUnregister")
