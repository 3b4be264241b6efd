"""What each class alone makes of a part: a recipe's verdict as the verdicts of its classes, where rules can be told apart so.

Where a part is NG as soon as one class makes it so, thresholds of several classes can be tried one class at a time, without
judging any part again for each of their combinations.
"""

from __future__ import annotations

import msgspec

from edge_agent.recipe import AreaRatio, BlobArea, BlobCount, MeanScore, PeakScore, Recipe, Rule, TotalArea, Zone


def rules_of_several(recipe: Recipe) -> list[str]:
    """The rules that classes can break only together, such as two blobs of whatever class; each by its name in recipes."""
    return [str(rule.__struct_config__.tag) for rule in recipe.rules if rule.class_name is None and not _is_apart(rule)]


def alone(recipe: Recipe, name: str) -> Recipe:
    """The recipe with the rules of one class only: those that name it, and those that name none, asked of it."""
    rules = [msgspec.structs.replace(rule, class_name=name) for rule in recipe.rules if rule.class_name in (None, name)]
    return msgspec.structs.replace(recipe, rules=tuple(rules))


def _is_apart(rule: Rule) -> bool:
    """Is a rule on all classes broken just where one class alone breaks it: a sum that must be 0, or a maximum."""
    match rule:
        case BlobCount() | AreaRatio():
            return rule.max == 0
        case TotalArea():
            return not (rule.max_px or rule.max_mm2)
        case Zone():
            return not (rule.max_count or rule.max_area_px or rule.max_area_mm2)
        case BlobArea() | PeakScore():
            return True
        case MeanScore():  # of a shattered map the peaks of all classes stand for blobs that are not described
            return False
