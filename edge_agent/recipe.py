"""What a good part is: strict, validated whole, hashed.

A recipe changes with the part; settings change with the machine. Lengths are in frame pixels, or in millimetres where
`mm_per_px` is given. The hash is over the meaning (canonical JSON of the validated recipe), so a comment or another
order of keys does not change it.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from edge_agent import strictyaml
from edge_agent.errors import Problem
from edge_agent.records import NAME_PATTERN

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Positive = Annotated[float, msgspec.Meta(gt=0)]
NotNegative = Annotated[float, msgspec.Meta(ge=0)]
Whole = Annotated[int, msgspec.Meta(ge=0)]
Gray = Annotated[float, msgspec.Meta(ge=0, le=255)]
_NAME = "a name of letters, digits, dot, underscore and dash, at most 64, the first a letter or digit"
Name = Annotated[str, msgspec.Meta(pattern=NAME_PATTERN, description=_NAME)]
Coordinate = Annotated[float, msgspec.Meta(ge=0, le=32_768)]
Point = tuple[Coordinate, Coordinate]
Polygon = Annotated[tuple[Point, ...], msgspec.Meta(min_length=3)]


class Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The base of everything read from a file."""


class ModelReference(Strict, frozen=True, kw_only=True):
    """Which model judges the part. With `hash` (SHA-256 of the ONNX file) any other file is refused."""

    name: Name
    hash: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$", description="the SHA-256 of the file")] | None = None


class Region(Strict, frozen=True, kw_only=True):
    """A rectangle of the frame that is inspected; without sizes it reaches to the frame's edge.

    `prepare`: `resize` scales it to the network's size, `tile` covers it at its own scale with overlapping network-sized
    tiles, `native` demands that it already has the network's size.
    """

    name: Name = "whole"
    x: Whole = 0
    y: Whole = 0
    width: Annotated[int, msgspec.Meta(ge=1)] | None = None
    height: Annotated[int, msgspec.Meta(ge=1)] | None = None
    prepare: Literal["resize", "tile", "native"] = "resize"
    overlap_px: Whole = 32


class ClassLimits(Strict, frozen=True, kw_only=True):
    """When a pixel of one defect class counts. With `hysteresis`, pixels above it join a blob whose peak passes `threshold`."""

    threshold: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.5
    hysteresis: Annotated[float, msgspec.Meta(gt=0, lt=1)] | None = None
    min_area_px: NotNegative = 0
    min_area_mm2: NotNegative | None = None


class BlobCount(Strict, frozen=True, kw_only=True, tag_field="rule", tag="blob_count"):
    """At most `max` blobs."""

    max: Whole
    class_name: str | None = msgspec.field(default=None, name="class")


class BlobArea(Strict, frozen=True, kw_only=True, tag_field="rule", tag="blob_area"):
    """No blob larger than the limit; with a minimum, smaller ones do not count in this rule."""

    max_px: NotNegative | None = None
    max_mm2: NotNegative | None = None
    min_px: NotNegative = 0
    min_mm2: NotNegative = 0
    class_name: str | None = msgspec.field(default=None, name="class")


class TotalArea(Strict, frozen=True, kw_only=True, tag_field="rule", tag="total_area"):
    """The area of all blobs together."""

    max_px: NotNegative | None = None
    max_mm2: NotNegative | None = None
    class_name: str | None = msgspec.field(default=None, name="class")


class AreaRatio(Strict, frozen=True, kw_only=True, tag_field="rule", tag="area_ratio"):
    """The area of all blobs over the area inspected: the defect pattern ratio."""

    max: Share
    class_name: str | None = msgspec.field(default=None, name="class")


class PeakScore(Strict, frozen=True, kw_only=True, tag_field="rule", tag="peak_score"):
    """The highest probability anywhere inspected, blob or not."""

    max: Share
    class_name: str | None = msgspec.field(default=None, name="class")


class MeanScore(Strict, frozen=True, kw_only=True, tag_field="rule", tag="mean_score"):
    """The highest mean probability of a blob."""

    max: Share
    class_name: str | None = msgspec.field(default=None, name="class")


class Zone(Strict, frozen=True, kw_only=True, tag_field="rule", tag="zone"):
    """A polygon in frame pixels with limits of its own: a blob with any pixel inside counts there."""

    name: Name
    polygon: Polygon
    max_count: Whole | None = None
    max_area_px: NotNegative | None = None
    max_area_mm2: NotNegative | None = None
    class_name: str | None = msgspec.field(default=None, name="class")


Rule = BlobCount | BlobArea | TotalArea | AreaRatio | PeakScore | MeanScore | Zone


class Exclusion(Strict, frozen=True, kw_only=True):
    """A polygon in frame pixels in which nothing counts as a defect."""

    name: Name
    polygon: Polygon


class Presence(Strict, frozen=True, kw_only=True):
    """A part is there when at least `min_share` of the inspected pixels are brighter than `gray_above`."""

    gray_above: Gray
    min_share: Share


class Quality(Strict, frozen=True, kw_only=True):
    """When a picture is fit to judge: its light on a subsampled grid, its focus in its middle. By itself it refuses what no recipe
    can want: a picture that is black or white all over, and the same picture twice of a live source. `min_mean_gray` 0 and
    `max_saturated_share` 1 refuse nothing."""

    min_mean_gray: Gray = 2
    saturated_above: Gray = 250
    max_saturated_share: Share = 0.999
    min_focus: NotNegative | None = None  # variance of the Laplacian, gray levels squared
    frozen: bool = True


