"""Finds a USB camera by what does not change when it is plugged elsewhere or found in another order."""

from __future__ import annotations

import contextlib
from pathlib import Path

import msgspec

from edge_agent.camera import v4l2_kernel as k
from edge_agent.camera.v4l2_kernel import Kernel
from edge_agent.errors import CameraError


class Seen(msgspec.Struct, frozen=True):
    """A capture device that is plugged in. `by_id` and `by_path` are names of its links, '' where it has none; `trouble` is why
    it cannot be opened now, '' where it can."""

    node: Path
    serial: str = ""
    vendor: str = ""
    model: str = ""
    by_id: str = ""
    by_path: str = ""
    trouble: str = ""


def find_by_serial(kernel: Kernel, serial: str) -> Path:
    """Return the capture node of the USB device with this serial number. Raises CameraError where there is none, or two."""
    found = _serials(kernel)
    nodes = [node for node, its in found if its == serial]
    if len(nodes) > 1:
        names = ", ".join(str(node) for node in nodes)
        raise CameraError(f"{len(nodes)} cameras have the serial {serial!r}: {names}. Remedy: name one by by_id or path.")
    if not nodes:
        seen = ", ".join(repr(its) for _, its in found if its) or "none"
        raise CameraError(f"no camera has the serial {serial!r}; those here have {seen}. Remedy: plug it in, or correct serial.")
    return nodes[0]


def find_by_link(kernel: Kernel, link: Path) -> Path:
    """Return a device link that is there. Raises CameraError where it is not, or is no link but the node itself."""
    if not link.exists():
        folder = kernel.devices / "v4l" / "by-id"
        seen = ", ".join(sorted(entry.name for entry in folder.iterdir())) if folder.is_dir() else ""
        raise CameraError(f"{link} is not there; {folder} has {seen or 'nothing'}. Remedy: plug the camera in, or correct it.")
    if not link.is_symlink():
        raise CameraError(
            f"{link} is no link, and a device's own name changes. Remedy: give the camera's link in {kernel.devices}/v4l/by-id."
        )
    return link


def find_all(kernel: Kernel) -> list[Seen]:
    """Every device of V4L2 that captures video; one that cannot be asked is among them, with its trouble."""
    found = []
    for node, serial in _serials(kernel):
        capabilities, trouble = _capabilities(kernel, node)
        if not trouble and not capabilities & k.CAP_VIDEO_CAPTURE:
            continue  # a decoder, or an output
        entry = kernel.classes / node.name
        usb = (entry / "device").resolve().parent
        found.append(
            Seen(
                node=node,
                serial=serial,
                vendor=_read(usb / "manufacturer"),
                model=_read(usb / "product") or _read(entry / "name"),
                by_id=_link_to(kernel.devices / "v4l" / "by-id", node),
                by_path=_link_to(kernel.devices / "v4l" / "by-path", node),
                trouble=trouble,
            )
        )
    return found


def _capabilities(kernel: Kernel, node: Path) -> tuple[int, str]:
    """What the device can do, and why it did not say."""
    capability = k.Capability()
    fd = -1
    try:
        fd = kernel.open(node)
        kernel.ioctl(fd, k.VIDIOC_QUERYCAP, capability)
    except OSError as error:
        return 0, error.strerror or str(error)
    finally:
        if fd >= 0:
            kernel.close(fd)
    has_own = capability.capabilities & k.CAP_DEVICE_CAPS
    return int(capability.device_caps if has_own else capability.capabilities), ""


def _link_to(folder: Path, node: Path) -> str:
    """The first link in the folder that leads to the node."""
    with contextlib.suppress(OSError):
        for entry in sorted(folder.iterdir()):
            if entry.resolve() == node.resolve():
                return entry.name
    return ""


def _serials(kernel: Kernel) -> list[tuple[Path, str]]:
    """Every first video node (index 0: the others of a camera carry metadata) with its USB serial, '' where it has none."""
    if not kernel.classes.is_dir():
        return []
    entries = sorted(entry for entry in kernel.classes.iterdir() if entry.name.startswith("video"))
    return [
        (kernel.devices / entry.name, _read((entry / "device").resolve().parent / "serial"))
        for entry in entries
        if _read(entry / "index") in ("0", "")
    ]


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
