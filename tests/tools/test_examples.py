"""What the network is trained and judged on: the folds by group, the augmentation, the scores, the loss."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest

from edge_agent.dataset import Dataset, Labelled

Tool = Callable[[str], ModuleType]


def dataset() -> Dataset:
    """Sixty groups of four images; every third is cracked, and one of those is frayed too."""
    images = [
        Labelled(Path(f"{g}-{n}"), None, "free" if g % 3 else ("Fray" if g == 0 and n else "Crack"), str(g), f"{g}-{n}", not g % 3)
        for g in range(60)
        for n in range(4)
    ]
    return Dataset(Path("parts"), "index", tuple(images))


def test_a_group_is_in_one_fold_and_every_fold_has_every_common_kind(tool: Tool) -> None:
    fold_of = tool("examples").folds_of(dataset(), 4, 1)
    assert sorted(fold_of) == sorted(dataset().groups)
    assert sorted(Counter(fold_of.values()).values()) == [15, 15, 15, 15]
    cracked = Counter(fold_of[str(group)] for group in range(0, 60, 3))
    assert sorted(cracked.values()) == [5, 5, 5, 5]


def square_pair() -> Any:
    mask = np.zeros((48, 64), np.uint8)
    mask[2:5, 9:15] = 1
    return mask * 200, mask


@pytest.mark.parametrize("window", [0.0, 0.7])
def test_mask_is_cut_turned_and_stretched_with_its_frame(tool: Tool, window: float) -> None:
    how = tool("augment").Augmentation(32, 32, window=window, light=0.0, offset=0.0)
    rng = np.random.default_rng(0)
    for _ in range(20):
        frame, mask = tool("augment").turn(tool("augment").cut(square_pair(), rng, how), rng, how)
        assert frame.shape == mask.shape == (32, 32)
        assert mask.any()
        assert np.mean((frame > 100) != (mask == 1)) < 0.02


def test_where_the_surface_ends_is_seen_as_often_in_good_frames_as_in_ones_with_a_defect_anywhere(tool: Tool) -> None:
    frame, how = np.full((64, 64), 100, np.uint8), tool("augment").Augmentation(64, 64, window=0.8)
    frame[0] = 0
    rng, seen = np.random.default_rng(0), {False: 0, True: 0}
    for _ in range(500):
        mask = np.zeros(frame.shape, np.uint8)
        mask[tuple(rng.integers(frame.shape))] = 1
        for is_defective, labelled in ((False, np.zeros_like(mask)), (True, mask)):
            seen[is_defective] += int(tool("augment").cut((frame, labelled), rng, how)[0].min() == 0)
    assert seen[False] > 100
    assert abs(seen[False] - seen[True]) < 75


def test_grinding_marks_keep_their_direction_when_asked(tool: Tool) -> None:
    stripes = np.repeat(np.arange(32, dtype=np.uint8)[None] * 8, 32, axis=0)
    how = tool("augment").Augmentation(32, 32, keeps_grain=True)
    for seed in range(20):
        frame, _ = tool("augment").turn((stripes, stripes), np.random.default_rng(seed), how)
        assert (np.ptp(frame, axis=0) == 0).all()


def test_an_exposure_never_whitens_half_of_a_bright_frame(tool: Tool) -> None:
    bright = np.full((16, 16), 200, np.uint8)
    how = tool("augment").Augmentation(16, 16, light=0.5, offset=0.0)
    seen = [tool("augment").relight(bright, np.random.default_rng(seed), how).mean() for seed in range(50)]
    assert max(seen) < 250
    assert np.ptp(seen) > 40


def test_a_borrowed_defect_lies_under_its_mask_and_nowhere_else(tool: Tool) -> None:
    source, mask = np.full((64, 64), 200, np.uint8), np.zeros((64, 64), np.uint8)
    mask[30:38, 20:40] = 2
    source[mask > 0] = 100
    examples = tool("examples").Examples(((source, mask),), np.array(["pit"]), np.array([True]), ("1",))
    (borrowed,) = tool("augment").borrowable(examples, most_share=0.5)
    good = np.full((96, 96), 90, np.uint8)
    frame, label = tool("augment").paste((good, good * 0), borrowed, np.random.default_rng(0))
    assert set(np.unique(label)) == {0, 2}
    assert frame[label == 2].mean() < 70
    assert np.array_equal(frame[cv2.dilate(label, np.ones((21, 21))) == 0], good[cv2.dilate(label, np.ones((21, 21))) == 0])


def test_a_defect_at_the_edge_is_not_borrowed(tool: Tool) -> None:
    mask = np.zeros((64, 64), np.uint8)
    mask[:8, 20:40] = 1
    examples = tool("examples").Examples(((mask, mask),), np.array(["pit"]), np.array([True]), ("1",))
    assert tool("augment").borrowable(examples, most_share=0.5) == []


@pytest.mark.parametrize("kind", ["hole", "crack", "chip", "grinding"])
def test_a_drawn_flaw_shows_where_its_label_is(tool: Tool, kind: str) -> None:
    flaws = tool("flaws").flaws_of(f"Pit=hole,Other={kind}", ("Pit", "Other"))[1:]
    good = np.random.default_rng(0).normal(120, 5, (200, 260)).astype(np.uint8)
    drawn = 0
    for seed in range(12):
        frame, mask = tool("flaws").draw_flaw((good, good * 0), flaws, np.random.default_rng(seed))
        if mask.any():
            drawn += 1
            off = np.abs(frame.astype(int) - good)
            assert set(np.unique(mask)) == {0, 2}
            assert off[mask == 2].mean() > 4 * max(off[mask == 0].mean(), 0.1)
    assert drawn >= 6


def test_a_chip_takes_a_piece_of_its_edge_and_nobody_labels_the_rest(tool: Tool) -> None:
    good = np.random.default_rng(0).normal(120, 5, (200, 260)).astype(np.uint8)
    flaws = tool("flaws").flaws_of("Chip=chip", ("Chip",))
    for seed in range(40):
        _, mask = tool("flaws").draw_flaw((good, good * 0), flaws, np.random.default_rng(seed))
        assert max(edge.mean() for edge in (mask[0], mask[-1], mask[:, 0], mask[:, -1])) < 0.6, seed


@pytest.mark.parametrize("kind", ["hole", "crack", "chip", "grinding"])
@pytest.mark.parametrize("size", [(16, 16), (12, 40)])
def test_a_small_frame_is_no_hindrance(tool: Tool, kind: str, size: tuple[int, int]) -> None:
    frame = np.random.default_rng(0).normal(120, 5, size).astype(np.float32)
    for seed in range(40):
        drawn, shows = tool("flaws").DRAWN_BY[kind](frame, np.random.default_rng(seed))
        assert drawn.shape == shows.shape == size
        assert np.isfinite(drawn).all()


def test_what_nobody_could_see_is_no_flaw(tool: Tool) -> None:
    flaws, frame = tool("flaws"), np.full((100, 100), 120, np.float32)
    shows = np.zeros(frame.shape, bool)
    shows[20:40, 20:40] = True
    assert flaws.is_seen(frame, frame - 40 * shows, shows)
    assert not flaws.is_seen(frame, frame - 8 * shows, shows), "8 of 120 gray levels"
    assert flaws.is_seen(frame / 3, frame / 3 - 8 * shows, shows), "8 of 40"
    shows[:, 21:] = False
    assert not flaws.is_seen(frame, frame - 100 * shows, shows), "20 pixels"


def test_a_flaw_that_nobody_draws_is_refused_by_name(tool: Tool) -> None:
    with pytest.raises(SystemExit, match="--flaws Pit=hale: say CLASS=FLAW with one of Pit, Other and one of hole, crack"):
        tool("flaws").flaws_of("Pit=hale", ("Pit", "Other"))


def test_half_of_the_draws_are_good_and_a_rare_kind_is_drawn_more_often(tool: Tool) -> None:
    is_defective = np.arange(30) >= 20
    kinds = np.array(["Free"] * 20 + ["Crack"] * 9 + ["Fray"])
    chances = tool("examples").Examples((), kinds, is_defective, ()).chances()
    assert chances[:20].sum() == pytest.approx(0.5)
    assert chances[29] == pytest.approx(0.5 / 4)


def test_scores_count_slips_and_false_rejects(tool: Tool) -> None:
    peaks = np.array([0.95, 0.45, 0.65, 0.05])
    scores = tool("scores").score(peaks, np.array([True, True, False, False]), np.array(["pit", "dent", "good", "good"]))
    half = next(called for called in scores.at if called.threshold == 0.5)
    assert (half.tp, half.fn, half.fp, half.tn) == (1, 1, 1, 1)
    assert scores.errors == 2
    assert scores.auc == 0.75
    assert scores.gap == pytest.approx(0.45 - 0.65)
    assert [(kind.name, kind.called[4]) for kind in scores.kinds] == [("dent", 0), ("good", 1), ("pit", 1)]
    assert half.slip_groups == ()


def test_a_part_of_several_frames_counts_once(tool: Tool) -> None:
    peaks, truth = np.array([0.9, 0.1, 0.9, 0.9, 0.1]), np.array([True, True, True, False, False])
    scores = tool("scores").score(peaks, truth, np.array(["pit", "pit", "pit", "good", "good"]), ("a", "a", "b", "c", "c"))
    half = scores.at[4]
    assert (half.fn, half.slip_groups, half.fp, half.reject_groups) == (1, (1, 2), 1, (1, 1))
    both = tool("scores").pooled([scores.as_dict(), scores.as_dict()])
    assert (both["at"][4]["slip_groups"], both["kinds"][1]["groups"]) == ([2, 4], 4)


def test_a_cell_is_a_defects_from_a_quarter_of_its_pixels(tool: Tool) -> None:
    import torch

    masks = torch.zeros(1, 8, 8, dtype=torch.int64)
    masks[0, :2, :6] = 2
    masks[0, 2:5, 3] = 2
    assert tool("loss").to_cells(masks, 4).tolist() == [[[2, 2], [0, 0]]]
    assert tool("loss").to_cells(masks, 1) is masks


def test_a_defect_too_small_for_any_cell_keeps_the_one_it_covers_most(tool: Tool) -> None:
    import torch

    masks = torch.zeros(2, 16, 16, dtype=torch.int64)
    masks[0, 3, 2:5] = 1  # two pixels of one cell, one of the next
    masks[0, 12:, 12:] = 2
    masks[1, 9, 9] = 3
    cells = tool("loss").to_cells(masks, 4)
    assert [tuple(place) for place in cells[0].nonzero().tolist()] == [(0, 0), (3, 3)]
    assert cells[0, 0, 0] == 1
    assert cells[1].nonzero().tolist() == [[2, 2]]
    assert cells[1, 2, 2] == 3


def test_a_class_is_found_in_any_capitals_and_one_that_no_image_has_is_refused(tool: Tool) -> None:
    examples, shape = tool("examples"), tool("unet").Shape
    assert examples.class_of("Fray", shape(classes=("crack", "fray"))) == 2
    with pytest.raises(SystemExit, match="--classes craque: no image shows one; the data's are Crack, Fray"):
        examples.asked_for(dataset(), shape(classes=("craque", "fray")))


def test_one_class_taught_by_defects_of_other_names_says_so(tool: Tool, tmp_path: Path) -> None:
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        for name in ("a.png", "b.png"):
            cv2.imwrite(str(tmp_path / folder / name), np.full((8, 8), 255, np.uint8))
    (tmp_path / "index.csv").write_text("image,mask,class\na.png,a.png,Crack\nb.png,b.png,Fray\n")

    def words(name: str) -> str:
        shape = tool("unet").Shape(classes=(name,))
        return str(tool("examples").load_split(f"folder:{tmp_path}", 0, 0, 0, 0, 0, shape, 8, 8).words)

    assert "; every defect taught as Crak: Crack, Fray; WITHOUT a good part" in words("Crak")
    (tmp_path / "index.csv").write_text("image,mask,class\na.png,a.png,Crack\n")
    assert "taught" not in words("crack")
    cv2.imwrite(str(tmp_path / "images" / "a.png"), np.full((8, 8), 4000, np.uint16))
    assert "they are nearly black. Multiply them by 16; WITHOUT a good part" in words("crack")


def test_defects_of_kinds_that_are_no_class_are_left_out_and_never_taught_as_good(tool: Tool) -> None:
    examples, shape = tool("examples"), tool("unet").Shape
    asked = examples.asked_for(dataset(), shape(classes=("fray", "crack")))
    assert asked == dataset()
    kept = examples.asked_for(Dataset(Path("parts"), "index", renamed()), shape(classes=("crack", "fray")))
    assert {each.kind for each in kept.images} == {"Crack", "Fray", "free"}
    assert len(kept.images) == len(dataset().images) - 4


def renamed() -> tuple[Labelled, ...]:
    """The images of `dataset`, those of the last cracked group dented."""
    return tuple(replace(each, kind="Dent") if each.group == "57" else each for each in dataset().images)


def test_a_defective_frame_with_next_to_nothing_in_its_mask_is_not_learnt_from(tool: Tool) -> None:
    mask = np.eye(16, dtype=np.uint8)
    pairs = ((mask, mask), (mask, mask * 0), (mask, mask * 0), (mask, mask * (np.arange(16) < 3).astype(np.uint8)))
    truth, kinds = np.array([True, True, False, True]), np.array(["pit", "pit", "good", "pit"])
    learnt = tool("examples").Examples(pairs, kinds, truth, ("1", "2", "3", "4")).with_masks()
    assert (learnt.groups, learnt.is_defective.tolist(), learnt.kinds.tolist()) == (("1", "3"), [True, False], ["pit", "good"])


def test_a_class_that_nothing_shows_is_refused_unless_it_is_drawn(tool: Tool) -> None:
    mask = np.eye(16, dtype=np.uint8)
    examples = tool("examples").Examples(
        ((mask, mask), (mask, mask * 0)), np.array(["pit", "good"]), np.array([True, False]), ("1", "2")
    )
    for classes, drawn in ((("pit",), set()), (("pit", "dent"), {2})):
        tool("examples").require_every_class(examples, classes, drawn)
    with pytest.raises(SystemExit, match="--classes dent: no mask trained on shows it"):
        tool("examples").require_every_class(examples, ("pit", "dent"), set())


def test_what_is_held_out_must_show_good_parts_and_defective_ones(tool: Tool) -> None:
    with pytest.raises(SystemExit, match="the 1 frames held out are all"):
        tool("examples").load_split("generator:1", 4, 1, 0, 0, 0, tool("unet").Shape(), 64, 64)


def test_nothing_but_defective_parts_to_train_on_is_said(tool: Tool, tmp_path: Path) -> None:
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        cv2.imwrite(str(tmp_path / folder / "0.png"), np.full((32, 32), 200, np.uint8))
    (tmp_path / "index.csv").write_text("image,class,mask\n0.png,scratch,0.png\n")
    split = tool("examples").load_split(f"folder:{tmp_path}", 0, 0, 0, 0, 0, tool("unet").Shape(), 32, 32)
    assert "WITHOUT a good part to train on" in split.words


def test_more_folds_than_groups_are_refused_since_some_would_hold_out_nothing(tool: Tool, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    rows = ["image,class,group"]
    for number in range(6):
        cv2.imwrite(str(tmp_path / "images" / f"{number}.png"), np.full((8, 8), 90 + number, np.uint8))
        rows.append(f"{number}.png,ok,{number % 3}")
    (tmp_path / "index.csv").write_text("\n".join(rows))

    def split(folds: int) -> Any:
        return tool("examples").load_split(f"folder:{tmp_path}", 0, 0, folds, folds - 1, 0, tool("unet").Shape(), 8, 8)

    with pytest.raises(
        SystemExit, match=r"--folds 4: .* has 3 groups, so that some fold would hold out nothing\. Take fewer, or 0"
    ):
        split(4)
    with pytest.raises(SystemExit, match="the 2 frames held out are all good"):
        split(3)


@pytest.mark.parametrize("head", ["sigmoid", "softmax"])
def test_a_small_defect_missed_costs_as_much_beside_a_large_one_as_alone(tool: Tool, head: str) -> None:
    import torch

    cells = torch.zeros(2, 32, 32, dtype=torch.long)
    cells[0, :16], cells[1, 4:8, 4:8] = 1, 1  # half of a frame, and 16 cells
    right = torch.where(cells == 1, 9.0, -9.0)
    right[1] = -9.0  # but for the small one
    logits = right[:, None] if head == "sigmoid" else torch.stack([torch.zeros_like(right), right], 1)
    weights = tool("loss").Weights(entropy=1.0, dice=0.0, peak=0.0, defect=1.0)
    both, alone = (tool("loss").loss_of(logits[of:], cells[of:], head, weights).item() for of in (0, 1))
    assert both == pytest.approx(alone / 2, rel=0.01)


@pytest.mark.parametrize("head", ["sigmoid", "softmax"])
@pytest.mark.parametrize("only", ["entropy", "dice", "peak"])
def test_every_term_of_the_loss_falls_as_the_map_nears_the_mask(tool: Tool, only: str, head: str) -> None:
    import torch

    weights = tool("loss").Weights(**{name: float(name == only) for name in ("entropy", "dice", "peak")})
    masks = torch.zeros(2, 8, 8, dtype=torch.int64)
    masks[0, 2:4, 2:5] = 1
    sure = (masks[:, None].float() - 0.5) * 20
    logits = sure if head == "sigmoid" else torch.cat([-sure, sure], 1) / 2
    losses = [tool("loss").loss_of(logits * sign, masks, head, weights).item() for sign in (-1.0, 0.0, 1.0)]
    assert losses[0] > losses[1] > losses[2]
    assert losses[2] < 0.01


def test_folds_pool_their_counts_and_keep_the_worst_ends(tool: Tool) -> None:
    scores = tool("scores")
    peaks = np.array([0.95, 0.85, 0.65, 0.05]), np.array([0.75, 0.15])
    truths = np.array([True, True, False, False]), np.array([True, False])
    kinds = np.array(["pit", "dent", "good", "good"]), np.array(["pit", "good"])
    folds = [scores.score(*each).as_dict() for each in zip(peaks, truths, kinds, strict=True)]
    both = scores.pooled(folds)
    half = next(at for at in both["at"] if at["threshold"] == 0.5)
    assert (half["tp"], half["fp"], half["fn"], half["tn"]) == (3, 1, 0, 2)
    assert (both["frames"], both["highest_good"], both["lowest_bad"]) == (6, 0.65, 0.75)
    assert [(kind["name"], kind["frames"], kind["called"][7]) for kind in both["kinds"]] == [
        ("dent", 1, 1),
        ("good", 3, 0),
        ("pit", 2, 1),
    ]


def test_images_of_a_folder_are_known_by_their_content(tool: Tool, tmp_path: Path) -> None:
    files = []
    for name in ("a", "b"):
        files.append(tmp_path / f"{name}.png")
        cv2.imwrite(str(files[-1]), np.full((48, 64), ord(name), np.uint8))
    shape = tool("unet").Shape(4, 2, 4)
    images = [Labelled(file, None, "free", file.stem, file.stem, False) for file in files]
    examples = tool("examples").read_examples(images, shape)
    digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    assert [digest[: len(told)] for digest, told in zip(digests, examples.hashes, strict=True)] == list(examples.hashes)
    assert min(map(len, examples.hashes)) >= 12
    assert examples.with_masks().hashes == examples.hashes


def test_a_good_part_by_a_word_that_is_not_known_is_told_with_the_words_that_are(tool: Tool, tmp_path: Path) -> None:
    """A plant may write i.O. for it: to draw a mask would be wrong."""
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((8, 8), np.uint8))
    one = Labelled(tmp_path / "a.png", None, "i.O.", "a", "a.png", True)
    with pytest.raises(
        SystemExit, match=r"of the class i\.O\., .* the class of a good part is one of clean, free, good, normal, ok"
    ):
        tool("examples")._read(one, None)
