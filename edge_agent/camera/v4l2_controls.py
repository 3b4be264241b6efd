"""Sets a camera's controls by name and reads every one back: a camera that quietly keeps its own exposure judges wrongly."""

from __future__ import annotations

import errno
import re

import msgspec

from edge_agent.camera import v4l2_kernel as k
from edge_agent.camera.v4l2_device import Device
from edge_agent.errors import CameraError

_MOST_CONTROLS = 1000  # a driver that never ends its list


class Control(msgspec.Struct, frozen=True):
    """One control as the driver describes it."""

    id: int
    type: int
    name: str
    minimum: int
    maximum: int
    step: int
    flags: int

    @property
    def limits(self) -> str:
        return f"it takes {self.minimum} to {self.maximum}" + (f" in steps of {self.step}" if self.step > 1 else "")


def set_controls(device: Device, wanted: dict[str, int]) -> None:
    """Set every control, in the order given (an automatic one before what it governs), then read all of them back.

    Raises CameraError naming the control, both values and the range."""
    if not wanted:
        return
    offered = list_controls(device)
    for name, value in wanted.items():
        _set(device, _named(device, offered, name), value)
    offered = list_controls(device)  # one control may have changed another
    for name, value in wanted.items():
        _check(device, offered[name], value)


def list_controls(device: Device) -> dict[str, Control]:
    """Every plain control by its name, as v4l2-ctl spells it."""
    controls: dict[str, Control] = {}
    last = 0
    for _ in range(_MOST_CONTROLS):
        control = _next_control(device, last)
        if control is None:
            break
        last = control.id
        is_plain = control.type < k.CTRL_COMPOUND_TYPES and control.type not in (k.CTRL_TYPE_CTRL_CLASS, k.CTRL_TYPE_STRING)
        if is_plain and not control.flags & k.CTRL_FLAG_DISABLED:
            controls.setdefault(control.name, control)
    return controls


def spell(name: str) -> str:
    """`Exposure Time, Absolute` is `exposure_time_absolute`."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def _next_control(device: Device, last: int) -> Control | None:
    """The control after `last`; drivers before Linux 3.17 know only the older question."""
    for request, query in (k.VIDIOC_QUERY_EXT_CTRL, k.QueryExtControl()), (k.VIDIOC_QUERYCTRL, k.QueryControl()):
        query.id = last | k.CTRL_FLAG_NEXT_CTRL
        try:
            device.ask(request, query)
        except OSError as error:
            if error.errno == errno.EINVAL:
                return None
            if error.errno == errno.ENOTTY:
                continue
            raise device.explain(error, request) from None
        q = query
        return Control(q.id, q.type, spell(q.name.decode("utf-8", "replace")), q.minimum, q.maximum, q.step, q.flags)
    return None


def _named(device: Device, offered: dict[str, Control], name: str) -> Control:
    if name not in offered:
        names = ", ".join(sorted(offered)) or "none"
        raise CameraError(f"camera {device.path} has no control {name!r}. Remedy: use one of {names}.")
    return offered[name]


def _set(device: Device, control: Control, value: int) -> None:
    where = f"control {control.name} of camera {device.path}"
    if control.flags & k.CTRL_FLAG_READ_ONLY:
        raise CameraError(f"{where} can only be read, not set to {value}. Remedy: take it out of controls.")
    if not control.minimum <= value <= control.maximum and control.type != k.CTRL_TYPE_BUTTON:
        raise CameraError(f"{where} cannot be {value}: {control.limits}.")
    try:
        _write(device, control, value)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ERANGE, errno.EBUSY, errno.EACCES):
            raise CameraError(f"{where} cannot be set to {value} ({error.strerror}): {control.limits}.") from None
        raise device.explain(error, k.VIDIOC_S_CTRL) from None


def _check(device: Device, control: Control, value: int) -> None:
    where = f"control {control.name} of camera {device.path}"
    if control.flags & k.CTRL_FLAG_INACTIVE:
        raise CameraError(
            f"{where} was set to {value} and has no effect: an automatic control overrides it. "
            "Remedy: switch that off by another entry of controls, before this one."
        )
    if control.type == k.CTRL_TYPE_BUTTON or control.flags & k.CTRL_FLAG_WRITE_ONLY:
        return
    try:
        is_value = _read(device, control)
    except OSError as error:
        raise device.explain(error, k.VIDIOC_G_CTRL) from None
    if is_value != value:
        raise CameraError(f"{where} was set to {value} and is {is_value}: {control.limits}.")


def _write(device: Device, control: Control, value: int) -> None:
    if control.type == k.CTRL_TYPE_INTEGER64:
        entry = k.ExtControl(id=control.id)
        entry.u.value64 = value
        _ask_ext(device, k.VIDIOC_S_EXT_CTRLS, entry)
    else:
        device.ask(k.VIDIOC_S_CTRL, k.Control(control.id, value))


def _read(device: Device, control: Control) -> int:
    if control.type == k.CTRL_TYPE_INTEGER64:
        return int(_ask_ext(device, k.VIDIOC_G_EXT_CTRLS, k.ExtControl(id=control.id)).u.value64)
    plain = k.Control(control.id)
    device.ask(k.VIDIOC_G_CTRL, plain)
    return int(plain.value)


def _ask_ext(device: Device, request: int, entry: k.ExtControl) -> k.ExtControl:
    entries = k.pointer_to([entry])
    device.ask(request, k.ExtControls(which=0, count=1, controls=entries))  # 0: the current value
    return k.ExtControl.from_buffer_copy(entries)
