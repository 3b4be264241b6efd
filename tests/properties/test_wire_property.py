"""Whatever a verdict holds, it comes back from the wire; whatever bytes come, they are a verdict or a DeliveryError."""

from __future__ import annotations

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.errors import DeliveryError, Reason
from edge_agent.plc.parts import fit_part_id
from edge_agent.records import OUTCOMES, Blob, Finding
from edge_agent.wire import (
    Verdict,
    read_verdict_bin,
    read_verdict_json,
    verdict_bin,
    verdict_json,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NUMBER = st.floats(allow_nan=False, allow_infinity=False, width=64)
AREA = st.floats(0, 1e12)
HASH = st.binary(min_size=32, max_size=32).map(bytes.hex) | st.just("")
BLOBS = st.builds(
    Blob,
    class_name=TEXT,
    area_px=AREA,
    x=NUMBER,
    y=NUMBER,
    width=NUMBER,
    height=NUMBER,
    centroid_x=NUMBER,
    centroid_y=NUMBER,
    peak=NUMBER,
    mean=NUMBER,
    area_mm2=AREA | st.none(),
)
FINDINGS = st.builds(Finding, rule=TEXT, value=NUMBER, limit=NUMBER, margin=NUMBER, ok=st.booleans())
VERDICTS = st.builds(
    Verdict,
    station=TEXT,
    line=TEXT,
    epoch=st.integers(0, 2**32 - 1),
    seq=st.integers(0, 2**64 - 1),
    part_id=st.text(max_size=100).map(fit_part_id),
    outcome=st.sampled_from(OUTCOMES),
    reasons=st.lists(st.sampled_from([reason.value for reason in Reason]) | TEXT, max_size=3).map(tuple),
    trigger_time_us=st.integers(0, 2**63 - 1),
    latency_ms=st.floats(0, 1e12),
    recipe=TEXT,
    recipe_hash=HASH,
    model_hash=HASH,
    engine_id=TEXT,
    blobs=st.lists(BLOBS, max_size=3).map(tuple),
    findings=st.lists(FINDINGS, max_size=3).map(tuple),
    shadow=st.booleans(),
    stages_ms=st.dictionaries(TEXT, NUMBER, max_size=3),
    v=st.just(1),
)


@settings(max_examples=150, deadline=None)
@given(VERDICTS)
def test_json_and_record_round_trip(verdict: Verdict) -> None:
    assert read_verdict_json(verdict_json(verdict)) == verdict
    assert read_verdict_json(verdict_json(verdict)) == verdict


@settings(max_examples=150, deadline=None)
@given(VERDICTS)
def test_the_binary_form_agrees_with_the_verdict(verdict: Verdict) -> None:
    read = read_verdict_bin(verdict_bin(verdict))
    assert (read.epoch, read.seq, read.trigger_time_us) == (verdict.epoch, verdict.seq, verdict.trigger_time_us)
    assert (read.outcome, read.part_id, read.blob_count) == (verdict.outcome, verdict.part_id, len(verdict.blobs))
    assert read.is_pass == (verdict.outcome == "PASS")
    assert read.is_ng == (verdict.outcome == "NG")
    assert read.recipe_hash == bytes.fromhex(verdict.recipe_hash)[:8].ljust(8, b"\0")


@settings(max_examples=150, deadline=None)
@given(VERDICTS, st.data())
def test_damage_never_turns_into_another_verdict(verdict: Verdict, data: st.DataObject) -> None:
    message = bytearray(verdict_bin(verdict))
    at = data.draw(st.integers(0, len(message) - 1))
    message[at] ^= data.draw(st.integers(1, 255))
    try:
        read = read_verdict_bin(bytes(message))
    except DeliveryError:
        return
    raise AssertionError(f"byte {at} was damaged, and it was read as {read}")


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200) | st.binary(max_size=200).map(lambda rest: b"EAVD" + rest))
def test_no_bytes_break_a_reader(body: bytes) -> None:
    for read in (read_verdict_bin, read_verdict_json):
        try:
            read(body)
        except DeliveryError:
            pass


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(), max_size=90))
def test_every_part_id_fits_every_message_in_the_same_way(part_id: str) -> None:
    fitted = fit_part_id(part_id)
    assert len(fitted.encode()) <= 64
    assert "\0" not in fitted
    assert fit_part_id(fitted) == fitted
    assert msgspec.json.decode(msgspec.json.encode(fitted)) == fitted
