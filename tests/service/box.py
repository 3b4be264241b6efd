"""A machine to install on: a real systemd in namespaces, with this machine's root underneath. Nothing leaves it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

BOOT = Path(__file__).parent / "boot.sh"


class Box:
    """Boots at once; `close` ends it with everything in it. Raises RuntimeError where this machine does not let it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._cgroups = _own_cgroups(f"edge-agent-box-{os.getpid()}")
        self._log = open(folder.with_suffix(".log"), "w")  # noqa: SIM115  # held open for as long as the box runs
        self._outer = subprocess.Popen(
            ["unshare", "--mount", str(BOOT), str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
            preexec_fn=self._join_cgroups,
        )
        self.leader = 0
        try:
            self._await_boot()
        except BaseException:
            self.close()
            raise

    def _join_cgroups(self) -> None:
        for cgroup in self._cgroups:
            (cgroup / "cgroup.procs").write_text(str(os.getpid()))

    def _await_boot(self, before: int = 0) -> None:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            if self._outer.poll() is not None:
                break
            self.leader = _first_descendant(self._outer.pid, 2)
            if self.leader not in (0, before):
                state = self.run("systemctl", "is-system-running", check=False).stdout.strip()
                if state in ("running", "degraded"):
                    return
            time.sleep(0.1)
        raise RuntimeError("systemd does not boot in namespaces here: " + Path(self._log.name).read_text()[-500:])

    def run(self, *words: object, check: bool = True, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
        """Run a program inside, as root."""
        command = ["nsenter", "-t", str(self.leader), "-a", "-r", "-w/", *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout_s, env=_ENVIRONMENT)
        assert not check or done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
        return done

    def path(self, inside: str) -> Path:
        """The same file as seen from here."""
        return Path(f"/proc/{self.leader}/root{inside}")

    def reboot(self) -> None:
        before = self.leader
        self.run("systemctl", "reboot", check=False)
        self._await_boot(before)

    def systemd_version(self) -> int:
        return int(self.run("systemctl", "--version").stdout.split()[1])

    def show(self, unit: str, name: str) -> str:
        return self.run("systemctl", "show", "--value", f"--property={name}", unit).stdout.strip()

    def journal(self, unit: str, *more: str) -> str:
        self.run("journalctl", "--sync")
        return self.run("journalctl", "--no-pager", "--output=cat", f"--unit={unit}", *more).stdout

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._outer.pid, signal.SIGKILL)
        self._outer.wait()
        self._log.close()
        for cgroup in self._cgroups:
            _remove(cgroup)


_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}


def wait_for(is_true: Callable[[], object], what: str, timeout_s: float = 60) -> None:
    """Poll the box until something is so."""
    until = time.monotonic() + timeout_s
    while not is_true():
        assert time.monotonic() < until, f"waited {timeout_s:g} s in vain: {what}"
        time.sleep(0.1)


def _own_cgroups(name: str) -> list[Path]:
    """Make a cgroup in every hierarchy, for the box to be the root of."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    made = []
    for where in (Path(m[1]) / name for m in mounts if m[2] in ("cgroup", "cgroup2") and m[1].startswith("/sys/fs/cgroup")):
        try:
            where.mkdir(exist_ok=True)
            for file in ("cpuset.cpus", "cpuset.mems"):
                if (where / file).exists() and (where / "cgroup.clone_children").exists():
                    (where / file).write_text((where.parent / file).read_text())
            if (where / "cpuset.cpus").exists() and (where / "cgroup.clone_children").exists():
                (where / "cgroup.clone_children").write_text("1")
            if (where / "cpu.rt_runtime_us").exists():
                (where / "cpu.rt_runtime_us").write_text("100000")  # where the kernel shares real time out among groups
        except OSError as error:
            raise RuntimeError(f"no cgroup can be made here: {error}") from None
        made.append(where)
    return made


def _remove(cgroup: Path) -> None:
    until = time.monotonic() + 5
    for folder, _, _ in os.walk(cgroup, topdown=False):
        while Path(folder).is_dir() and time.monotonic() < until:
            try:
                Path(folder).rmdir()
            except OSError:
                time.sleep(0.02)  # its last process is still going


def _first_descendant(pid: int, depth: int) -> int:
    """The first child's first child and so on; 0 where there is none yet."""
    for _ in range(depth):
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        except OSError:
            return 0
        if not children:
            return 0
        pid = int(children[0])
    return pid
