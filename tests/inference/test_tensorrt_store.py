"""Engine files: what was written comes back; what is foreign, cut off or damaged anywhere never does."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.inference.tensorrt.store import EngineKey, Manifest, Refused, read_engine, write_engine

KEY = EngineKey(
    library="tensorrt",
    version="10.3.0",
    network_hash="b" * 64,
    gpu="Tesla T4",
    capability="7.5",
    driver="13000/580.65",
    options={"workspace_mb": 1024, "optimization": 3},
)
PLAN = bytes(range(256)) * 4


def written(folder: Path) -> Path:
    file = folder / "engines" / f"part-{KEY.digest}.engine"
    manifest = Manifest(key=KEY, sha256=hashlib.sha256(PLAN).hexdigest(), bytes=len(PLAN), built="now", parity="0")
    write_engine(file, manifest, PLAN)
    return file


def test_an_engine_comes_back_as_it_was(tmp_path: Path) -> None:
    file = written(tmp_path)
    manifest, plan = read_engine(file, KEY) or (None, b"")
    assert plan == PLAN
    assert manifest is not None
    assert manifest.key == KEY
    assert [each.name for each in file.parent.iterdir()] == [file.name]


def test_none_is_none(tmp_path: Path) -> None:
    assert read_engine(tmp_path / "none", KEY) is None


@pytest.mark.parametrize("name", [*EngineKey.__struct_fields__])
def test_one_for_anything_else_is_refused_and_named_otherwise(tmp_path: Path, name: str) -> None:
    other = msgspec.structs.replace(KEY, **{name: {"workspace_mb": 1} if name == "options" else "other"})
    with pytest.raises(Refused, match=f"another {name}"):
        read_engine(written(tmp_path), other)
    assert other.digest != KEY.digest


@settings(max_examples=60, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_any_bit_that_turned_is_noticed(tmp_path_factory: pytest.TempPathFactory, place: float, bit: int) -> None:
    file = written(tmp_path_factory.mktemp("engine"))
    data = bytearray(file.read_bytes())
    plan_at = len(data) - len(PLAN)
    data[plan_at + int(place * len(PLAN))] ^= 1 << bit
    file.write_bytes(data)
    with pytest.raises(Refused):
        read_engine(file, KEY)


@settings(max_examples=60, deadline=None)
@given(share=st.floats(0, 1, exclude_max=True))
def test_one_cut_off_anywhere_is_refused(tmp_path_factory: pytest.TempPathFactory, share: float) -> None:
    file = written(tmp_path_factory.mktemp("engine"))
    data = file.read_bytes()
    file.write_bytes(data[: int(share * len(data))])
    with pytest.raises(Refused):
        read_engine(file, KEY)


def test_what_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    file = written(tmp_path)
    before = file.read_bytes()
    with pytest.raises(FileExistsError):
        write_engine(file / "beneath", Manifest(key=KEY, sha256="", bytes=0, built="", parity=""), b"")
    assert file.read_bytes() == before


def test_another_plan_for_the_same_is_another_engine() -> None:
    names = {KEY.name_of(hashlib.sha256(plan).hexdigest()) for plan in (PLAN, PLAN + b"?")}
    assert len(names) == 2
    assert msgspec.structs.replace(KEY, driver="13000/581").name_of("a" * 64) != KEY.name_of("a" * 64)


def test_an_engine_may_be_read_by_others(tmp_path: Path) -> None:
    assert written(tmp_path).stat().st_mode & 0o777 == 0o644


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_what_root_makes_belongs_to_the_folders_owner(tmp_path: Path) -> None:
    os.chown(tmp_path, 1234, 1235)
    file = written(tmp_path)
    for each in (file, file.parent):
        assert (each.stat().st_uid, each.stat().st_gid) == (1234, 1235)
