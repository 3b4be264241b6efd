"""A CUDA kernel in the network's place, one question per process: `prove_cuda.py graph|overlap|trap`.

Exit code 0 where the answer is the one hoped for. The kernel is PTX, so that no compiler is needed.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import numpy as np

from edge_agent.errors import EdgeAgentError
from edge_agent.inference.tensorrt.cuda import Gpu

SIZE = 1 << 20
ROUNDS = 2000
# out[i] = in[i] + 1, after `spins` turns of nothing; `trap` where spins is 0.
PTX = b"""
.version 6.3
.target sm_75
.address_size 64
.visible .entry stand_in(.param .u64 source, .param .u64 target, .param .u32 spins) {
  .reg .pred %p<3>; .reg .b32 %r<9>; .reg .b64 %d<6>; .reg .b16 %h<2>;
  ld.param.u64 %d1, [source]; ld.param.u64 %d2, [target]; ld.param.u32 %r1, [spins];
  setp.eq.u32 %p1, %r1, 0; @%p1 trap;
  mov.u32 %r2, %ctaid.x; mov.u32 %r3, %ntid.x; mov.u32 %r4, %tid.x; mad.lo.u32 %r5, %r2, %r3, %r4;
  cvta.to.global.u64 %d1, %d1; cvta.to.global.u64 %d2, %d2;
  cvt.u64.u32 %d3, %r5; add.u64 %d4, %d1, %d3; add.u64 %d5, %d2, %d3;
  mov.u32 %r6, 0;
LOOP: add.u32 %r6, %r6, 1; ld.volatile.global.u8 %r7, [%d4]; setp.lt.u32 %p2, %r6, %r1; @%p2 bra LOOP;
  add.u32 %r7, %r7, 1; st.global.u8 [%d5], %r7; ret;
}
\0"""


class StandIn:
    """A lane: stream, buffers and the kernel between them."""

    def __init__(self, gpu: Gpu, kernel: Any, spins: int) -> None:
        self._gpu, self._kernel, self._spins = gpu, kernel, np.uint32(spins)
        self.stream, self.event = gpu.stream(), gpu.event()
        self.source, self.target = gpu.pinned(SIZE), gpu.pinned(SIZE)
        self._input, self._output = gpu.device_memory(SIZE), gpu.device_memory(SIZE)

    def enqueue(self) -> None:
        self._gpu.to_device(int(self._input), self.source, self.stream)
        addresses = (np.uint64(int(self._input)), np.uint64(int(self._output)))
        self._kernel(*addresses, self._spins, block=(256, 1, 1), grid=(SIZE // 256, 1), stream=self.stream)
        self._gpu.to_host(self.target, int(self._output), self.stream)

    def require_right(self) -> None:
        self.stream.synchronize()
        assert (self.target == self.source + np.uint8(1)).all(), "the answer is wrong"


def graph(gpu: Gpu, kernel: Any) -> str:
    lane = StandIn(gpu, kernel, 4)
    lane.source[:] = 7
    lane.enqueue()
    lane.require_right()
    captured = gpu.capture(lane.stream, lane.enqueue, 3)
    lane.source[:] = 9
    captured.launch()
    lane.require_right()
    times = []
    for launch in (captured.launch, lane.enqueue):
        began = time.perf_counter()
        for _ in range(ROUNDS):
            launch()
        lane.stream.synchronize()
        times.append((time.perf_counter() - began) / ROUNDS * 1e6)
    captured.close()
    return f"{captured.nodes} nodes, {times[0]:.1f} us by graph, {times[1]:.1f} us enqueued"


def overlap(gpu: Gpu, kernel: Any) -> str:
    lanes = [StandIn(gpu, kernel, 64) for _ in range(3)]
    seconds = []
    for used in (lanes[:1] * 3, lanes):
        for lane in used:
            lane.enqueue()
        for lane in used:
            lane.stream.synchronize()
        began = time.perf_counter()
        for _ in range(ROUNDS // 10):
            for lane in used:
                lane.enqueue()
                lane.event.record(lane.stream)
        for lane in used:
            lane.event.synchronize()
        seconds.append(time.perf_counter() - began)
    assert seconds[1] < 0.95 * seconds[0], f"three streams take {seconds[1]:.3f} s, one {seconds[0]:.3f} s: nothing overlaps"
    return f"the same work takes {seconds[1] / seconds[0]:.2f} of the time in three streams"


def trap(gpu: Gpu, kernel: Any) -> str:
    lane = StandIn(gpu, kernel, 0)
    lane.enqueue()
    lane.event.record(lane.stream)
    try:
        while not lane.event.query():
            time.sleep(0.001)
    except gpu.Error as error:
        return f"told as {error}"
    raise AssertionError("a kernel trapped and nothing was told")


def main() -> int:
    try:
        gpu = Gpu(0)
        gpu.push()
    except EdgeAgentError as error:
        print(error)
        return 1
    import pycuda.driver as driver

    kernel = driver.module_from_buffer(PTX).get_function("stand_in")
    try:
        print({"graph": graph, "overlap": overlap, "trap": trap}[sys.argv[1]](gpu, kernel), flush=True)
    except (AssertionError, EdgeAgentError) as error:
        print(error, flush=True)
        return 1
    sys.stdout.flush()
    os._exit(0)  # a broken context cannot be taken down in order


if __name__ == "__main__":
    sys.exit(main())
