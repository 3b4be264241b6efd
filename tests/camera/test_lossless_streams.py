"""A stream's pictures come over TCP, or not at all: a decoder makes up what datagrams lose, and tells nobody."""

from __future__ import annotations

import re
import socketserver
import threading
from collections.abc import Iterator

import msgspec
import pytest

from edge_agent.camera.video_stream import StreamReader
from edge_agent.camera_settings import VideoCamera
from edge_agent.errors import CameraError

SDP = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:1\r\n"
NO_SUCH_TRANSPORT = "461 Unsupported Transport"


class RtspServer(socketserver.ThreadingTCPServer):
    """Describes a stream, and takes no transport that it is asked for; `asked` are those."""

    allow_reuse_address = daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), RtspTalk)
        self.asked: list[str] = []
        self.url = f"rtsp://127.0.0.1:{self.server_address[1]}/live"


class RtspTalk(socketserver.StreamRequestHandler):
    server: RtspServer

    def handle(self) -> None:
        while request := "".join(iter(lambda: self.rfile.readline().decode().strip("\n"), "\r")) if self.rfile.peek() else "":
            number = re.findall(r"CSeq: (\d+)", request)[0]
            self.server.asked += re.findall(r"Transport: (\S+)", request)
            status = NO_SUCH_TRANSPORT if request.startswith("SETUP") else "200 OK"
            body = SDP if request.startswith("DESCRIBE") else ""
            head = f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n" if body else ""
            self.wfile.write(f"RTSP/1.0 {status}\r\nCSeq: {number}\r\nPublic: DESCRIBE, SETUP, PLAY\r\n{head}\r\n{body}".encode())


@pytest.fixture
def server() -> Iterator[RtspServer]:
    with RtspServer() as found:
        threading.Thread(target=found.serve_forever, args=(0.02,), daemon=True).start()
        yield found
        found.shutdown()


def test_rtsp_is_asked_for_over_tcp_and_over_nothing_else(server: RtspServer) -> None:
    reader = StreamReader(server.url, "rtsp", 2)
    reader.thread.join(10)
    with pytest.raises(CameraError, match="cannot be opened"):
        reader.take(0)
    reader.close()
    assert server.asked
    assert all(asked.startswith("RTP/AVP/TCP") for asked in server.asked)


@pytest.mark.parametrize("url", ["udp://0.0.0.0:5000", "RTP://239.0.0.1:5000", "srt://camera:9000"])
def test_a_stream_of_datagrams_is_refused(url: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=r"datagrams.*give one over TCP"):
        msgspec.convert({"kind": "video", "name": "cam", "url": url}, VideoCamera)
