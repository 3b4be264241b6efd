"""A V4L2 camera is the one that was meant, set as it was asked, and its formats all become the same gray."""

from __future__ import annotations

import ctypes
import errno
import re
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
from bench_v4l2 import Bench, arrivals
from fake_v4l2 import FakeFrame, FakeKernel

from edge_agent.camera import v4l2_kernel as k
from edge_agent.camera.base import Camera, Lost, Picture
from edge_agent.camera.v4l2 import V4l2Camera
from edge_agent.camera_settings import V4l2Camera as V4l2Settings
from edge_agent.errors import CameraError, Reason

BY_ID = "usb-Maker_Cam_ABC123-video-index0"


# --- the binding --------------------------------------------------------------------------------------------------------
def test_structs_and_requests_are_those_of_the_kernel_headers() -> None:
    """Numbers printed by a C program that includes linux/videodev2.h, x86-64."""
    assert ctypes.sizeof(k.Buffer) == 88
    assert (ctypes.sizeof(k.Format), ctypes.sizeof(k.ExtControl), ctypes.sizeof(k.QueryExtControl)) == (208, 20, 232)
    assert (k.VIDIOC_QUERYCAP, k.VIDIOC_ENUM_FMT, k.VIDIOC_S_FMT) == (0x80685600, 0xC0405602, 0xC0D05605)
    assert (k.VIDIOC_REQBUFS, k.VIDIOC_QUERYBUF, k.VIDIOC_QBUF, k.VIDIOC_DQBUF) == (0xC0145608, 0xC0585609, 0xC058560F, 0xC0585611)
    assert (k.VIDIOC_STREAMON, k.VIDIOC_STREAMOFF, k.VIDIOC_S_PARM) == (0x40045612, 0x40045613, 0xC0CC5616)
    assert (k.VIDIOC_S_CTRL, k.VIDIOC_QUERYCTRL, k.VIDIOC_QUERY_EXT_CTRL) == (0xC008561C, 0xC0445624, 0xC0E85667)
    assert k.VIDIOC_S_EXT_CTRLS == 0xC0205648


def test_the_real_kernel_refuses_what_is_no_camera() -> None:
    """The real system calls: opened, asked, polled, closed. /dev/zero knows no ioctl of a camera's."""
    kernel = k.Kernel()
    fd = kernel.open(Path("/dev/zero"))
    with pytest.raises(OSError) as told:
        kernel.ioctl(fd, k.VIDIOC_QUERYCAP, k.Capability())
    assert told.value.errno == errno.ENOTTY
    assert kernel.select(fd, 0.01)
    kernel.mmap(fd, 4096, 0).close()
    kernel.close(fd)
    before = kernel.monotonic_ns()
    assert kernel.monotonic_ns() >= before


def test_a_link_that_leads_to_no_video_device_is_said_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/dev/zero")
    with pytest.raises(CameraError, match=r"link is no video device .*Remedy: give the link of a camera"):
        V4l2Camera(V4l2Settings(name="cam", path=str(tmp_path / "link"))).open()


def test_it_keeps_the_camera_promise(kernel: FakeKernel) -> None:
    camera: Camera = V4l2Camera(V4l2Settings(name="cam", serial="ABC123"), kernel)
    assert camera.is_live
    camera.close()  # before open, and twice
    camera.close()
    with pytest.raises(CameraError, match="not open"):
        camera.wait(0)


# --- which camera -------------------------------------------------------------------------------------------------------
def test_it_is_found_by_serial_by_id_or_link(bench: Bench) -> None:
    bench.kernel.add("video3", "OTHER", "usb-Other-video-index0")
    bench.kernel.add("video1", "ABC123", "usb-Maker_Cam_ABC123-video-index1", index=1)  # its metadata node
    link = bench.kernel.devices / "v4l" / "by-id" / BY_ID
    for found, node in ({"serial": "ABC123"}, "video0"), ({"by_id": BY_ID}, BY_ID), ({"path": str(link)}, BY_ID):
        camera = bench.open(**found)
        assert bench.kernel.file.node.name == node
        camera.close()


