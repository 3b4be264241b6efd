"""Every problem of a file in one run, each on its own line, and none that is only a consequence of another."""

from __future__ import annotations

from pathlib import Path

import pytest
from stations import an_ordinary_user

from edge_agent import strictyaml
from edge_agent.errors import ConfigurationError, Problem
from edge_agent.recipe import Recipe
from edge_agent.settings import StationSettings

STATION = """\
station: hall3
cameras:
  - {name: a, kind: synthetic}
  - {name: b, kind: folder, path: images}
lines:
  - {name: one, camera: a, recipe: r}
"""


def problems_of(text: str, kind: type = StationSettings) -> list[Problem]:
    with pytest.raises(ConfigurationError) as caught:
        strictyaml.convert(strictyaml.parse(text, "file.yaml"), kind)
    return caught.value.problems


def where(text: str, kind: type = StationSettings) -> list[tuple[int, str]]:
    return [(problem.line, problem.key) for problem in problems_of(text, kind)]


def test_a_good_file_becomes_the_struct() -> None:
    settings = strictyaml.convert(strictyaml.parse(STATION, "f"), StationSettings)
    assert [camera.name for camera in settings.cameras] == ["a", "b"]


def test_a_key_that_stands_twice_is_refused_with_both_lines() -> None:
    (problem,) = problems_of(STATION + "drain_s: 1\ndrain_s: 2\n")
    assert (problem.line, problem.key) == (8, "drain_s")
    assert "first on line 7" in problem.message


def test_a_key_that_stands_twice_deep_inside_is_refused() -> None:
    text = STATION.replace("path: images", "path: images, path: others")
    assert where(text) == [(4, "cameras.1.path")]


def test_an_unknown_key_gets_a_spelling_hint() -> None:
    (problem,) = problems_of(STATION.replace("recipe: r", "recipe: r, framse: 4"))
    assert (problem.line, problem.key) == (6, "lines.0.framse")
    assert "`frames`" in problem.remedy


def test_an_unknown_key_like_no_other_gets_a_place_to_look() -> None:
    (problem,) = problems_of(STATION + "zzzzzzzz: 1\n")
    assert "one of station, state," in problem.remedy


def test_a_key_of_another_kind_names_those_of_this_one() -> None:
    (problem,) = problems_of(STATION.replace("kind: folder", "kind: folder, rows: 5"))
    assert "one of name, path, rate_hz" in problem.remedy


@pytest.mark.parametrize(
    ("old", "new", "remedy"),
    [
        ("kind: folder", "kind: usb", "synthetic, folder"),
        ("kind: folder", "kind: folder, rate_hz: -1", "a number from 0 up to 100000"),
        ("kind: folder", "kind: folder, trigger: hand", "one of free_run, software"),
        ("kind: folder", "kind: folder, repeat: 3", "true or false"),
        ("recipe: r", "recipe: 'no name'", "letters, digits"),
        ("recipe: r", "recipe: r, frames: many", "a whole number from 2 up to 256"),
    ],
)
def test_a_remedy_says_what_may_stand_there(old: str, new: str, remedy: str) -> None:
    assert remedy in problems_of(STATION.replace(old, new))[0].remedy


@pytest.mark.parametrize("value", [".nan", ".inf", "-.inf"])
def test_what_is_not_a_number_is_refused_once(value: str) -> None:
    assert where(STATION + f"drain_s: {value}\n") == [(7, "drain_s")]


def test_several_problems_come_in_one_run_on_their_own_lines() -> None:
    text = """\
station: 5
cameras:
  - {name: a, kind: synthetic, rowz: 5}
  - {name: 7, kind: folder, path: x}
  - {kind: synthetic, name: c, rate_hz: -1}
lines:
  - {name: one, camera: a, recipe: r, frames: 1}
plc:
  heartbeat_ms: 50
  heartbeat_ms: 60
  send_queue: .nan
"""
    assert sorted(where(text)) == [
        (1, "station"),
        (3, "cameras.0.rowz"),
        (4, "cameras.1.name"),
        (5, "cameras.2.rate_hz"),
        (7, "lines.0.frames"),
        (10, "plc.heartbeat_ms"),
        (11, "plc.send_queue"),
    ]


def test_an_entry_of_a_wrong_kind_does_not_shift_the_lines_of_the_others() -> None:
    text = STATION.replace("  - {name: a, kind: synthetic}\n", "  - 5\n").replace("kind: folder", "kind: bogus")
    assert where(text) == [(3, "cameras.0"), (4, "cameras.1.kind")]


def test_two_missing_keys_in_two_places_are_both_told() -> None:
    text = STATION.replace("name: a, ", "").replace("station: hall3", "drain_s: 3")
    found = problems_of(text)
    assert [(p.line, p.key) for p in found] == [(3, "cameras.0"), (1, "")]
    assert "`name`" in found[0].message
    assert "`station`" in found[1].message


