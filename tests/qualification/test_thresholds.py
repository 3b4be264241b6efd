"""A recipe at other thresholds: how several classes move together, and what is written into the file."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from stations import ROOT

from edge_agent.qualification.thresholds import candidates, with_thresholds, written
from edge_agent.recipe import Recipe, load_recipe

HEAD = "name: part\nmodel: {name: m}\n"
RULES = "rules:\n  - {rule: blob_count, max: 0}   # none\n"
BLOCK = "classes:\n  a:   # scratches\n    threshold: 0.9   # high\n    min_area_px: 4\n"


def recipe_of(folder: Path, text: str) -> Recipe:
    file = folder / "part.yaml"
    file.write_text(text)
    return load_recipe(file)


@pytest.mark.parametrize(
    "classes",
    [
        BLOCK,
        "classes: {a: {threshold: 0.9, hysteresis: 0.2}, b: {threshold: .5}}\n",
        "classes:\n  b: {min_area_px: 3}\n",
        "classes: {}\n",
        "classes:\n  a:\n    min_area_px: 3\n  b: {}\n",
        "",
    ],
)
def test_only_the_thresholds_change_in_the_file(tmp_path: Path, classes: str) -> None:
    text = HEAD + classes + RULES
    recipe = recipe_of(tmp_path, text)
    changed = written(text, recipe, {"a": 0.6543, "b": 0.75})
    again = recipe_of(tmp_path, changed)
    assert again == with_thresholds(recipe, {"a": 0.6543, "b": 0.75})
    assert [comment for comment in text.split("#")[1:] if comment.splitlines()[0] not in changed] == []
    plain, before = yaml.safe_load(changed), yaml.safe_load(text)
    assert {key: value for key, value in plain.items() if key != "classes"} == {k: v for k, v in before.items() if k != "classes"}


def test_the_shipped_recipes_take_another_threshold() -> None:
    files = sorted((ROOT / "config" / "recipes").glob("*.yaml"))
    assert files
    for file in files:
        recipe, text = load_recipe(file), file.read_text()
        thresholds = dict.fromkeys(recipe.classes or {"defect": None}, 0.7654)
        before, after = text.splitlines(), written(text, recipe, thresholds).splitlines()
        assert len(before) == len(after)
        assert sum(old != new for old, new in zip(before, after, strict=True)) == len(thresholds)


def test_one_class_is_tried_at_every_hundredth_above_its_hysteresis(tmp_path: Path) -> None:
    tried = candidates(recipe_of(tmp_path, HEAD + RULES), ["a"])
    assert [each.thresholds["a"] for each in tried] == [each.threshold for each in tried] == [n / 100 for n in range(1, 100)]
    with_hysteresis = recipe_of(tmp_path, HEAD + "classes:\n  a: {threshold: 0.9, hysteresis: 0.5}\n" + RULES)
    assert min(each.threshold for each in candidates(with_hysteresis, ["a"])) == 0.51


def test_classes_keep_their_order_and_the_recipe_itself_is_among_the_family(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, HEAD + "classes:\n  a: {threshold: 0.8}\n  b: {threshold: 0.2}\n" + RULES)
    tried = candidates(recipe, ["a", "b"])
    assert all(each.thresholds["a"] > each.thresholds["b"] for each in tried)
    (middle,) = [each for each in tried if each.threshold == 0.5]
    assert middle.thresholds == {"a": 0.8, "b": 0.2}
    assert middle.recipe == recipe
