"""The camera's memory: GigE Vision's bootstrap registers, the camera's own, and its description, with what may be written where.

Addresses below 0x1000 are those of GigE Vision 1.2, section 28; those from 0xa000 are this camera's own, as camera.xml describes
them to the host. Every number is big-endian. A write that a camera would refuse raises StatusError with GVCP's status code.
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass
from importlib.resources import files

from edge_agent.simulator.pictures import PIXEL_FORMATS, bytes_of

BOOTSTRAP_BYTES = 0xE00
XML_ADDRESS = 0x10_0000
PACKETS_MOST = 65_532  # an IPv4 packet, in steps of 4
TICKS_HZ = 1_000_000_000
RISING, FALLING, ANY_EDGE = 0, 1, 2  # TriggerActivation, CounterEventActivation

INVALID_PARAMETER = 0x8002
INVALID_ADDRESS = 0x8003
WRITE_PROTECT = 0x8004
BAD_ALIGNMENT = 0x8005


class StatusError(Exception):
    """The host asks for what the camera refuses; `status` is GVCP's code for it."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status 0x{status:04x}")
        self.status = status


@dataclass(frozen=True, slots=True)
class Register:
    """One number in memory. `form` is I (4 bytes, unsigned) or d (8 bytes, float); `is_locked` while pictures are taken."""

    name: str
    address: int
    default: float = 0
    least: float = 0
    most: float = 0xFFFF_FFFF
    form: str = "I"
    is_writable: bool = True
    is_locked: bool = False

    @property
    def length(self) -> int:
        return 8 if self.form == "d" else 4


def _fixed(name: str, address: int, value: int = 0) -> Register:
    return Register(name, address, value, is_writable=False)


REGISTERS = (
    _fixed("Version", 0x000, 0x0001_0002),
    _fixed("DeviceMode", 0x004, 0x8000_0001),  # big-endian, UTF-8
    _fixed("MacAddressHigh", 0x008, 0x0200),  # locally administered; the low word is the IP address
    _fixed("MacAddressLow", 0x00C),
    _fixed("CurrentIpConfiguration", 0x014, 0x0000_0005),  # persistent or link-local
    _fixed("CurrentIpAddress", 0x024),
    _fixed("CurrentSubnetMask", 0x034, 0xFF00_0000),
    _fixed("NetworkInterfaces", 0x600, 1),
    _fixed("StreamChannels", 0x904, 1),
    _fixed("Capability", 0x934),
    Register("HeartbeatTimeout", 0x938, 3000, 500, 600_000),
    _fixed("TickFrequencyHigh", 0x93C),
    _fixed("TickFrequencyLow", 0x940, TICKS_HZ),
    Register("TimestampControl", 0x944),
    _fixed("TimestampHigh", 0x948),
    _fixed("TimestampLow", 0x94C),
    Register("ControlPrivilege", 0xA00),
    Register("StreamPort", 0xD00, most=0xFFFF),
    Register("PacketSize", 0xD04, 1500),
    Register("PacketDelay", 0xD08, most=1_000_000),
    Register("StreamAddress", 0xD18),
    _fixed("StreamSourcePort", 0xD1C),  # what Aravis 0.8.20 filters by, told or not: docs/cameras.md
    Register("Width", 0xA000, least=8, is_locked=True),
    Register("Height", 0xA004, least=1, is_locked=True),
    _fixed("WidthMax", 0xA008),
    _fixed("HeightMax", 0xA00C),
    Register("OffsetX", 0xA010, is_locked=True),
    Register("OffsetY", 0xA014, is_locked=True),
    Register("PixelFormat", 0xA018, PIXEL_FORMATS["Mono8"], is_locked=True),
    _fixed("PayloadSize", 0xA01C),
    Register("AcquisitionMode", 0xA020, 0, most=2),
    Register("AcquisitionFrameCount", 0xA024, 1, least=1),
    Register("AcquisitionStart", 0xA028),
    Register("AcquisitionStop", 0xA02C),
    Register("TriggerSelector", 0xA030, most=0),
    Register("TriggerMode", 0xA034, most=1),
    Register("TriggerSource", 0xA038, most=1),
    Register("TriggerActivation", 0xA03C, RISING, most=ANY_EDGE),
    Register("TriggerSoftware", 0xA040),
    Register("CounterSelector", 0xA044, most=0),
    Register("CounterEventSource", 0xA048, 1, most=1),
    _fixed("CounterValue", 0xA04C),
    Register("CounterReset", 0xA050),
    Register("TLParamsLocked", 0xA054, most=1),
    Register("DeviceReset", 0xA058),
    _fixed("SensorWidth", 0xA05C),
    _fixed("SensorHeight", 0xA060),
    Register("BinningHorizontal", 0xA064, 1, 1, 4, is_locked=True),
    Register("BinningVertical", 0xA068, 1, 1, 4, is_locked=True),
    Register("CounterEventActivation", 0xA06C, RISING, most=ANY_EDGE),
    Register("AcquisitionFrameRate", 0xA100, 25.0, 0.01, 10_000.0, "d"),
    Register("ExposureTime", 0xA108, 1000.0, 1.0, 10_000_000.0, "d"),
    Register("Gain", 0xA110, 0.0, 0.0, 24.0, "d"),
    Register("TriggerDelay", 0xA118, 0.0, 0.0, 1_000_000.0, "d"),
)
BY_NAME = {register.name: register for register in REGISTERS}
_BY_ADDRESS = {register.address: register for register in REGISTERS}
_OWN = range(0xA000, 0xA120)

