"""Messages, versioned, encode and decode side by side. docs/wire.md tells them to somebody who never sees this code."""

from __future__ import annotations

import re
import struct
import zlib
from typing import Any

import msgspec

from edge_agent.errors import REASON_CODES, UNREADABLE, DeliveryError
from edge_agent.records import NAME_PATTERN, Blob, Finding

WIRE_VERSION = 1
NAME = re.compile(NAME_PATTERN)
PART_ID_BYTES = 64


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """One part's outcome: the JSON object of `verdict.json`, the record in the outbox, the row at the collector.

    `trigger_time_us` is UTC microseconds since 1970; `stages_ms` says where the time went.
    """

    station: str
    line: str
    epoch: int
    seq: int
    part_id: str
    outcome: str
    reasons: tuple[str, ...]
    trigger_time_us: int
    latency_ms: float
    recipe: str
    recipe_hash: str
    model_hash: str
    engine_id: str
    blobs: tuple[Blob, ...]
    findings: tuple[Finding, ...]
    shadow: bool = False
    challenge: str = ""
    stages_ms: dict[str, float] = {}
    v: int = WIRE_VERSION


_JSON_OUT = msgspec.json.Encoder()
_JSON_VERDICT = msgspec.json.Decoder(Verdict)


def verdict_json(verdict: Verdict) -> bytes:
    """The one form of a verdict: published, journalled, shipped and stored byte for byte."""
    return _JSON_OUT.encode(verdict)


def read_verdict_json(body: bytes) -> Verdict:
    """Raises DeliveryError where the bytes are not a verdict; unknown keys are ignored, so that the format can grow."""
    try:
        return _JSON_VERDICT.decode(body)
    except UNREADABLE as error:
        raise DeliveryError(f"not a verdict: {error}") from None


def encode_json(message: Any) -> bytes:
    return _JSON_OUT.encode(message)


# --- verdict.bin: little-endian, fixed; grows at the end only, `size` lets an old reader skip -------------------------
MAGIC = b"EAVD"
BIN_VERSION = 1
_BODY = struct.Struct("<4sHHIQQIBBBBIII8s8s64s")
BIN_SIZE = _BODY.size + 4
OUTCOME_CODES = {"PASS": 1, "NG": 2, "FAULT": 3}
_OUTCOME_NAMES = {code: name for name, code in OUTCOME_CODES.items()}


class BinVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """What the fixed struct carries. `is_pass` and `is_ng` are dual-rail: both 0 means neither was proven."""

    epoch: int
    seq: int
    trigger_time_us: int
    latency_us: int
    outcome: str
    is_pass: bool
    is_ng: bool
    reason_code: int
    blob_count: int
    defect_area_px: int
    recipe_hash: bytes
    model_hash: bytes
    part_id: str


def verdict_bin(verdict: Verdict) -> bytes:
    """Encode the fixed struct; the part id is cut to 64 bytes, hashes to their first 8."""
    blobs = verdict.blobs
    area = int(sum(blob.area_px for blob in blobs)) if blobs else 0
    reasons = verdict.reasons
    body = _BODY.pack(
        MAGIC,
        BIN_VERSION,
        BIN_SIZE,
        verdict.epoch,
        verdict.seq,
        verdict.trigger_time_us,
        min(int(verdict.latency_ms * 1000), 0xFFFFFFFF),
        OUTCOME_CODES[verdict.outcome],
        1 if verdict.outcome == "PASS" else 2 if verdict.outcome == "NG" else 0,
        REASON_CODES.get(reasons[0], 0) if reasons else 0,
        0,
        min(len(blobs), 0xFFFFFFFF),
        min(area, 0xFFFFFFFF),
        0,
        bytes.fromhex(verdict.recipe_hash[:16]),
        bytes.fromhex(verdict.model_hash[:16]),
        verdict.part_id.encode()[:PART_ID_BYTES],
    )
    return body + zlib.crc32(body).to_bytes(4, "little")


def read_verdict_bin(message: bytes) -> BinVerdict:
    """Decode the fixed struct. Raises DeliveryError naming what is wrong."""
    if len(message) < BIN_SIZE or message[:4] != MAGIC:
        raise DeliveryError(f"not a verdict: {len(message)} bytes beginning {message[:4]!r}, expected {BIN_SIZE} and {MAGIC!r}")
    (
        _,
        version,
        size,
        epoch,
        seq,
        trigger_us,
        latency_us,
        outcome,
        rails,
        reason,
        _,
        blobs,
        area,
        _,
        recipe,
        model,
        part,
    ) = _BODY.unpack_from(message)
    if size != len(message) or size < BIN_SIZE:
        raise DeliveryError(f"verdict says it has {size} bytes, has {len(message)} (version {version})")
    if zlib.crc32(message[: size - 4]) != int.from_bytes(message[size - 4 :], "little"):
        raise DeliveryError("verdict with a wrong CRC-32")
    return BinVerdict(
        epoch=epoch,
        seq=seq,
        trigger_time_us=trigger_us,
        latency_us=latency_us,
        outcome=_OUTCOME_NAMES.get(outcome, "FAULT"),
        is_pass=bool(rails & 1),
        is_ng=bool(rails & 2),
        reason_code=reason,
        blob_count=blobs,
        defect_area_px=area,
        recipe_hash=recipe,
        model_hash=model,
        part_id=part.rstrip(b"\0").decode(errors="replace"),
    )


class PictureNote(msgspec.Struct, frozen=True, kw_only=True):
    """What an evidence picture shows; travels beside its bytes. `kind` is crop, frame or map; x, y its corner in the frame."""

    station: str
    line: str
    epoch: int
    seq: int
    part_id: str
    outcome: str
    kind: str
    index: int
    x: int
    y: int
    width: int
    height: int
    format: str = "png"
    sha256: str = ""


# --- control: JSON, one request, one reply, by `id` -------------------------------------------------------------------
class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What may be asked on the control socket. `seqs` with `epoch` names parts of `line`."""

    op: str
    id: str = ""
    line: str = ""
    epoch: int = 0
    seqs: tuple[int, ...] = ()
    part_id: str = ""
    name: str = ""
    mode: str = ""
    reset: bool = False


class Reply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The answer: `ok`, or an error that names the thing and the remedy. `verdicts` answers a replay."""

    ok: bool
    id: str = ""
    error: str = ""
    epoch: int = 0
    verdicts: tuple[msgspec.Raw, ...] = ()
    missing: tuple[int, ...] = ()
    status: dict[str, Any] = {}


class _Named(msgspec.Struct):
    id: str = ""


_REQUEST = msgspec.json.Decoder(Request)
_NAMED = msgspec.json.Decoder(_Named)
_REPLY = msgspec.json.Decoder(Reply)


def read_request(body: bytes) -> Request:
    try:
        return _REQUEST.decode(body)
    except UNREADABLE as error:
        raise DeliveryError(f"not a request: {error}") from None


def id_of(body: bytes) -> str:
    """The id of a request that is none, where that much of it can be read."""
    try:
        return _NAMED.decode(body).id
    except UNREADABLE:
        return ""


def read_reply(body: bytes) -> Reply:
    try:
        return _REPLY.decode(body)
    except UNREADABLE as error:
        raise DeliveryError(f"not a reply: {error}") from None
