"""A network camera: MJPEG over HTTP on 127.0.0.1, every frame a gray level of its own; it can pause, cut, and come back."""

from __future__ import annotations

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import cv2
import numpy as np

STEP = 4  # gray levels between frames, so that JPEG keeps them apart
LEVELS = 256 // STEP


def jpeg(level: int, size: tuple[int, int] = (48, 64)) -> bytes:
    encoded = cv2.imencode(".jpg", np.full(size, level, np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
    return bytes(encoded.tobytes())


class MjpegServer:
    """Sends frame n (gray level n * STEP) at `rate_hz` to everyone who asks. `sent` is the number of the frame sent last."""

    def __init__(self, rate_hz: float = 50) -> None:
        self.period_s = 1 / rate_hz
        self.frames = [jpeg(n * STEP) for n in range(LEVELS)]
        self.sent = -1
        self.is_paused = self.is_refusing = self.is_mute = False
        self.connections = 0
        self.generation = 0  # a connection of an older one is cut
        self.asked: list[str] = []
        server = self

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server._answer(self)

            def log_message(self, *_: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/stream"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,))
        self._thread.start()

    def cut(self) -> None:
        """End every connection, without a word."""
        self.generation += 1

    def close(self) -> None:
        self.cut()
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        self.asked.append(request.path)
        if self.is_refusing:
            request.send_error(503)
            return
        generation = self.generation
        self.connections += 1
        try:
            if not self.is_mute:
                request.send_response(200)
                request.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                request.end_headers()
            while generation == self.generation:
                if not self.is_paused and not self.is_mute:
                    self._send(request)
                time.sleep(self.period_s)
        except OSError:
            pass  # he went away
        finally:
            self.connections -= 1

    def _send(self, request: BaseHTTPRequestHandler) -> None:
        self.sent += 1  # before it goes out: who has received it finds it counted
        payload = self.frames[self.sent % len(self.frames)]
        head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(payload)}\r\n\r\n"
        request.wfile.write(head.encode() + payload + b"\r\n")
        request.wfile.flush()