# Text in bootstrap memory: address and length. Only the user's name may be written.
MODEL_NAME = "Simulated camera"
VENDOR, MODEL, DEVICE_VERSION, SERIAL, USER_NAME = (0x048, 32), (0x068, 32), (0x088, 32), (0x0D8, 16), (0x0E8, 16)
XML_URL = (0x200, 512)

WRITEMEM, RESEND = 1 << 1, 1 << 2
_CAN = 1 << 31 | 1 << 30 | WRITEMEM | 1  # a user's name, a serial number, WRITEMEM, several registers a command


class RegisterMap:
    """Everything a host can read and write. Not for several threads at once: the camera holds its lock around each call."""

    def __init__(self, address: str, serial: str, rows: int, cols: int, can_resend: bool = True) -> None:
        self.is_acquiring = False
        self._memory = bytearray(_OWN.stop)
        self._xml = (files("edge_agent.simulator") / "camera.xml").read_bytes()
        own_address = int(ipaddress.IPv4Address(address))
        self._first: dict[str, float] = {
            "CurrentIpAddress": own_address,
            "MacAddressLow": own_address,
            "Capability": _CAN | (RESEND if can_resend else 0),
            "SensorWidth": cols,
            "SensorHeight": rows,
            "Width": cols,
            "Height": rows,
        }
        self._texts = {
            VENDOR: "edge-agent",
            MODEL: MODEL_NAME,
            DEVICE_VERSION: "1.0",
            SERIAL: serial,
            XML_URL: f"Local:camera.xml;{XML_ADDRESS:x};{len(self._xml):x}",
        }
        self.reset()

    def set_default(self, name: str, value: float) -> None:
        """What a register holds from now on, and again after a power cycle."""
        self._first[name] = value
        self[name] = value

    def reset(self) -> None:
        """Every register holds what it holds after power comes up."""
        self.is_acquiring = False
        self._memory[:] = bytes(len(self._memory))
        for (address, length), text in self._texts.items():
            self._memory[address : address + length] = text.encode().ljust(length, b"\0")
        for register in REGISTERS:
            self[register.name] = self._first.get(register.name, register.default)
        self._settle()

    def __getitem__(self, name: str) -> int:
        return int(self.number(name))

    def __setitem__(self, name: str, value: float) -> None:
        register = BY_NAME[name]
        number = value if register.form == "d" else int(value)
        struct.pack_into(f">{register.form}", self._memory, register.address, number)

    def number(self, name: str) -> float:
        register = BY_NAME[name]
        value: float = struct.unpack_from(f">{register.form}", self._memory, register.address)[0]
        return value

    def read(self, address: int, length: int) -> bytes:
        """Return `length` bytes of memory. Raises StatusError outside of it."""
        if address % 4 or length % 4:
            raise StatusError(BAD_ALIGNMENT)
        end = address + length
        if end <= BOOTSTRAP_BYTES or (address in _OWN and end <= _OWN.stop):
            return bytes(self._memory[address:end])
        begin = address - XML_ADDRESS
        if begin < 0 or begin + length > len(self._xml) + 3:  # the last word of the description may be a part of one
            raise StatusError(INVALID_ADDRESS)
        return self._xml[begin : begin + length].ljust(length, b"\0")

    def write(self, address: int, content: bytes) -> list[str]:
        """Store whole registers one after the other; return their names. Raises StatusError at the first that refuses."""
        if address % 4 or len(content) % 4:
            raise StatusError(BAD_ALIGNMENT)
        first, length = USER_NAME
        if first <= address and address + len(content) <= first + length:
            self._memory[address : address + len(content)] = content
            return []
        names = []
        while content:
            register = _BY_ADDRESS.get(address)
            if register is None:
                raise StatusError(INVALID_ADDRESS)
            if len(content) < register.length:
                raise StatusError(INVALID_PARAMETER)
            value: float = struct.unpack_from(f">{register.form}", content)[0]
            self._require_allowed(register, value)
            self[register.name] = value
            self._settle()
            names.append(register.name)
            address, content = address + register.length, content[register.length :]
        return names

    def _require_allowed(self, register: Register, value: float) -> None:
        if not register.is_writable or (register.is_locked and self.is_acquiring):
            raise StatusError(WRITE_PROTECT)
        most = {
            "Width": self["WidthMax"] - self["OffsetX"],
            "Height": self["HeightMax"] - self["OffsetY"],
            "OffsetX": self["WidthMax"] - self["Width"],
            "OffsetY": self["HeightMax"] - self["Height"],
        }.get(register.name, register.most)
        if not register.least <= value <= most:  # false for a NaN too
            raise StatusError(INVALID_PARAMETER)
        if register.name == "PixelFormat" and value not in PIXEL_FORMATS.values():
            raise StatusError(INVALID_PARAMETER)
        if register.name == "PacketSize" and not (576 <= int(value) & 0xFFFF <= PACKETS_MOST and int(value) % 4 == 0):
            raise StatusError(INVALID_PARAMETER)

    def _settle(self) -> None:
        """What follows from other registers follows: with binning there are fewer pixels, and the region fits into them."""
        for side, offset, binning in (("Width", "OffsetX", "BinningHorizontal"), ("Height", "OffsetY", "BinningVertical")):
            most = self[f"{side}Max"] = self[f"Sensor{side}"] // self[binning]
            self[offset] = min(self[offset], max(0, most - 8))
            self[side] = min(self[side], most - self[offset])
        self["PayloadSize"] = bytes_of(self["Height"] * self["Width"], self["PixelFormat"])
