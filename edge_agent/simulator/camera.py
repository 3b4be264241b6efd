"""The simulated camera itself: its sockets, its threads, and what a test may do to it."""

from __future__ import annotations

import collections
import contextlib
import errno
import socket
import threading
import time
from collections.abc import Callable

from edge_agent.errors import CameraError, ConfigurationError
from edge_agent.records import Pixels
from edge_agent.simulator.control import PORT, Address, Control
from edge_agent.simulator.exposures import SOFTWARE, Exposures
from edge_agent.simulator.faults import FaultPlan, Faults, Happening, Truth, parse_faults
from edge_agent.simulator.pictures import Pictures, Texture
from edge_agent.simulator.registers import RegisterMap
from edge_agent.simulator.stream import Region, Sender

_LOOK_S = 0.05  # how often the threads look whether the camera closes
_FIRE_TEST = 1 << 31  # of the packet size register


class SimulatedCamera:
    """A GigE Vision camera at a local address. Any 127.x.y.z is local without configuration.

    `pictures` gives what is seen, noise with the sequence number in its first 8 pixels by default. `log` is the truth of every
    trigger whose fate is known, unless `on_record` takes it, which several threads call, one at a time. `link_mbit_s` paces
    packets as a wire would; 0 is at once. Without a clock every time it tells is 0."""

    def __init__(
        self,
        address: str = "127.0.0.2",
        *,
        serial: str = "SIM-1",
        rows: int = 480,
        cols: int = 640,
        rate_hz: float = 25.0,
        exposure_us: float = 1000.0,
        trigger_rate_hz: float = 0.0,
        pictures: Pictures | None = None,
        faults: FaultPlan | str = "",
        depth: int = 4,
        link_mbit_s: float = 0.0,
        has_clock: bool = True,
        on_record: Callable[[Truth | Happening], None] | None = None,
    ) -> None:
        plan = parse_faults(faults) if isinstance(faults, str) else faults
        self.address = address
        self.serial = serial
        self.log: list[Truth | Happening] = []
        self.fates: collections.Counter[str] = collections.Counter()
        self.faults = Faults(plan)
        self._on_record = on_record or self.log.append
        self._trigger_rate_hz = trigger_rate_hz
        self._registers = RegisterMap(address, serial, rows, cols, plan.can_resend)
        self._registers.set_default("AcquisitionFrameRate", rate_hz)
        self._registers.set_default("ExposureTime", exposure_us)
        self._exposures = Exposures(self._registers, self.faults, depth, self._record)
        self._lock = self._exposures.changed
        self._sender = Sender(self._registers, self.faults, pictures or Texture(), pictures is None, link_mbit_s, has_clock)
        self._control = Control(self._registers, self._written, self._sender.resend)
        self._frozen_until_ns = self._off_until_ns = 0
        self._recording = threading.Lock()
        self._closing = threading.Event()
        self._threads: list[threading.Thread] = []

    def open(self) -> None:
        """Answer from now on. Raises CameraError where the address is taken, ConfigurationError where it is not this machine's."""
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._socket.bind((self.address, PORT))
        except OSError as error:
            self._socket.close()
            if error.errno == errno.EADDRINUSE:
                raise CameraError(
                    f"address {self.address}: port {PORT}, which GigE Vision prescribes, is in use by another program. "
                    "End that one, or give another address, such as any 127.x.y.z."
                ) from None
            raise ConfigurationError(
                f"address {self.address} is not this machine's: {error.strerror}. Give one of its own, such as any 127.x.y.z."
            ) from None
        self._socket.settimeout(_LOOK_S)
        self._sender.open(self.address)
        self._control.release()
        self._registers.reset()
        self._closing.clear()
        loops = {"sim-control": self._answer_hosts, "sim-stream": self._take_pictures}
        if self._trigger_rate_hz:
            loops["sim-pulses"] = self._pulse_line0
        self._threads = [threading.Thread(target=loop, name=name, daemon=True) for name, loop in loops.items()]
        if self.faults.plan.held_s:
            self.hold_control(self.faults.plan.held_s)
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Answer no more; triggers in hand come to nothing. May be called twice."""
        self._closing.set()
        self._exposures.disarm()
        for thread in self._threads:
            thread.join()
        if self._threads:
            self._socket.close()
            self._sender.close()
        self._threads = []

    def __enter__(self) -> SimulatedCamera:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def pulse(self, width_s: float = 0.0) -> bool:
        """One pulse on Line0, a rise and a fall; say whether it becomes a picture."""
        is_taken = self._exposures.edge(True, time.monotonic_ns() >= self._off_until_ns)
        if width_s:
            time.sleep(width_s)
        return self._exposures.edge(False, time.monotonic_ns() >= self._off_until_ns) or is_taken

    def inject(self, fault: str, count: int = 1) -> None:
        """The next `count` pictures have this fault, one of FRAME_FAULTS."""
        self.faults.inject(fault, count)

    def set_next_id(self, block_id: int) -> None:
        """The next picture has this block id, 1 to 65535."""
        self._sender.block_id = block_id

    def freeze_control(self, duration_s: float) -> None:
        """The control channel does not answer for so long; pictures go on."""
        self._frozen_until_ns = time.monotonic_ns() + int(duration_s * 1e9)
        self._happened("freeze", duration_s)

    def power_cycle(self, off_s: float = 0.0) -> None:
        """Every register, control and the stream are as after power came up, after `off_s` without any answer."""
        with self._lock:
            self._off_until_ns = time.monotonic_ns() + int(off_s * 1e9)
            self._exposures.disarm("power")
            self._control.release()
            self._sender.forget()
            self._registers.reset()
            self._happened("power", off_s)

    def hold_control(self, duration_s: float) -> None:
        """Another application is in exclusive control for so long."""
        with self._lock:
            self._close_stream()
            self._control.hold(("0.0.0.0", 0), time.monotonic_ns() + int(duration_s * 1e9))
            self._happened("held", duration_s)

    @property
    def is_acquiring(self) -> bool:
        return self._registers.is_acquiring

    @property
    def controller(self) -> Address | None:
        """Address and port of the application in control."""
        return self._control.controller

    def register(self, name: str) -> float:
        """What one of registers.py's holds now."""
        with self._lock:
            return self._registers.number(name)

    def set_register(self, name: str, value: float) -> None:
        """Change a register behind the host's back."""
        with self._lock:
            self._registers[name] = value

    def reset_clock(self) -> None:
        """The camera's time begins anew."""
        with self._lock:
            self._sender.reset_clock()

    def picture(self, sequence: int) -> Pixels:
        """The gray picture of a sequence number, in the region and with the stamp it is sent with: what a host must see."""
        with self._lock:
            region = Region.of(self._registers)
        return self._sender.see(sequence, region)

    def counters(self) -> dict[str, int]:
        """Triggers, pictures by fate, packets lost and sent again, so far."""
        return {"triggers": self._exposures.triggers, **self._sender.counters, **self.fates}

    def _answer_hosts(self) -> None:
        while not self._closing.is_set():
            datagram, sender = b"", ("", 0)
            with contextlib.suppress(TimeoutError, ConnectionError):
                datagram, sender = self._socket.recvfrom(2048)
            now_ns = time.monotonic_ns()
            with self._lock:
                if self._control.expire(now_ns):
                    self._close_stream()
                    self._happened("expired")
                if now_ns < max(self._frozen_until_ns, self._off_until_ns):
                    continue
                answer = self._control.answer(datagram, sender, now_ns)
            if answer is not None:
                with contextlib.suppress(OSError):
                    self._socket.sendto(answer, sender)

    def _written(self, names: list[str]) -> None:
        """Do what writing these registers asks for. Called under the lock."""
        for name in names:
            value = self._registers[name]
            match name:
                case "ControlPrivilege" if not value:
                    self._close_stream()
                case "AcquisitionStart":
                    self._exposures.arm()
                case "AcquisitionStop":
                    self._exposures.disarm()
                case "TriggerSoftware":
                    self._exposures.pulse(SOFTWARE)
                case "CounterReset":
                    self._registers["CounterValue"] = 0
                case "StreamPort":
                    self._sender.begin()
                case "PacketSize" if value & _FIRE_TEST:
                    self._registers["PacketSize"] = value & ~_FIRE_TEST
                    self._sender.send_test_packet()
                case "TimestampControl":
                    self._sender.latch_timestamp()
                case "DeviceReset":
                    self.power_cycle(self.faults.duration_s("power"))

    def _close_stream(self) -> None:
        self._exposures.disarm()
        self._registers["StreamPort"] = 0

    def _take_pictures(self) -> None:
        while not self._closing.is_set():
            shot = self._exposures.take(_LOOK_S)
            if shot is None:
                continue
            with self._lock:
                sequence = self._sender.expose()
                self._befall(sequence)
                is_current = self._exposures.is_current(shot)
                order = self._sender.order(sequence, shot.ready_ns) if is_current else None
            if order is None:
                fate = "no_stream" if is_current else self._exposures.ended_by
                self._record(Truth(shot.trigger, sequence, 0, fate, shot.trigger_ns))
            else:
                job = self._sender.make(order)
                self._record(
                    Truth(shot.trigger, sequence, order.block_id, job.fate, shot.trigger_ns, int(job.is_lost.sum()))
                )  # before it is sent: whoever has the picture finds its truth
                self._sender.send(job)
            self._exposures.done()

    def _befall(self, sequence: int) -> None:
        """What the plan has for the camera itself at this picture."""
        match self.faults.event(sequence):
            case "freeze":
                self.freeze_control(self.faults.duration_s("freeze"))
            case "power":
                self.power_cycle(self.faults.duration_s("power"))

    def _pulse_line0(self) -> None:
        period_ns = int(1e9 / self._trigger_rate_hz)
        due_ns = time.monotonic_ns() + period_ns
        while not self._closing.wait(max(due_ns - time.monotonic_ns(), 0) / 1e9):
            self.pulse()
            due_ns += period_ns

    def _record(self, truth: Truth) -> None:
        with self._recording:
            self.fates[truth.fate] += 1
            self._on_record(truth)

    def _happened(self, what: str, duration_s: float = 0.0) -> None:
        with self._recording:
            self._on_record(Happening(what, self._exposures.triggers, time.monotonic_ns(), duration_s))
