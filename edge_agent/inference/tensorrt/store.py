"""Engines on disk: each with what it was built by and for, and a checksum. One that is foreign or damaged is never loaded."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path

import msgspec

from edge_agent.errors import UNREADABLE, EngineError
from edge_agent.recipe import Strict

NEW = ".new-"  # begins the name of a file that is being written
_MAGIC = b"edge-agent engine 1\n"
_LENGTH = 4  # bytes, big-endian: of the manifest
_MOST_MANIFEST = 65_536


class EngineKey(Strict, frozen=True, kw_only=True):
    """Everything that decides whether an engine may be used. Two builds for equal keys are two engines: builders time."""

    library: str
    version: str
    network_hash: str  # of the finished ONNX: the model, its papers and this program have their part in it
    gpu: str
    capability: str
    driver: str
    options: dict[str, int]

    @property
    def digest(self) -> str:
        """Names the engine's file."""
        return hashlib.sha256(msgspec.json.encode(self, order="sorted")).hexdigest()[:16]

    def name_of(self, plan_sha256: str) -> str:
        """Names one build in every record, and in the station's choice of a calibrated engine."""
        return hashlib.sha256(f"{self.digest}/{plan_sha256}".encode()).hexdigest()[:16]

    @property
    def timing(self) -> str:
        """Names the timing cache: one for each library, GPU and driver."""
        text = "/".join((self.library, self.version, self.gpu, self.capability, self.driver))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class Manifest(Strict, frozen=True, kw_only=True):
    """What stands before an engine in its file."""

    key: EngineKey
    sha256: str
    bytes: int
    built: str  # UTC
    parity: str  # how far it was from the reference


class Refused(EngineError):
    """A stored engine is damaged, or was built by or for something else."""


def write_engine(file: Path, manifest: Manifest, plan: bytes) -> None:
    """Put the engine there, whole or not at all. Raises OSError."""
    head = msgspec.json.encode(manifest)
    write_whole(file, _MAGIC + len(head).to_bytes(_LENGTH, "big") + head + plan)


def read_engine(file: Path, key: EngineKey) -> tuple[Manifest, bytes] | None:
    """Return the engine, or None where there is none. Raises Refused."""
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Refused(f"{file} cannot be read: {error.strerror}") from None
    start = len(_MAGIC) + _LENGTH
    length = int.from_bytes(data[len(_MAGIC) : start], "big")
    if not data.startswith(_MAGIC) or length > _MOST_MANIFEST or len(data) < start + length:
        raise Refused(f"{file} is no engine of this program, or is cut off")
    try:
        manifest = msgspec.json.decode(data[start : start + length], type=Manifest)
    except UNREADABLE as error:
        raise Refused(f"{file}: its manifest is damaged: {error}") from None
    differs = [name for name in EngineKey.__struct_fields__ if getattr(manifest.key, name) != getattr(key, name)]
    if differs:
        raise Refused(f"{file} was built for another {', '.join(differs)}")
    plan = data[start + length :]
    if len(plan) != manifest.bytes or hashlib.sha256(plan).hexdigest() != manifest.sha256:
        raise Refused(f"{file} is damaged: its checksum does not hold")
    return manifest, plan


def write_whole(file: Path, data: bytes) -> None:
    """Replace a file at once and durably: a power cut leaves the old one or the new one. Others may read it. Raises OSError."""
    make_folder(file.parent)
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=NEW)
    try:
        with os.fdopen(handle, "wb") as new:
            new.write(data)
            new.flush()
            os.fchmod(new.fileno(), 0o644)
            _hand_over(new.fileno(), file.parent)
            os.fsync(new.fileno())
        Path(name).replace(file)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise
    folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def make_folder(folder: Path) -> None:
    """Make it where it is missing, and what is above it. Raises OSError."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for each in reversed(missing):
        handle = os.open(each, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            _hand_over(handle, each.parent)
        finally:
            os.close(handle)


def _hand_over(handle: int, folder: Path) -> None:
    """What root makes belongs to the owner of the folder it is made in: the service could not replace it otherwise."""
    owner = folder.stat()
    if os.geteuid() == 0 and owner.st_uid != 0:
        os.fchown(handle, owner.st_uid, owner.st_gid)
