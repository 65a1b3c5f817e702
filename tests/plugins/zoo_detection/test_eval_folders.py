"""Folders of labelled images are read as they are: what is written comes back, what is meant is found."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from eval_folders import Picture, Thing, coco_content, voc_text, write_coco, write_images, write_voc, write_yolo
from hypothesis import given, settings, strategies as st

from zoo.errors import InputError
from zoo_detection.evaluation import DetectionData, read_data
from zoo_detection.evaluation.yolo_format import label_file

NAMES = ("dog", "Fahrrad & Kind", "traffic light")
EXAMPLES = settings(max_examples=20, derandomize=True, deadline=None, database=None)


@st.composite
def pictures(draw: st.DrawFn, *, whole: bool = False, outlines: bool = False) -> list[Picture]:
    """One to three images with up to four objects; `whole`: on whole pixels, as VOC has them."""
    found = []
    for number in range(draw(st.integers(1, 3))):
        height, width = draw(st.integers(8, 40)), draw(st.integers(8, 40))
        things = []
        for _ in range(draw(st.integers(0, 4))):
            x1, x2 = draw(spans(width, whole))
            y1, y2 = draw(spans(height, whole))
            outline = (x1, y1, x2, y1, x2, y2, x1, y2) if outlines and draw(st.booleans()) else None
            things.append(Thing(draw(st.sampled_from(NAMES)), (x1, y1, x2, y2), draw(st.booleans()), outline))
        found.append(Picture(f"{number} [a].png", (height, width), tuple(dict.fromkeys(things))))
    return found


@st.composite
def spans(draw: st.DrawFn, side: int, whole: bool) -> tuple[float, float]:
    """A piece of a side, at least one pixel long."""
    numbers = st.integers if whole else st.floats
    start = draw(numbers(0, side - 1))
    return start, draw(numbers(start + 1, side))


def as_written(data: DetectionData) -> list[tuple[str, Any, list[Any]]]:
    """Name, size and objects of every image: class, corners, crowd."""
    names = {category.id: category.name for category in data.categories}
    return [
        (
            Path(image.path).name,
            image.size,
            [
                (names[o.category_id], *corners(o.box_xywh), o.crowd)
                for o in sorted(image.objects, key=lambda o: (o.category_id, o.box_xywh))
            ],
        )
        for image in data.images
    ]


def corners(box_xywh: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    x, y, w, h = box_xywh
    return x, y, x + w, y + h


def assert_same(data: DetectionData, written: list[Picture], *, crowds: bool = True) -> None:
    """Names, sizes and order of the images, and all of their objects, to a millionth of a pixel."""
    order = {category.name: category.id for category in data.categories}
    for (name, size, objects), picture in zip(as_written(data), written, strict=True):
        assert (name, size) == (picture.name, picture.size)
        things = [(t.name, *t.box, t.crowd and crowds) for t in picture.things]
        expected = sorted(things, key=lambda t: (order[t[0]], t[1], t[2], t[3] - t[1], t[4] - t[2]))
        assert [o[0] for o in objects] == [t[0] for t in expected]
        for found, thing in zip(sorted(objects), sorted(things), strict=True):
            assert found[1:5] == pytest.approx(thing[1:5], abs=1e-6)
        assert sorted(o[5] for o in objects) == sorted(t[5] for t in expected)


@EXAMPLES
@given(pictures(outlines=True))
def test_what_is_written_as_coco_is_read(written: list[Picture]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_coco(Path(folder), written, NAMES, ids=(1, 90, 7))
        data = read_data(folder)
        assert (data.format, data.split) == ("coco", "val2017")
        assert [category.id for category in data.categories] == [1, 7, 90]
        assert_same(data, written)
        outlines = [t.outline for p in written for t in p.things]
        assert [o.segmentation for i in data.images for o in i.objects] == [o and (o,) for o in outlines]
        areas = [(t.box[2] - t.box[0]) * (t.box[3] - t.box[1]) * 0.7 for p in written for t in p.things]
        assert [o.area for i in data.images for o in i.objects] == areas


@EXAMPLES
@given(pictures(outlines=True))
def test_what_is_written_as_yolo_is_read(written: list[Picture]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_yolo(Path(folder), written, NAMES)
        if not any(picture.things for picture in written):
            with pytest.raises(InputError, match="has a file of labels"):
                read_data(folder)
            return
        data = read_data(folder)
        assert (data.format, data.split, data.named) == ("yolo", "val", True)
        assert [category.name for category in data.categories] == list(NAMES)
        # a crowd is nothing that a line can say; of two lines that are the same one counts
        plain = [p._replace(things=tuple(dict.fromkeys(t._replace(crowd=False) for t in p.things))) for p in written]
        assert_same(data, plain)
        objects = [o for image in data.images for o in image.objects]
        for found, thing in zip(objects, (t for p in plain for t in p.things), strict=True):
            assert found.area == pytest.approx((thing.box[2] - thing.box[0]) * (thing.box[3] - thing.box[1]), abs=1e-6)
            if thing.outline is not None:
                assert found.segmentation is not None
                assert found.segmentation[0] == pytest.approx(thing.outline, abs=1e-6)


@EXAMPLES
@given(pictures(whole=True), st.sampled_from([0, 1]))
def test_what_is_written_as_voc_is_read(written: list[Picture], first_pixel: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_voc(Path(folder), written, first_pixel=first_pixel)
        data = read_data(folder, first_pixel=first_pixel)
        assert (data.format, data.split) == ("voc", "val")
        assert [c.name for c in data.categories] == sorted({t.name for p in written for t in p.things})
        assert_same(data, written)


def test_the_first_pixel_of_voc_is_1_unless_a_file_says_0(tmp_path: Path) -> None:
    at_edge = Picture("a.png", (20, 30), (Thing("dog", (0, 0, 30, 20)),))
    inside = Picture("b.png", (20, 30), (Thing("dog", (3, 4, 10, 11)),))
    write_voc(tmp_path / "one", [at_edge, inside], first_pixel=1)
    write_voc(tmp_path / "nought", [at_edge, inside], first_pixel=0)
    for place, said in (("one", "from 1"), ("nought", "from 0")):
        data = read_data(tmp_path / place)
        assert [image.objects[0].box_xywh for image in data.images] == [(0, 0, 30, 20), (3, 4, 7, 7)]
        assert said in data.notes[0]


POINTS = ((3.0, 4.0, 2), (0.0, 0.0, 0), (7.5, 8.0, 1))


def test_keypoints_are_read_from_coco_and_from_yolo(tmp_path: Path) -> None:
    picture = Picture("a.png", (16, 20), (Thing("dog", (2, 3, 10, 12), points=POINTS),))
    file = write_coco(tmp_path / "coco", [picture], NAMES, prefix="person_keypoints_")
    content = json.loads(file.read_text())
    content["categories"][0]["keypoints"] = ["nose", "tail", "paw"]
    file.write_text(json.dumps(content))
    write_yolo(tmp_path / "yolo", [picture], NAMES)
    with (tmp_path / "yolo" / "data.yaml").open("a") as stream:
        stream.write("kpt_shape: [3, 3]\n")
    for folder in ("coco", "yolo"):
        data = read_data(tmp_path / folder)
        assert data.has_keypoints
        (found,) = data.images[0].objects
        assert found.keypoints is not None
        for point, expected in zip(found.keypoints, POINTS, strict=True):
            assert point == pytest.approx(expected, abs=1e-9)
        assert found.labelled_keypoints == 2
    assert data.categories[0].keypoints == ()
    assert read_data(tmp_path / "coco").categories[0].keypoints == ("nose", "tail", "paw")


ONE = [Picture("a.png", (20, 30), (Thing("dog", (1, 2, 11, 12)),))]
OTHER = [Picture("b.png", (20, 30), (Thing("dog", (5, 5, 11, 12)),)), Picture("c.png", (20, 30))]


def test_the_split_is_the_one_asked_for_or_the_validation_images(tmp_path: Path) -> None:
    for split, there in (("train2017", OTHER), ("val2017", ONE)):
        write_coco(tmp_path / "coco", there, NAMES, split=split)
    for split, there in (("train", OTHER), ("val", ONE)):
        write_voc(tmp_path / "voc", there, split=split)
        write_yolo(tmp_path / "yolo", there, NAMES, split=split, yaml=False)
    (tmp_path / "yolo" / "classes.txt").write_text("\n".join(NAMES))
    (tmp_path / "voc" / "ImageSets" / "Main" / "dog_val.txt").write_text("a  1\n")  # of one class: no split
    for folder in ("coco", "yolo", "voc"):
        assert len(read_data(tmp_path / folder).images) == 1, folder
        assert len(read_data(tmp_path / folder, "val").images) == 1, folder
        assert len(read_data(tmp_path / folder, "train").images) == 2, folder
        with pytest.raises(InputError, match="there is no split 'test'") as caught:
            read_data(tmp_path / folder, "test")
        assert "train" in str(caught.value.found)
        assert "--split" in str(caught.value.fix)


def test_which_split_is_asked_where_none_is_meant(tmp_path: Path) -> None:
    for split in ("north", "south"):
        write_coco(tmp_path, ONE, NAMES, split=split)
    with pytest.raises(InputError, match="which split is meant") as caught:
        read_data(tmp_path)
    assert caught.value.found == "north, south"
    assert read_data(tmp_path, "south").split == "south"


def test_coco_has_instances_and_persons_keypoints_of_one_split(tmp_path: Path) -> None:
    write_coco(tmp_path, ONE, NAMES)
    write_coco(tmp_path, ONE, ("dog", "person"), prefix="person_keypoints_")
    (tmp_path / "annotations" / "captions_val2017.json").write_text('{"images": [], "annotations": []}')
    (tmp_path / "annotations" / "panoptic_val2017.json").write_text(
        '{"images": [], "categories": [], "annotations": [{"segments_info": []}]}'
    )
    assert read_data(tmp_path).annotations.endswith("instances_val2017.json")
    assert read_data(tmp_path, keypoints=True).annotations.endswith("person_keypoints_val2017.json")
    assert read_data(tmp_path, "person_keypoints_val2017").annotations.endswith("person_keypoints_val2017.json")


def test_roboflows_exports_are_read(tmp_path: Path) -> None:
    for split, there in (("train", OTHER), ("valid", ONE)):
        write_images(tmp_path / "coco" / split, there)
        content = coco_content(there, ("dog",))
        content["categories"].insert(0, {"id": 0, "name": "dog", "supercategory": "none"})
        (tmp_path / "coco" / split / "_annotations.coco.json").write_text(json.dumps(content))
        write_images(tmp_path / "voc" / split, there)
        for picture in there:
            (tmp_path / "voc" / split / picture.name).with_suffix(".xml").write_text(voc_text(picture))
        write_images(tmp_path / "yolo" / split / "images", there)
        (tmp_path / "yolo" / split / "labels").mkdir()
        (tmp_path / "yolo" / split / "labels" / there[0].name).with_suffix(".txt").write_text("0 0.2 0.35 0.3 0.5\n")
    yaml = "train: ../train/images\nval: ../valid/images\n\nnc: 1\nnames: ['dog']\n"
    (tmp_path / "yolo" / "data.yaml").write_text(yaml)
    for folder in ("coco", "yolo", "voc"):
        data = read_data(tmp_path / folder)
        assert (data.format, data.split) == (folder, "val" if folder == "yolo" else "valid")
        assert [Path(image.path).name for image in data.images] == ["a.png"]
        assert [category.name for category in data.categories] == ["dog"]
        assert len(read_data(tmp_path / folder, "train").images) == 2


def test_images_beside_their_labels_are_read(tmp_path: Path) -> None:
    for folder in ("coco", "yolo", "voc"):
        write_images(tmp_path / folder, OTHER)
    (tmp_path / "coco" / "labels.json").write_text(json.dumps(coco_content(OTHER, NAMES)))
    (tmp_path / "yolo" / "b.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    (tmp_path / "yolo" / "classes.txt").write_text("dog\n")
    (tmp_path / "voc" / "b.xml").write_text(voc_text(OTHER[0], filename="as it was called before.jpg"))
    assert [len(read_data(tmp_path / folder).images) for folder in ("coco", "yolo", "voc")] == [2, 2, 1]


def test_the_file_itself_will_do(tmp_path: Path) -> None:
    file = write_coco(tmp_path / "coco", ONE, NAMES)
    write_yolo(tmp_path / "yolo", ONE, NAMES)
    assert read_data(file).images[0].path == str(tmp_path / "coco" / "val2017" / "a.png")
    assert len(read_data(tmp_path / "yolo" / "data.yaml").images) == 1
    with pytest.raises(InputError, match=r"COCO's \*\.json or YOLO's \*\.yaml"):
        read_data(tmp_path / "coco" / "val2017" / "a.png")


def test_yolos_lists_of_images_are_read(tmp_path: Path) -> None:
    write_yolo(tmp_path, [*ONE, *OTHER], NAMES)
    (tmp_path / "val.txt").write_text("./images/val/a.png\n./images/val/c.png\n")
    (tmp_path / "data.yaml").write_text("path: /nowhere/at/all\nval: val.txt\nnames: [dog, cat]\n")
    data = read_data(tmp_path)
    assert [Path(image.path).name for image in data.images] == ["a.png", "c.png"]
    assert [len(image.objects) for image in data.images] == [1, 0]
    assert "1 images have no file of labels" in data.notes


def test_yolos_classes_without_names_have_numbers(tmp_path: Path) -> None:
    write_yolo(tmp_path, ONE, ("bird", "cow", "dog"), split=".", yaml=False)
    data = read_data(tmp_path)
    assert not data.named
    assert [(c.id, c.name) for c in data.categories] == [(0, "0"), (1, "1"), (2, "2")]


@pytest.mark.parametrize(
    ("image", "labels"),
    [
        ("set/images/val/a.jpg", "set/labels/val/a.txt"),
        ("images/old/images/a.b.jpg", "images/old/labels/a.b.txt"),
        ("images.jpg", "images.txt"),
        ("photos/a.png", "photos/a.txt"),
    ],
)
def test_labels_are_where_the_last_images_of_the_path_would_be_labels(image: str, labels: str) -> None:
    assert label_file(image) == labels


def test_two_formats_in_a_folder_are_an_error_that_says_what_to_pass(tmp_path: Path) -> None:
    write_coco(tmp_path, ONE, NAMES)
    write_voc(tmp_path, ONE)
    with pytest.raises(InputError, match="more than one format") as caught:
        read_data(tmp_path)
    assert caught.value.found == "coco, voc"
    assert "--data-format coco" in str(caught.value.fix)
    assert read_data(tmp_path, data_format="voc").format == "voc"


def test_a_folder_without_labels_says_what_was_looked_for_and_where_they_are(tmp_path: Path) -> None:
    write_images(tmp_path / "photos", ONE)
    with pytest.raises(InputError, match="no labels of a known format") as caught:
        read_data(tmp_path / "photos")
    for looked_for in (str(tmp_path / "photos"), "_annotations.coco.json", "Annotations/*.xml", "*.yaml"):
        assert looked_for in caught.value.message
    write_voc(tmp_path / "devkit" / "VOC2007", ONE)
    with pytest.raises(InputError) as caught:
        read_data(tmp_path / "devkit")
    assert caught.value.fix == str(tmp_path / "devkit" / "VOC2007")
    with pytest.raises(InputError, match="no such folder"):
        read_data(tmp_path / "nothing")


def test_the_fingerprint_is_of_what_counts(tmp_path: Path) -> None:
    for name in ("one", "same"):
        write_coco(tmp_path / name, ONE, NAMES)
    write_coco(tmp_path / "other", [ONE[0]._replace(things=(Thing("dog", (1, 2, 11, 12.5)),))], NAMES)
    one, same, other = (read_data(tmp_path / name).fingerprint for name in ("one", "same", "other"))
    assert one == same != other
    (tmp_path / "same" / "val2017" / "a.png").write_bytes(b"another file")
    assert read_data(tmp_path / "same").fingerprint != one
