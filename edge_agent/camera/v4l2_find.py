"""Finds a USB camera by what does not change when it is plugged elsewhere or found in another order."""

from __future__ import annotations

from pathlib import Path

from edge_agent.camera.v4l2_kernel import Kernel
from edge_agent.errors import CameraError


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
            f"{link} is no link but a device, whose name changes. Remedy: give its link in {kernel.devices}/v4l/by-id."
        )
    return link


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
