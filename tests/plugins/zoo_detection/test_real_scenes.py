"""The real scenes are what their packages' annotation files say."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import real_scenes
from real_scenes import (
    CLASSES,
    NUCLEUS_CUTS,
    OSBS,
    SIDE,
    SITES,
    SOAP,
    TREE_CUTS,
    YELL,
    YELL_WIDE,
    Scene,
    cut,
    eight_masked_scenes,
    eight_scenes,
    nuclei,
    quokka,
    shrunk,
    tree_crowns,
    tree_table,
)


@pytest.mark.parametrize(("site", "count"), [(OSBS, 61), (SOAP, 37), (YELL, 279), (YELL_WIDE, 574)])
def test_every_box_of_a_site_is_read_and_lies_in_its_photograph(site: str, count: int) -> None:
    scene = tree_crowns(site)
    height, width = scene.image.shape[:2]
    assert len(scene.boxes) == len(scene.labels) == count
    assert (scene.boxes >= 0).all()
    assert (scene.boxes[:, 2:] <= [width, height]).all()
    assert (scene.boxes[:, 2:] > scene.boxes[:, :2]).all()


@pytest.mark.parametrize(
    ("table", "site", "names"),
    [("OSBS_029.csv", OSBS, {"Tree": 61}), ("testfile_multi.csv", SOAP, {"Dead": 28, "Alive": 9})],
)
def test_the_boxes_are_those_of_the_packages_tables(table: str, site: str, names: dict[str, int]) -> None:
    rows = tree_table(table, site)
    assert {name: sum(label == name for _, label in rows) for name in names} == names
    one_based = tree_crowns(site).boxes + np.float32([1, 1, 0, 0])
    assert sorted(map(tuple, one_based.tolist())) == sorted(corners for corners, _ in rows)


def test_a_site_of_trees_touches_all_four_edges() -> None:
    """What shows that VOC's first pixel is one: boxes there reach from the first pixel to the last."""
    for site in (OSBS, SOAP):
        height, width = tree_crowns(site).image.shape[:2]
        assert tree_crowns(site).boxes.min() == 0
        assert tree_crowns(site).boxes[:, 2:].max() == max(height, width)


def test_the_nuclei_are_125_and_their_pixels_are_brighter() -> None:
    scene = nuclei()
    assert scene.image.shape == (512, 512, 3)
    assert scene.masks is not None
    assert scene.masks.shape == (125, 512, 512)
    assert scene.masks.sum(0).max() == 1  # no pixel is two nuclei's
    inside = scene.masks.any(0)
    assert scene.image[inside].mean() > 2 * scene.image[~inside].mean()


def test_the_quokka_has_its_points_on_it() -> None:
    scene = quokka()
    assert scene.image.shape == (643, 960, 3)
    assert scene.boxes.tolist() == [[148, 50, 550, 642]]
    assert scene.keypoints is not None
    assert scene.masks is not None
    assert scene.keypoints.shape == (1, 7, 3)
    on_it = scene.masks[0][tuple(scene.keypoints[0, :, 1::-1].astype(int).T)]
    assert on_it.all()
    rows, columns = np.nonzero(scene.masks[0])
    around = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert np.abs(scene.boxes[0] - around).max() <= 5  # the outline goes to x = 143, the box to 148


def test_a_cut_has_the_pixels_and_the_boxes_of_its_place() -> None:
    whole, (left, top) = tree_crowns(YELL), TREE_CUTS[YELL]
    scene = cut(whole, left, top)
    assert (scene.image == whole.image[top : top + SIDE, left : left + SIDE]).all()
    corner = np.float32([left, top, left, top])
    inner = ((scene.boxes > 0) & (scene.boxes < SIDE)).all(1)
    assert inner.sum() >= 3
    originals = {tuple(box) for box in whole.boxes.tolist()}
    assert {tuple(box) for box in (scene.boxes[inner] + corner).tolist()} <= originals


def test_a_cut_leaves_out_what_is_mostly_outside() -> None:
    scene = Scene(np.zeros((40, 40, 3), np.uint8), np.float32([[5, 5, 25, 15], [13, 5, 33, 15]]), np.array([0, 1]))
    assert cut(scene, 0, 0, 20).boxes.tolist() == [[5, 5, 20, 15]]  # three quarters inside, and a third
    assert cut(scene, 0, 0, 20).labels.tolist() == [0]
    assert cut(scene, 20, 20, 20).boxes.shape == (0, 4)


def test_shrinking_moves_everything_alike() -> None:
    whole, small = quokka(), shrunk(quokka(), 480)
    assert small.image.shape == (322, 480, 3)
    np.testing.assert_allclose(small.boxes, whole.boxes / 2, rtol=0.01)
    assert small.masks is not None
    assert small.keypoints is not None
    assert whole.masks is not None
    assert small.masks.sum() == pytest.approx(whole.masks.sum() / 4, rel=0.01)
    assert small.masks[0][tuple(small.keypoints[0, :, 1::-1].round().astype(int).T)].all()
    tiny = shrunk(quokka(), 10)  # 10 x 7: both edges of the photograph stay at the edge
    np.testing.assert_allclose(tiny.boxes, [[148 / 96, 50 * 7 / 643, 550 / 96, 642 * 7 / 643]], rtol=1e-6)


@pytest.mark.parametrize("scenes", [eight_scenes, eight_masked_scenes])
def test_eight_scenes_are_small_and_full(scenes: Callable[[], list[Scene]]) -> None:
    found = scenes()
    assert len(found) == 8
    for scene in found:
        height, width = scene.image.shape[:2]
        assert (scene.image.dtype, scene.boxes.dtype, scene.labels.dtype) == (np.uint8, np.float32, np.int64)
        assert max(height, width) == SIDE
        assert len(scene.boxes) == len(scene.labels) >= 1
        assert (scene.boxes >= 0).all()
        assert (scene.boxes[:, 2:] <= [width, height]).all()
        assert (scene.boxes[:, 2:] - scene.boxes[:, :2]).min() >= 6
        if scene.masks is not None:
            assert scene.masks.shape == (len(scene.boxes), height, width)


def test_the_eight_scenes_show_all_three_kinds() -> None:
    labels = np.concatenate([scene.labels for scene in eight_scenes()])
    assert np.bincount(labels).tolist() == [34, 24, 1]
    assert len(CLASSES) == 3
    assert len(SITES) + len(NUCLEUS_CUTS[:3]) + 1 == 8
    assert all(scene.masks is not None for scene in eight_masked_scenes())


def test_a_masks_box_is_tight() -> None:
    masks = np.zeros((2, 9, 12), bool)
    masks[0, 2:5, 3:11] = True
    assert real_scenes._boxes_around(masks).tolist() == [[3, 2, 11, 5], [0, 0, 0, 0]]


def test_what_is_not_installed_skips_and_says_so() -> None:
    with pytest.raises(pytest.skip.Exception, match="pip install --no-deps no-such-package"):
        real_scenes._file("no-such-package", "image.png")
    with pytest.raises(pytest.skip.Exception, match=r"imgaug .* has no imgaug/kangaroo\.jpg"):
        real_scenes._file("imgaug", "imgaug/kangaroo.jpg")
