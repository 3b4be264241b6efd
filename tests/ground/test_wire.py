"""Messages against their description: verdict.bin is decoded here by the table of docs/wire.md, not by our own code."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import pytest

from edge_agent.errors import DeliveryError, Reason
from edge_agent.records import FAULT, NG, PASS, Blob, Finding
from edge_agent.wire import (
    Request,
    Verdict,
    encode_json,
    read_reply,
    read_request,
    read_verdict_bin,
    read_verdict_json,
    verdict_bin,
    verdict_json,
)

DOCS = (Path(__file__).parents[2] / "docs" / "wire.md").read_text()
BLOB = Blob(
    class_name="dent", area_px=21.7, x=1, y=2, width=3, height=4, centroid_x=2.5, centroid_y=3.5, peak=0.9, mean=0.7, area_mm2=0.2
)
FINDING = Finding(rule="blob_count", value=1, limit=0, margin=-1, ok=False)


def verdict(outcome: str = NG, reasons: tuple[str, ...] = ("blob_count",), **changes: object) -> Verdict:
    values: dict[str, object] = {
        "station": "hall3",
        "line": "one",
        "epoch": 1_784_000_000,
        "seq": 2**40 + 17,
        "part_id": "Teil-ä42",
        "outcome": outcome,
        "reasons": reasons,
        "trigger_time_us": 1_784_000_012_345_678,
        "latency_ms": 23.4567,
        "recipe": "cap",
        "recipe_hash": "0123456789abcdef" * 4,
        "model_hash": "fedcba9876543210" * 4,
        "engine_id": "e",
        "blobs": (BLOB, BLOB),
        "findings": (FINDING,),
        "stages_ms": {"infer": 1.5},
        **changes,
    }
    return Verdict(**values)  # type: ignore[arg-type]


def decode_by_the_docs(message: bytes) -> dict[str, object]:
    """Read verdict.bin by the byte table of docs/wire.md alone."""
    table = DOCS.split("## verdict.bin")[1].split("**Dual rail.**")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line.startswith("| ")]
    fields: dict[str, object] = {}
    end = 0
    for offset, size, name, kind, _ in rows[1:]:
        assert int(offset) == end, f"{name} leaves a hole or overlaps"
        end = int(offset) + int(size)
        raw = message[int(offset) : end]
        fields[name] = int.from_bytes(raw, "little") if kind in ("unsigned", "bits") else raw
    assert end == len(message)
    return fields


def reason_codes_of_the_docs() -> dict[str, int]:
    table = DOCS.split("## Reasons of a FAULT")[1].split("## ")[0]
    cells = [line.strip("|").split("|") for line in table.splitlines() if line.startswith("| ") and "`" in line]
    return {reason.strip().strip("`"): int(code) for code, reason, _ in cells}


def test_verdict_bin_is_what_the_docs_say() -> None:
    message = verdict_bin(verdict())
    assert len(message) == 132
    assert decode_by_the_docs(message) == {
        "magic": b"EAVD",
        "version": 1,
        "size": 132,
        "epoch": 1_784_000_000,
        "seq": 2**40 + 17,
        "trigger_time_us": 1_784_000_012_345_678,
        "latency_us": 23456,
        "outcome": 2,
        "rails": 2,
        "reason": 0,
        "reserved_a": 0,
        "blob_count": 2,
        "defect_area_px": 43,
        "reserved_b": 0,
        "recipe_hash": bytes.fromhex("0123456789abcdef"),
        "model_hash": bytes.fromhex("fedcba9876543210"),
        "part_id": "Teil-ä42".encode().ljust(64, b"\0"),
        "crc32": zlib.crc32(message[:128]),
    }


def test_the_docs_reasons_are_the_codes_on_the_wire() -> None:
    codes = reason_codes_of_the_docs()
    assert set(codes) == {reason.value for reason in Reason}
    for reason, code in codes.items():
        fields = decode_by_the_docs(verdict_bin(verdict(FAULT, (reason, "dark"), blobs=())))
        assert (fields["outcome"], fields["rails"], fields["reason"]) == (3, 0, code)


@pytest.mark.parametrize(("outcome", "code", "rails"), [(PASS, 1, 1), (NG, 2, 2), (FAULT, 3, 0)])
def test_only_what_is_proven_raises_a_rail(outcome: str, code: int, rails: int) -> None:
    fields = decode_by_the_docs(verdict_bin(verdict(outcome, ())))
    assert (fields["outcome"], fields["rails"]) == (code, rails)


def test_what_does_not_fit_saturates_and_never_wraps() -> None:
    huge = Blob(class_name="d", area_px=1e12, x=0, y=0, width=1, height=1, centroid_x=0, centroid_y=0, peak=1, mean=1)
    fields = decode_by_the_docs(verdict_bin(verdict(blobs=(huge,), latency_ms=1e9, part_id="x" * 200)))
    assert fields["defect_area_px"] == fields["latency_us"] == 0xFFFFFFFF
    assert fields["part_id"] == b"x" * 64


def test_a_part_without_recipe_and_model_has_zero_hashes() -> None:
    fields = decode_by_the_docs(verdict_bin(verdict(FAULT, ("interrupted",), recipe_hash="", model_hash="")))
    assert fields["recipe_hash"] == fields["model_hash"] == bytes(8)


def test_our_own_reader_gives_back_what_was_written() -> None:
    read = read_verdict_bin(verdict_bin(verdict(PASS, ())))
    assert (read.epoch, read.seq, read.outcome, read.is_pass, read.is_ng) == (1_784_000_000, 2**40 + 17, PASS, True, False)
    assert (read.part_id, read.blob_count, read.latency_us) == ("Teil-ä42", 2, 23456)


@pytest.mark.parametrize("at", range(0, 132, 7))
def test_a_flipped_bit_is_noticed(at: int) -> None:
    message = bytearray(verdict_bin(verdict()))
    message[at] ^= 0x10
    with pytest.raises(DeliveryError):
        read_verdict_bin(bytes(message))


@pytest.mark.parametrize("length", [0, 3, 8, 131])
def test_a_truncated_message_is_noticed(length: int) -> None:
    with pytest.raises(DeliveryError, match="not a verdict"):
        read_verdict_bin(verdict_bin(verdict())[:length])


def test_trailing_bytes_are_noticed() -> None:
    with pytest.raises(DeliveryError, match="132 bytes"):
        read_verdict_bin(verdict_bin(verdict()) + b"\0")


def test_a_longer_version_is_read_by_an_old_reader() -> None:
    body = bytearray(verdict_bin(verdict())[:-4] + b"new!")
    body[4:8] = (2).to_bytes(2, "little") + (136).to_bytes(2, "little")
    assert read_verdict_bin(bytes(body) + zlib.crc32(body).to_bytes(4, "little")).outcome == NG


def test_json_and_record_come_back_as_they_were() -> None:
    assert read_verdict_json(verdict_json(verdict())) == verdict()
    assert read_verdict_json(verdict_json(verdict())) == verdict()


def test_json_has_the_fields_that_the_docs_name() -> None:
    section = DOCS.split("## verdict.json")[1].split("## verdict.bin")[0]
    message = json.loads(verdict_json(verdict()))
    assert set(json.loads(section.split("```json")[1].split("```")[0])) == set(message)
    for key in [*message, *message["blobs"][0], *message["findings"][0]]:
        assert f"`{key}`" in section
    assert message["blobs"][0]["class"] == "dent"
    assert message["v"] == 1


def test_unknown_json_keys_are_ignored() -> None:
    message = json.loads(verdict_json(verdict()))
    message["new"] = {"deep": [1]}
    message["blobs"][0]["new"] = 1
    assert read_verdict_json(json.dumps(message).encode()) == verdict()
    assert read_request(b'{"op":"status","new":1}') == Request(op="status")


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'{"op":1}', b'{"op":"ack","seqs":["x"]}', b"\xff\xfe", b'{"op":"\\ud800"}']
)
def test_what_is_no_message_is_a_delivery_error(body: bytes) -> None:
    for read in (read_request, read_reply, read_verdict_json):
        with pytest.raises(DeliveryError):
            read(body)


@pytest.mark.parametrize("line", [line for line in DOCS.splitlines() if line.startswith(('{"op"', '{"ok"')) and line.endswith("}")])
def test_the_docs_examples_of_control_can_be_read(line: str) -> None:
    if line.startswith('{"op"'):
        request = read_request(line.encode())
        assert json.loads(line).items() <= json.loads(encode_json(request)).items()
    else:
        assert read_reply(line.encode()).id
