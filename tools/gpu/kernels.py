"""CUDA kernels from PTX through libcuda itself: loaded into the thread's context, launched on any stream by its handle.

pycuda launches on streams of its own alone; a TensorRT execution context is given a handle.
"""

from __future__ import annotations

import ctypes
from typing import Any

_POINTER, _UINT, _SIZE = ctypes.c_void_p, ctypes.c_uint, ctypes.c_size_t
_SIGNATURES: dict[str, list[Any]] = {
    "cuModuleLoadData": [ctypes.POINTER(_POINTER), ctypes.c_char_p],
    "cuModuleGetFunction": [ctypes.POINTER(_POINTER), _POINTER, ctypes.c_char_p],
    "cuModuleUnload": [_POINTER],
    "cuLaunchKernel": [_POINTER, *[_UINT] * 7, _POINTER, ctypes.POINTER(_POINTER), ctypes.POINTER(_POINTER)],
    "cuMemsetD32Async": [ctypes.c_uint64, _UINT, _SIZE, _POINTER],
    "cuGetErrorName": [ctypes.c_int, ctypes.POINTER(ctypes.c_char_p)],
}
TRAP = """
.version 6.3
.target sm_75
.address_size 64
.visible .entry broken() { trap; }
"""


class CudaError(RuntimeError):
    """A call of libcuda's that did not answer CUDA_SUCCESS."""


def open_library() -> Any:
    """Return libcuda with its signatures set. Raises OSError, AttributeError."""
    library = ctypes.CDLL("libcuda.so.1")
    for name, arguments in _SIGNATURES.items():
        function = getattr(library, name)
        function.argtypes, function.restype = arguments, ctypes.c_int
    return library


class Kernels:
    """The kernels of one PTX text, in the context that is current when they are loaded, and for as long as it is."""

    def __init__(self, ptx: str) -> None:
        """Raises CudaError where the driver does not take the text."""
        self._library = open_library()
        self._module = _POINTER()
        self._functions: dict[str, Any] = {}
        self._do("cuModuleLoadData", ctypes.byref(self._module), ptx.encode() + b"\0")

    def launch(self, name: str, grid: tuple[int, int], threads: int, stream: int, *arguments: Any) -> None:
        """Put a kernel into the stream; `arguments` are ctypes values of the types that it takes. Raises CudaError."""
        if name not in self._functions:
            self._functions[name] = function = _POINTER()
            self._do("cuModuleGetFunction", ctypes.byref(function), self._module, name.encode())
        values = (_POINTER * max(1, len(arguments)))(*(ctypes.addressof(each) for each in arguments))
        shape = (*grid, 1, threads, 1, 1, 0)
        self._do("cuLaunchKernel", self._functions[name], *shape, _POINTER(stream), values, None)

    def zero(self, address: int, words: int, stream: int) -> None:
        """Put the clearing of so many 32-bit words into the stream. Raises CudaError."""
        self._do("cuMemsetD32Async", address, 0, words, _POINTER(stream))

    def unload(self) -> None:
        """Let the driver forget them; in a context that is lost it does so by itself."""
        self._library.cuModuleUnload(self._module)

    def _do(self, name: str, *arguments: Any) -> None:
        code = getattr(self._library, name)(*arguments)
        if code:
            text = ctypes.c_char_p()
            self._library.cuGetErrorName(code, ctypes.byref(text))
            raise CudaError(f"{name}: {(text.value or b'unknown').decode()} ({code})")


def break_context(stream: int) -> None:
    """Put a kernel that traps into the stream: every call in this process's context fails from then on."""
    Kernels(TRAP).launch("broken", (1, 1), 1, stream)
