"""Frame ids: what is missing before a picture, and when they are a camera's that began anew. Pure: ns of the camera's clock."""

from __future__ import annotations

_LAST_ID = 65_535  # of 16 bit frame ids; the next is 1, as 0 is never used
_MOST_STEP = 1000  # without a clock of the camera's a larger one is a camera that began anew
_FASTEST_HZ = 10_000  # with one: ids that go on faster than this


class FrameIds:
    """The ids of one camera's pictures, in the order of their coming."""

    def __init__(self) -> None:
        self.last = 0
        self._camera_ns = 0

    def step(self, frame_id: int) -> int:
        """From the last picture to this one: 1 where none is missing, 0 for the same again."""
        return (frame_id - self.last) % _LAST_ID if self.last else 1

    def began_anew(self, frame_id: int, camera_ns: int) -> bool:
        """True where so many pictures cannot have been taken since the last one, or the camera's time went back."""
        if not (camera_ns and self._camera_ns):
            return self.step(frame_id) > _MOST_STEP
        passed_s = (camera_ns - self._camera_ns) / 1e9
        return passed_s < 0 or self.step(frame_id) - 1 > passed_s * _FASTEST_HZ

    def note(self, frame_id: int, camera_ns: int) -> None:
        self.last, self._camera_ns = frame_id, camera_ns