def test_of_several_classes_the_wrong_one_is_named() -> None:
    text = "name: r\nmodel: {name: m}\nrules: [{rule: blob_count, max: 0}]\nclasses:\n  a: {threshold: 0.5}\n  b: {threshold: 2}\n"
    (problem,) = problems_of(text, Recipe)
    assert (problem.line, problem.key) == (6, "classes.b.threshold")
    assert "is 2" in problem.message


def test_two_wrong_classes_are_both_named() -> None:
    text = "name: r\nmodel: {name: m}\nrules: [{rule: blob_count, max: 0}]\nclasses:\n  a: {threshold: 3}\n  b: {threshold: 3}\n"
    assert where(text, Recipe) == [(5, "classes.a.threshold"), (6, "classes.b.threshold")]


@pytest.mark.parametrize("scalar", ["=", "2020-99-99", "!!int zz", "!!python/object:os.system x"])
def test_a_scalar_that_yaml_cannot_make_is_a_problem_and_no_crash(scalar: str) -> None:
    assert where(STATION.replace("hall3", scalar)) == [(1, "station")]


def test_an_alias_that_holds_itself_is_refused() -> None:
    assert "nested" in problems_of("station: &x [*x, *x]\n")[0].message


def test_a_key_that_is_a_list_is_refused() -> None:
    assert "no plain text" in problems_of(STATION + "? [a, b]\n: c\n")[0].message


@pytest.mark.parametrize("text", ["a: [1, 2", "a: b: c", "\tx: 1", "a: 1\n---\nb: 2\n"])
def test_what_is_no_yaml_is_a_configuration_error(text: str) -> None:
    with pytest.raises(ConfigurationError, match="not YAML"):
        strictyaml.parse(text, "f")


def test_an_empty_file_lacks_its_required_keys() -> None:
    assert "`station`" in problems_of("")[0].message


def test_a_file_that_is_a_list_is_refused() -> None:
    (problem,) = problems_of("- 1\n- 2\n")
    assert problem.message.startswith("is a list of 2,")
    assert problem.remedy.startswith("give keys with values, at least `station:`")


def test_a_missing_file_and_one_in_another_encoding_are_configuration_errors(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="does not exist"):
        strictyaml.read(tmp_path / "none.yaml")
    latin = tmp_path / "latin.yaml"
    latin.write_bytes(b"station: \xfcber\n")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        strictyaml.read(latin)


def test_a_missing_file_is_told_with_what_is_there_instead(tmp_path: Path) -> None:
    assert refused(tmp_path / "cup.yaml").remedy == "put it there, or mend the path."
    for name in ("lid.yaml", "cap.yaml", ".cup.yaml", "notes.txt"):
        (tmp_path / name).touch()
    remedy = f"{tmp_path} has no cup.yaml, but cap.yaml, lid.yaml: name one that is there, or put it there."
    assert refused(tmp_path / "cup.yaml").remedy == remedy
    (tmp_path / "models").mkdir()
    assert "has no model, but models: name" in refused(tmp_path / "model" / "cap" / "model.yaml").remedy
    assert refused(tmp_path / "elsewhere" / "cap" / "model.yaml").remedy == "put it there, or mend the path."
    for number in range(8):
        (tmp_path / f"part{number}.yaml").touch()
    assert (
        "part0.yaml, part1.yaml, part2.yaml, part3.yaml, part4.yaml, part5.yaml and 4 more:"
        in refused(tmp_path / "part.yaml").remedy
    )
    (tmp_path / "gone.yaml").symlink_to("nowhere")
    assert refused(tmp_path / "gone.yaml").remedy == "put it there, or mend the path."


def test_a_problem_says_file_line_key_and_remedy() -> None:
    text = str(problems_of(STATION + "drain_s: -1\n")[0])
    assert text.startswith("file.yaml:7: drain_s: ")
    assert "Remedy:" in text


def refused(file: Path) -> Problem:
    with pytest.raises(ConfigurationError) as raised:
        strictyaml.read(file)
    (problem,) = raised.value.problems
    return problem


def test_a_file_that_cannot_be_read_is_told_with_its_remedy(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"station: caf\xe9\n")
    assert "UTF-8" in refused(tmp_path / "latin.yaml").remedy
    assert "path of a file" in refused(tmp_path).remedy
    closed = tmp_path / "cap.yaml"
    closed.write_text(STATION)
    closed.chmod(0)
    with an_ordinary_user():
        problem = refused(closed)
    assert problem.message == "cannot be read: Permission denied."
    assert "chmod a+r" in problem.remedy


@pytest.mark.parametrize("text", ["cameras: [", "a: 'b", "a: 1\n  b: 2", "a:\n\t- b"])
def test_what_is_not_yaml_is_told_with_its_remedy(text: str) -> None:
    (problem,) = problems_of(text)
    assert problem.line
    assert "is not YAML" in problem.message and "bracket" in problem.remedy