@pytest.mark.parametrize(
    ("found", "why"),
    [
        ({}, "exactly one of serial, by_id and path, not none"),
        ({"serial": "A", "path": "/dev/v4l/by-id/x"}, "not serial and path"),
        ({"path": "/dev/video0"}, "by-path"),
        ({"path": "/dev/../dev//video12"}, "by-path"),
        ({"by_id": "../video0"}, "by_id"),
    ],
)
def test_settings_that_name_no_one_camera_are_refused(found: dict[str, str], why: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=why):
        msgspec.convert({"kind": "v4l2", "name": "cam", **found}, V4l2Settings)


@pytest.mark.parametrize(
    ("found", "why"),
    [
        ({"serial": "NONE"}, "'ABC123'"),
        ({"serial": "TWIN"}, "video4, .*video5.*by_id"),
        ({"by_id": "usb-Nobody"}, BY_ID),
        ({"path": "NODE"}, "no link"),
    ],
)
def test_a_camera_that_is_not_there_or_not_the_only_one(bench: Bench, found: dict[str, str], why: str) -> None:
    bench.kernel.add("video4", "TWIN", "usb-Twin-4")
    bench.kernel.add("video5", "TWIN", "usb-Twin-5")
    (bench.kernel.devices / "camera").write_text("")
    if "path" in found:
        found = {"path": str(bench.kernel.devices / "camera")}
    with pytest.raises(CameraError, match=why):
        bench.open(**found)


def test_a_node_that_is_no_camera_is_refused(bench: Bench) -> None:
    bench.kernel.capabilities = 0x0480_0000  # metadata
    with pytest.raises(CameraError, match="video-index0"):
        bench.open()
    assert bench.kernel.is_clean


# --- format, rate, controls ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("padding", [0, 32])
@pytest.mark.parametrize("name", ["GREY", "Y16", "Y10", "Y12", "YUYV", "UYVY", "NV12"])
def test_every_raw_format_becomes_the_same_gray(tmp_path: Path, name: str, padding: int) -> None:
    kernel = FakeKernel(tmp_path, (name,), padding)
    bench = Bench(kernel)
    camera = bench.open(pixel_format=name)
    picture = np.arange(64 * 48, dtype=np.uint32).astype(np.uint8).reshape(48, 64)
    picture[0, 0], picture[47, 63] = 255, 254
    kernel.at(10, FakeFrame(kernel.encode(picture)))
    arrival = camera.wait(1)
    assert isinstance(arrival, Picture), arrival
    assert (arrival.exposure.rows, arrival.exposure.cols) == (48, 64)
    assert np.array_equal(bench.memory[arrival.slot].reshape(48, 64), picture)
    camera.close()
    assert kernel.is_clean


def jpeg(level: int, size: tuple[int, int] = (48, 64)) -> bytes:
    return cv2.imencode(".jpg", np.full(size, level, np.uint8))[1].tobytes()


def without_tables(whole: bytes) -> bytes:
    """As UVC cameras send it: no Huffman tables, the standard ones being meant."""
    out, at = whole[:2], 2
    while whole[at + 1] != 0xDA:
        end = at + 2 + int.from_bytes(whole[at + 2 : at + 4], "big")
        out += b"" if whole[at + 1] == 0xC4 else whole[at:end]
        at = end
    return out + whole[at:]


def test_mjpg_is_decoded_with_padding_and_without_tables(bench: Bench) -> None:
    camera = bench.open(pixel_format="MJPG")
    for payload in jpeg(10), jpeg(20) + b"\0" * 300, without_tables(jpeg(30)):
        bench.kernel.at(33, FakeFrame(payload))
    assert [bench.gray(arrival) for arrival in arrivals(camera)] == [10, 20, 30]


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (jpeg(10)[:-40], "no end"),
        (b"\0" * 500, "no beginning"),
        (b"\xff\xd8" + b"\x11" * 200 + b"\xff\xd9", "cannot be read"),
        (jpeg(10, (16, 32)), "32 x 16.*64 x 48"),
        (b"", "0 bytes"),
    ],
)
def test_a_torn_jpeg_is_a_bad_frame_and_keeps_its_slot(bench: Bench, payload: bytes, why: str) -> None:
    camera = bench.open(slots=1, pixel_format="MJPG")
    bench.kernel.at(33, FakeFrame(payload))
    bench.kernel.at(33, FakeFrame(jpeg(50)))
    bad, well = arrivals(camera)
    assert isinstance(bad, Lost)
    assert bad.reason is Reason.BAD_FRAME
    assert re.search(why, bad.why), bad.why
    assert bench.gray(well) == 50


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [(("MJPG", "YUYV", "GREY"), "GREY"), (("MJPG", "YUYV"), "YUYV"), (("H264", "MJPG"), "MJPG")],
)
def test_without_a_pixel_format_the_best_offered_is_taken(tmp_path: Path, offered: tuple[str, ...], chosen: str) -> None:
    kernel = FakeKernel(tmp_path, offered)
    camera = Bench(kernel).open()
    assert kernel.format == chosen
    camera.close()


