"""A recipe's hash is its meaning; what contradicts itself is refused whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.errors import ConfigurationError, Problem
from edge_agent.recipe import Recipe, load_recipe

GOOD = """\
name: cap
model: {name: m}
deadline_ms: 200
mm_per_px: 0.1
classes:
  scratch: {threshold: 0.6, hysteresis: 0.3}
  dent: {min_area_mm2: 0.2}
rules:
  - {rule: blob_count, max: 0, class: dent}
  - {rule: blob_area, max_mm2: 1}
"""
REORDERED = """\
# the same, told in another order
rules:
  - {max: 0, rule: blob_count, class: dent}   # none at all
  - {max_mm2: 1.0, rule: blob_area}
classes:
  dent: {min_area_mm2: 0.2, threshold: 0.5}
  scratch: {hysteresis: 0.3, threshold: 0.6}
mm_per_px: 0.1
deadline_ms: 200.0
regions: [{name: whole}]
model: {name: m}
name: cap
"""


def load(folder: Path, text: str) -> Recipe:
    file = folder / "recipe.yaml"
    file.write_text(text)
    return load_recipe(file)


def problems_of(folder: Path, text: str) -> list[Problem]:
    with pytest.raises(ConfigurationError) as caught:
        load(folder, text)
    return caught.value.problems


def test_order_comments_defaults_and_whole_numbers_do_not_change_the_hash(tmp_path: Path) -> None:
    assert load(tmp_path, GOOD).hash == load(tmp_path, REORDERED).hash


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("max: 0", "max: 1"),
        ("0.6", "0.61"),
        ("name: cap", "name: lid"),
        ("class: dent", "class: scratch"),
        ("{name: m}", "{name: n}"),
        (
            "  - {rule: blob_count, max: 0, class: dent}\n  - {rule: blob_area, max_mm2: 1}\n",
            "  - {rule: blob_area, max_mm2: 1}\n  - {rule: blob_count, max: 0, class: dent}\n",
        ),
    ],
)
def test_every_change_of_meaning_changes_the_hash(tmp_path: Path, old: str, new: str) -> None:
    assert old in GOOD
    assert load(tmp_path, GOOD).hash != load(tmp_path, GOOD.replace(old, new)).hash


def test_the_hash_is_sha256_in_hexadecimal(tmp_path: Path) -> None:
    assert len(bytes.fromhex(load(tmp_path, GOOD).hash)) == 32


@pytest.mark.parametrize(
    ("old", "new", "line", "key"),
    [
        ("hysteresis: 0.3", "hysteresis: 0.6", 6, "classes.scratch.hysteresis"),
        ("max_mm2: 1", "max_mm2: 1, max_px: 9", 10, "rules.1"),
        ("blob_area, max_mm2: 1", "total_area", 10, "rules.1"),
        ("blob_area, max_mm2: 1", "zone, name: z, polygon: [[0, 0], [9, 0], [9, 9]]", 10, "rules.1"),
        ("{name: m}\n", "{name: m}\nregions: [{name: a}, {name: a}]\n", 3, "regions.1"),
    ],
)
def test_a_contradiction_is_refused_on_its_line(tmp_path: Path, old: str, new: str, line: int, key: str) -> None:
    (problem,) = problems_of(tmp_path, GOOD.replace(old, new))
    assert (problem.line, problem.key) == (line, key)
    assert problem.remedy


def test_a_problem_of_form_moves_no_other_to_another_line(tmp_path: Path) -> None:
    """The rule with a misspelt kind is set aside; the contradiction in the next keeps its own line and number."""
    text = GOOD.replace("rule: blob_count", "rule: blob_cuont").replace("max_mm2: 1", "max_mm2: 1, max_px: 9")
    assert [(p.line, p.key) for p in problems_of(tmp_path, text)] == [(9, "rules.0.rule"), (10, "rules.1")]


def test_a_least_area_in_mm2_needs_the_scale(tmp_path: Path) -> None:
    text = GOOD.replace("mm_per_px: 0.1\n", "").replace("  dent: {min_area_mm2: 0.2}\n", "  dent: {}\n")
    (problem,) = problems_of(tmp_path, text.replace("max_mm2: 1", "max_px: 9, min_mm2: 2"))
    assert (problem.key, problem.remedy) == ("rules.1", "give mm_per_px, or the limit in px.")


def test_a_rule_may_name_a_class_that_has_the_defaults(tmp_path: Path) -> None:
    """Whether there is such a class only the model knows."""
    file = tmp_path / "cap.yaml"
    file.write_text(GOOD.replace("  dent: {min_area_mm2: 0.2}\n", ""))
    assert [rule.class_name for rule in load_recipe(file).rules] == ["dent", None]


def test_two_zones_with_one_name_are_refused(tmp_path: Path) -> None:
    """Zones are measured by name: of two with the same one, the first would never be looked at."""
    zone = "  - {rule: zone, name: seal, polygon: [[0, 0], [9, 0], [9, 9]], max_count: 0}\n"
    (problem,) = problems_of(tmp_path, GOOD + zone + zone)
    assert (problem.line, problem.key) == (12, "rules.3")


def test_square_millimetres_without_a_scale_are_refused_everywhere(tmp_path: Path) -> None:
    keys = {problem.key for problem in problems_of(tmp_path, GOOD.replace("mm_per_px: 0.1\n", ""))}
    assert keys == {"classes.dent.min_area_mm2", "rules.1"}


@pytest.mark.parametrize(
    "line",
    [
        "rules: []",
        "deadline_ms: 0",
        "mm_per_px: 0",
        "presence: {gray_above: 256, min_share: 0.5}",
        "evidence: {max_crops: 65}",
        "quality: {max_saturated_share: 1.1}",
        "exclusions: [{name: x, polygon: [[0, 0], [1, 1]]}]",
        "exclusions: [{name: x, polygon: [[0, 0], [1, 1], [-1, 0]]}]",
        "exclusions: [{name: x, polygon: [[1, 1], [2, 2], [3, 3]]}]",
        "rules: [{rule: zone, name: x, polygon: [[0.1, 5], [0.1, 5], [0.7, 5], [9, 5]], max_count: 0}]",
        "model: {name: m, hash: abc}",
        "name: ../../etc",
        "alarm_after_ng: 1.5",
    ],
)
def test_a_value_out_of_range_is_refused(tmp_path: Path, line: str) -> None:
    key = line.split(":")[0]
    lines = {"name": "name: cap", "model": "model: {name: m}", "rules": "rules: [{rule: blob_count, max: 0}]"}
    lines[key] = line
    assert all(problem.key.startswith(key) for problem in problems_of(tmp_path, "\n".join(lines.values())))


def test_what_crosses_itself_has_an_area(tmp_path: Path) -> None:
    bow = GOOD + "exclusions: [{name: x, polygon: [[0, 0], [9, 9], [9, 0], [0, 9]]}]\n"
    assert load(tmp_path, bow).exclusions[0].name == "x"


def test_the_keys_that_are_needed_are_named(tmp_path: Path) -> None:
    (problem,) = problems_of(tmp_path, "name: cap\nmodel: cap\nrules: [{rule: blob_count, max: 0}]\n")
    assert (problem.key, problem.remedy) == ("model", "give keys with values, at least `name:`.")


def test_a_recipe_cannot_be_changed(tmp_path: Path) -> None:
    recipe = load(tmp_path, GOOD)
    with pytest.raises(AttributeError):
        recipe.deadline_ms = 1  # type: ignore[misc]
