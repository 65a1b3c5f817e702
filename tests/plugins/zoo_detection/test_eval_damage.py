"""Damaged labels are refused by name: the file, and the record or line in it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from eval_folders import Picture, Thing, voc_text, write_coco, write_voc, write_yolo
from hypothesis import given, settings, strategies as st

from zoo.errors import InputError, OptionError, ZooError
from zoo_detection.evaluation import read_data
from zoo_detection.evaluation.image_headers import upright_size

SOUND = [
    Picture("a.png", (20, 30), (Thing("dog", (1, 2, 11, 12)), Thing("cat", (3, 3, 9, 9)))),
    Picture("b.png", (16, 16), (Thing("cat", (2, 2, 8, 8)),)),
]
NAMES = ("dog", "cat")
Content = dict[str, Any]


def put(*path: Any) -> Callable[[Content], None]:
    """A change of a COCO file: the last of the path is the new value of what the others lead to."""
    *way, last, value = path

    def change(content: Content) -> None:
        place: Any = content
        for step in way:
            place = place[step]
        place[last] = value

    return change


BOX = ("annotations", 1, "bbox")
OUTLINE = ("annotations", 0, "segmentation")
COCO_DAMAGE = {
    "box of no width": (put(*BOX, [1, 1, 0, 5]), r"annotation 1 \(id 1\): its box has no size"),
    "box of a negative height": (put(*BOX, [1, 1, 4, -5]), "annotation 1 .*its box has no size"),
    "box of three numbers": (put(*BOX, [1, 1, 4]), "annotation 1 .*`bbox` is not a list of 4 numbers"),
    "no box": (lambda c: c["annotations"][1].pop("bbox"), "annotation 1 .*`bbox` is not a list of 4 numbers"),
    "NaN in a box": (put(*BOX, [1, 1, 4, float("nan")]), "annotation 1 .*`bbox` has what is no finite number"),
    "endless box": (put(*BOX, [1, 1, float("inf"), 3]), "`bbox` has what is no finite number"),
    "astronomic number": (put(*BOX, [1, 1, 10**400, 3]), "`bbox` has what is no finite number"),
    "words in a box": (put(*BOX, ["1", "1", "4", "5"]), "`bbox` has what is no finite number"),
    "NaN area": (put("annotations", 1, "area", float("nan")), "`area` has what is no finite number"),
    "unknown category": (put("annotations", 2, "category_id", 5), r"annotation 2 \(id 2\): there is no category 5"),
    "unknown image": (put("annotations", 2, "image_id", 99), r"annotation 2 .*an image that is not in the list"),
    "category id a list": (put("annotations", 2, "category_id", [1]), "`category_id` is not a whole number"),
    "astronomic id": (put("images", 1, "id", 10**30), "`id` is not a whole number"),
    "category id a word": (put("annotations", 2, "category_id", "1"), "`category_id` is not a whole number"),
    "annotation id twice": (put("annotations", 2, "id", 0), "annotation 2: the id 0 is that of annotation 0 already"),
    "image id twice": (put("images", 1, "id", 10), "image 1: the id 10 is that of image 0 already"),
    "category id twice": (put("categories", 1, "id", 1), "category 1: the id 1 is that of category 0 already"),
    "category name twice": (put("categories", 1, "name", "dog"), "two categories are called 'dog'"),
    "no category name": (lambda c: c["categories"][0].pop("name"), r"category 0 \(id 1\): `name` is not a name"),
    "no id": (lambda c: c["images"][0].pop("id"), "image 0: `id` is not a whole number"),
    "not a record": (put("annotations", 0, 5), "annotation 0: not an object"),
    "no images": (put("images", []), "there are no images"),
    "images no list": (put("images", {}), "no list `images`"),
    "no annotations": (put("annotations", None), "no list `annotations`"),
    "no file name": (put("images", 0, "file_name", None), r"image 0 \(id 10\): `file_name` is not a name"),
    "image of no height": (put("images", 0, "height", 0), "an image has at least one pixel"),
    "crowd of 2": (put("annotations", 0, "iscrowd", 2), "`iscrowd` is 0 or 1"),
    "polygon of two points": (put(*OUTLINE, [[1, 2, 3, 4]]), "annotation 0 .*three points or more"),
    "polygon of half a point": (put(*OUTLINE, [[1, 2, 3, 4, 5, 6, 7]]), "three points or more"),
    "polygon of NaN": (put(*OUTLINE, [[1, 2, 3, 4, 5, float("nan")]]), "`segmentation` has what is no finite"),
    "outline a word": (put(*OUTLINE, "here"), "neither polygons nor run lengths"),
    "runs too short": (put(*OUTLINE, {"size": [20, 30], "counts": [5, 5]}), "annotation 0 .*do not fill the image"),
    "runs of another image": (put(*OUTLINE, {"size": [30, 20], "counts": [600]}), "annotation 0 .*of another size"),
    "runs backwards": (put(*OUTLINE, {"size": [2, 2], "counts": [5, -1]}), "do not fill the image"),
    "runs compressed, damaged": (put(*OUTLINE, {"size": [20, 30], "counts": "o"}), "annotation 0 .*end within"),
    "runs without a size": (put(*OUTLINE, {"counts": [600]}), "`segmentation.size` is not a list of 2 numbers"),
    "keypoints of two numbers": (put("annotations", 0, "keypoints", [1, 2]), "x, y and visibility each"),
    "visibility 3": (put("annotations", 0, "keypoints", [1, 2, 3]), "visibility of a keypoint is 0, 1 or 2"),
}


@pytest.mark.parametrize("case", COCO_DAMAGE)
def test_a_damaged_record_of_coco_is_named(tmp_path: Path, case: str) -> None:
    change, said = COCO_DAMAGE[case]
    file = write_coco(tmp_path, SOUND, NAMES)
    assert read_data(tmp_path).num_objects == 3
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
    with pytest.raises(InputError, match=said) as caught:
        read_data(tmp_path)
    assert "instances_val2017.json" in caught.value.message


def test_missing_images_are_counted_and_the_first_is_named(tmp_path: Path) -> None:
    write_coco(tmp_path / "coco", SOUND, NAMES)
    (tmp_path / "coco" / "val2017" / "b.png").unlink()
    with pytest.raises(InputError, match=r"instances_val2017\.json: 1 of 2 images are not there, .*b\.png"):
        read_data(tmp_path / "coco")
    write_voc(tmp_path / "voc", SOUND)
    (tmp_path / "voc" / "JPEGImages" / "b.png").unlink()
    with pytest.raises(InputError, match=r"b\.xml: its image is not there"):
        read_data(tmp_path / "voc")
    (tmp_path / "voc" / "Annotations" / "a.xml").unlink()
    with pytest.raises(InputError, match=r"Main/val\.txt: 1 of 2 files are not there, the first is .*a\.xml"):
        read_data(tmp_path / "voc")


YOLO_DAMAGE = {
    "class too high": ("2 0.5 0.5 0.2 0.2", "there is no class 2, they go from 0 to 1"),
    "class negative": ("-1 0.5 0.5 0.2 0.2", "the class is a whole number from 0"),
    "class a fraction": ("0.5 0.5 0.5 0.2 0.2", "the class is a whole number from 0"),
    "class a word": ("dog 0.5 0.5 0.2 0.2", "not numbers only"),
    "no width": ("0 0.5 0.5 0 0.2", "its box has no size"),
    "negative height": ("0 0.5 0.5 0.1 -0.2", "its box has no size"),
    "NaN": ("0 0.5 nan 0.1 0.2", "not finite numbers only"),
    "endless": ("0 0.5 inf 0.1 0.2", "not finite numbers only"),
    "pixels": ("0 15 10 4 4", "no shares of the image"),
    "score behind the box": ("0 0.5 0.5 0.2 0.2 0.9", "behind the class there are 5 numbers"),
    "class only": ("0", "behind the class there are 0 numbers"),
    "outline of half a point": ("0 0.1 0.1 0.2 0.2 0.3 0.3 0.4", "behind the class there are 7 numbers"),
    "flat outline": ("0 0.1 0.1 0.2 0.1 0.3 0.1", "its outline has no size"),
}


@pytest.mark.parametrize("case", YOLO_DAMAGE)
def test_a_damaged_line_of_yolo_is_named(tmp_path: Path, case: str) -> None:
    line, said = YOLO_DAMAGE[case]
    write_yolo(tmp_path, SOUND, NAMES)
    file = tmp_path / "labels" / "val" / "b.txt"
    file.write_text(f"1 0.5 0.5 0.25 0.25\n\n{line}\n")
    with pytest.raises(InputError, match=rf"b\.txt:3: .*{said}"):
        read_data(tmp_path)


YAML_DAMAGE = {
    "no yaml": ("names: [dog, cat\nval: x\n", "not YAML that can be read"),
    "names twice": ("val: images/val\nnames: [dog, dog]\n", "two classes are called 'dog'"),
    "names with a gap": ("val: images/val\nnames: {0: dog, 2: cat}\n", "numbered from 0 without a gap"),
    "another count": ("val: images/val\nnc: 3\nnames: [dog, cat]\n", "`nc` is 3 and there are 2"),
    "images elsewhere": ("val: images/nowhere\nnames: [dog, cat]\n", "the images of `val` are not there"),
    "a list for a folder": ("path: [here]\nval: images/val\nnames: [dog, cat]\n", "`path` is a folder"),
    "a number for a place": ("val: 5\nnames: [dog, cat]\n", "`val` is a path or a list of paths"),
    "names in a bomb": (
        "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
        + "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]\n" for a, b in pairwise("abcdefghijkl"))
        + "val: images/val\nnames: [dog, *l]\n",
        "a name is a word",
    ),
    "points of one number": ("val: images/val\nnames: [dog, cat]\nkpt_shape: [3, 1]\n", "two or three numbers"),
}


@pytest.mark.parametrize("case", YAML_DAMAGE)
def test_a_damaged_data_yaml_is_named(tmp_path: Path, case: str) -> None:
    text, said = YAML_DAMAGE[case]
    write_yolo(tmp_path, SOUND, NAMES)
    (tmp_path / "data.yaml").write_text(text)
    with pytest.raises(InputError, match=said):
        read_data(tmp_path)


def test_points_of_another_number_are_named(tmp_path: Path) -> None:
    write_yolo(tmp_path, SOUND, NAMES)
    with (tmp_path / "data.yaml").open("a") as stream:
        stream.write("kpt_shape: [2, 3]\n")
    (tmp_path / "labels" / "val" / "b.txt").write_text("1 0.5 0.5 0.2 0.2 0.5 0.5 2\n")
    with pytest.raises(InputError, match=r"b\.txt:1: .*7 numbers and not a box and 6 numbers"):
        read_data(tmp_path)


SOUND_VOC = voc_text(SOUND[1])
VOC_DAMAGE = {
    "no width": (("<xmax>8", "<xmax>2"), r"object 1 \(cat\): its box has no size"),
    "NaN": (("<xmax>8", "<xmax>nan"), r"object 1 \(cat\): its box has what is no finite number"),
    "a word": (("<xmax>8", "<xmax>eight"), r"object 1 \(cat\): its box is not four numbers"),
    "no corner": (("<ymax>8</ymax>", ""), r"object 1 \(cat\): its box is not four numbers"),
    "no name": (("<name>cat</name>", ""), "object 1: it has no name"),
    "difficult a word": (("<difficult>0", "<difficult>very"), "<difficult> is 0 or 1"),
    "size a word": (("<width>16", "<width>wide"), "its size is not two numbers"),
    "no XML": (("</annotation>", ""), "not XML that can be read"),
    "other XML": (("annotation>", "note>"), "a VOC file is an <annotation>"),
    "entities": (("<annotation>", '<!DOCTYPE a [<!ENTITY b "c">]><annotation>'), "it defines entities"),
}


@pytest.mark.parametrize("case", VOC_DAMAGE)
def test_a_damaged_file_of_voc_is_named(tmp_path: Path, case: str) -> None:
    (old, new), said = VOC_DAMAGE[case]
    write_voc(tmp_path, SOUND)
    (tmp_path / "Annotations" / "b.xml").write_text(SOUND_VOC.replace(old, new))
    with pytest.raises(InputError, match=rf"b\.xml: .*{said}"):
        read_data(tmp_path)


def test_a_file_that_is_no_image_is_named(tmp_path: Path) -> None:
    write_yolo(tmp_path, SOUND, NAMES)
    (tmp_path / "images" / "val" / "b.png").write_bytes(b"\x89PNG no more")
    with pytest.raises(InputError, match=r"b\.png: not an image"):
        read_data(tmp_path)
    (tmp_path / "images" / "val" / "b.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"b\.png: the file is empty"):
        read_data(tmp_path)


def test_the_size_of_a_turned_photo_is_that_of_the_upright_one(tmp_path: Path) -> None:
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 20)).save(tmp_path / "turned.jpg", exif=exif)
    Image.new("RGB", (30, 20)).save(tmp_path / "plain.jpg")
    assert upright_size(str(tmp_path / "turned.jpg")) == (30, 20)
    assert upright_size(str(tmp_path / "plain.jpg")) == (20, 30)


def test_formats_and_first_pixels_there_are_not_are_refused(tmp_path: Path) -> None:
    write_voc(tmp_path, SOUND)
    with pytest.raises(OptionError, match="no such format"):
        read_data(tmp_path, data_format="tfrecord")
    with pytest.raises(InputError, match="numbered from 1"):
        read_data(tmp_path, first_pixel=2)


@settings(max_examples=150, derandomize=True, deadline=None, database=None)
@given(st.binary(max_size=60), st.integers(0, 2), st.integers(0, 400))
def test_whatever_is_in_a_file_of_labels_no_other_error_comes(noise: bytes, kind: int, place: int) -> None:
    """Bytes written over a sound file are read, or refused as such."""
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if kind == 0:
            file = write_coco(folder, SOUND[1:], NAMES)
        elif kind == 1:
            write_yolo(folder, SOUND[1:], NAMES)
            file = folder / "data.yaml" if place % 2 else folder / "labels" / "val" / "b.txt"
        else:
            write_voc(folder, SOUND[1:])
            file = folder / "Annotations" / "b.xml"
        sound = file.read_bytes()
        file.write_bytes(sound[:place] + noise + sound[place + len(noise) :])
        with contextlib.suppress(ZooError):
            read_data(folder, data_format=("coco", "yolo", "voc")[kind])
