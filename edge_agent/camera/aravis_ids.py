"""Frame ids: what is missing before a picture, and when they are a camera's that began anew. Pure: ns of the camera's clock."""

from __future__ import annotations

BEGAN_ANEW = -1
_LAST_ID = 65_535  # of 16 bit frame ids; the next is 1, as 0 is never used
_MOST_STEP = 1000  # without a clock of the camera's a larger one is a camera that began anew
_FASTEST_HZ = 10_000  # with one: ids that go on faster than this


class FrameIds:
    """The ids of one camera's pictures, in the order of their coming."""

    def __init__(self) -> None:
        self.last = 0
        self._camera_ns = 0

    def step(self, frame_id: int, camera_ns: int) -> int:
        """From the last picture to this one: 1 where none is missing, 0 for the same again; BEGAN_ANEW where so many cannot have
        been taken in between, or the camera's time went back."""
        step = (frame_id - self.last) % _LAST_ID if self.last else 1
        if not step:
            return 0
        if not (camera_ns and self._camera_ns):
            has_begun_anew = step > _MOST_STEP
        else:
            passed_ns = camera_ns - self._camera_ns
            has_begun_anew = passed_ns < 0 or (step - 1) * 1e9 > passed_ns * _FASTEST_HZ
        if has_begun_anew:
            return BEGAN_ANEW
        self.last, self._camera_ns = frame_id, camera_ns
        return step