def test_a_pixel_format_it_has_not_is_refused_with_those_it_has(bench: Bench) -> None:
    with pytest.raises(CameraError, match=r"no NV12.*YUYV, MJPG"):
        bench.open(pixel_format="NV12")
    bench.kernel.formats = ("H264", "NV12")
    with pytest.raises(CameraError, match=r"GREY, YUYV, MJPG.*: NV12"):
        bench.open()


def test_the_size_is_set_and_a_size_it_has_not_is_refused(bench: Bench) -> None:
    assert bench.open(width=32, height=16).max_pixels == 32 * 16
    bench.cameras[0].close()
    with pytest.raises(CameraError, match="set to 50 x 40 YUYV and is 64 x 48"):
        bench.open(width=50, height=40)


def test_the_rate_is_set_and_a_rate_it_has_not_is_refused(bench: Bench) -> None:
    bench.open(rate_hz=10).close()
    assert bench.kernel.rate == 10
    with pytest.raises(CameraError, match="set to 12 Hz and is at 10 Hz"):
        bench.open(rate_hz=12)
    bench.kernel.rates = ()
    with pytest.raises(CameraError, match="rate_hz: 0"):
        bench.open(rate_hz=10)


@pytest.mark.parametrize("is_old_driver", [False, True])
def test_controls_are_set_by_name_in_order_and_read_back(bench: Bench, is_old_driver: bool) -> None:
    kernel = bench.kernel
    if is_old_driver:
        kernel.errors[k.VIDIOC_QUERY_EXT_CTRL] = errno.ENOTTY
    kernel.add_control("User Controls", type=k.CTRL_TYPE_CTRL_CLASS)
    kernel.add_control("Auto Exposure", type=3, value=3, maximum=3, governs="Exposure Time, Absolute")
    exposure = kernel.add_control("Exposure Time, Absolute", minimum=1, maximum=5000)
    kernel.add_control("Trigger", type=k.CTRL_TYPE_BUTTON, maximum=0)
    wanted = {"auto_exposure": 1, "exposure_time_absolute": 100, "trigger": 1}
    if not is_old_driver:
        kernel.add_control("Pixel Rate", type=k.CTRL_TYPE_INTEGER64, maximum=2**40)
        wanted["pixel_rate"] = 2**33 + 7
    bench.open(controls=wanted)
    assert exposure.value == 100
    assert is_old_driver or kernel.controls["Pixel Rate"].value == 2**33 + 7


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"keeps": 156}, "was set to 100 and is 156: it takes 1 to 5000"),
        ({"maximum": 50}, "cannot be 100: it takes 1 to 50"),
        ({"flags": k.CTRL_FLAG_READ_ONLY}, "only be read"),
        ({"flags": k.CTRL_FLAG_GRABBED}, "cannot be set to 100"),
        ({"flags": k.CTRL_FLAG_INACTIVE}, "automatic"),
        ({"flags": k.CTRL_FLAG_DISABLED}, "no control 'exposure_time_absolute'.*gain"),
    ],
)
def test_a_control_that_does_not_take_its_value_stops_the_camera(bench: Bench, values: dict[str, int], why: str) -> None:
    bench.kernel.add_control("Exposure Time, Absolute", **{"minimum": 1, "maximum": 5000, **values})
    bench.kernel.add_control("Gain")
    with pytest.raises(CameraError, match=why):
        bench.open(controls={"exposure_time_absolute": 100})
    assert bench.kernel.is_clean