class EvidencePlan(Strict, frozen=True, kw_only=True):
    """Which pictures go to the datacenter. Records always go."""

    margin_px: Whole = 16
    max_crops: Annotated[int, msgspec.Meta(ge=0, le=64)] = 8
    max_crop_px: Annotated[int, msgspec.Meta(ge=16, le=4096)] = 256
    # whole_frame and probability_map: `ng` is everything that did not pass, and the sampled PASS
    whole_frame: Literal["never", "ng", "always"] = "never"
    probability_map: Literal["never", "ng", "always"] = "never"
    pass_share: Share = 0.01  # of PASS parts, evenly spaced: their whole frame goes, and the map where NG's does


class Golden(Strict, frozen=True, kw_only=True):
    """Pictures that are known: before the station is ready each of `good` must pass and each of `bad` come out NG. Relative to the
    recipe's file."""

    good: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=16)]
    bad: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=16)]


class Recipe(Strict, frozen=True, kw_only=True):
    """One part's recipe. Zones, areas and regions are in frame pixels."""

    name: Name
    model: ModelReference
    deadline_ms: Annotated[float, msgspec.Meta(ge=1, le=60_000)] = 500
    mm_per_px: Positive | None = None
    regions: Annotated[tuple[Region, ...], msgspec.Meta(min_length=1, max_length=16)] = (Region(),)
    classes: dict[str, ClassLimits] = {}
    rules: Annotated[tuple[Rule, ...], msgspec.Meta(min_length=1)]
    exclusions: tuple[Exclusion, ...] = ()
    presence: Presence | None = None
    quality: Quality = Quality()
    evidence: EvidencePlan = EvidencePlan()
    alarm_after_ng: Whole = 0  # this many NG in a row raise an alarm; 0 is never
    golden: Golden | None = None

    @property
    def hash(self) -> str:
        """SHA-256 over the canonical JSON of the recipe, 64 hexadecimal digits; golden pictures prove it and are no part of it."""
        meaning = msgspec.to_builtins(self)
        del meaning["golden"]
        return hashlib.sha256(msgspec.json.encode(meaning, order="sorted")).hexdigest()


def load_recipe(file: Path) -> Recipe:
    """Read a recipe. Raises ConfigurationError with every problem and its line."""
    document = strictyaml.read(file)
    return strictyaml.convert(document, Recipe, _contradictions)


def _contradictions(recipe: Recipe, document: strictyaml.Document) -> list[Problem]:
    """What each value allows but the whole does not."""
    return [
        *_class_contradictions(recipe, document),
        *_rule_contradictions(recipe, document),
        *_flat_polygons(recipe, document),
        *_twice(document, "regions", [(i, region.name) for i, region in enumerate(recipe.regions)]),
        *_twice(document, "rules", [(i, rule.name) for i, rule in enumerate(recipe.rules) if isinstance(rule, Zone)]),
    ]


def _class_contradictions(recipe: Recipe, document: strictyaml.Document) -> list[Problem]:
    problems = []
    for name, limits in recipe.classes.items():
        keys = ("classes", name)
        if limits.hysteresis is not None and limits.hysteresis >= limits.threshold:
            message = f"is {limits.hysteresis}, not below the threshold {limits.threshold}."
            problems.append(document.problem((*keys, "hysteresis"), message, "lower it, or leave it out."))
        if limits.min_area_mm2 is not None and recipe.mm_per_px is None:
            problems.append(document.problem((*keys, "min_area_mm2"), "needs mm_per_px.", "give mm_per_px."))
    return problems


def _rule_contradictions(recipe: Recipe, document: strictyaml.Document) -> list[Problem]:
    problems = []
    for index, rule in enumerate(recipe.rules):
        keys = ("rules", index)
        given = [k for k in ("max_px", "max_mm2", "max_count", "max_area_px", "max_area_mm2") if getattr(rule, k, None) is not None]
        if isinstance(rule, (BlobArea, TotalArea)) and len(given) != 1:
            message = f"gives {' and '.join(given) or 'no limit'}."
            problems.append(document.problem(keys, message, "give exactly one of max_px and max_mm2."))
        if isinstance(rule, Zone) and not given:
            remedy = "give max_count, max_area_px or max_area_mm2."
            problems.append(document.problem(keys, f"zone {rule.name} has no limit.", remedy))
        in_mm2 = any(key.endswith("mm2") for key in given) or (isinstance(rule, BlobArea) and rule.min_mm2 > 0)
        if in_mm2 and recipe.mm_per_px is None:
            problems.append(document.problem(keys, "a limit in mm2 needs mm_per_px.", "give mm_per_px, or the limit in px."))
    return problems


def _flat_polygons(recipe: Recipe, document: strictyaml.Document) -> list[Problem]:
    """A zone or exclusion whose points lie on one line was meant to be another."""
    zones = [(("rules", i, "polygon"), rule.polygon) for i, rule in enumerate(recipe.rules) if isinstance(rule, Zone)]
    exclusions = [(("exclusions", i, "polygon"), each.polygon) for i, each in enumerate(recipe.exclusions)]
    message, remedy = "has its points on one line, and no area.", "give at least three points that enclose what is meant."
    return [document.problem(keys, message, remedy) for keys, polygon in (*zones, *exclusions) if _is_flat(polygon)]


def _is_flat(polygon: tuple[Point, ...]) -> bool:
    (x, y), *rest = polygon
    sides = [(px - x, py - y) for px, py in rest]
    along_x, along_y = max(sides, key=lambda side: abs(side[0]) + abs(side[1]))
    return all(along_x * dy == along_y * dx for dx, dy in sides)


def _twice(document: strictyaml.Document, key: str, names: list[tuple[int, str]]) -> list[Problem]:
    """Regions and zones are told apart by their names: of two with the same name one would not be looked at."""
    return [
        document.problem((key, i), f"the name {name!r} is used twice.", "give each its own name.")
        for n, (i, name) in enumerate(names)
        if name in [earlier for _, earlier in names[:n]]
    ]
