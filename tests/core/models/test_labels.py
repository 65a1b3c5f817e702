"""Label spaces: names, ids and source ids agree, or an error says where they do not."""

from __future__ import annotations

import importlib
import json
import pickle
import subprocess
import sys

import pytest
from timm.data import ImageNetInfo

from zoo.errors import LabelError, NotFoundError
from zoo.models.labels import LabelSpace, label_space

PETS = LabelSpace(name="pets", names=("cat", "dog", "Dog"), source_ids=(1, 17, 90))


def test_imagenet_has_timms_classes_in_timms_order():
    space, info = label_space("imagenet_1k"), ImageNetInfo("imagenet-1k")
    assert list(space.source_ids) == info.label_names()
    for class_id, name in enumerate(space.names):
        words = [word.strip() for word in info.index_to_description(class_id).split(",")]
        assert name in words or any(name.startswith(words[0] + " ") for _ in words), (name, words)


def test_imagenet_calls_a_cat_a_cat():
    space = label_space("imagenet_1k")
    assert [space.name_of(i) for i in (281, 282, 285, 967, 335)] == [
        "tabby", "tiger cat", "Egyptian cat", "espresso", "fox squirrel"
    ]  # fmt: skip
    assert space.id_of("egyptian CAT") == 285
    assert space.id_of_source("n02124075") == 285
    assert len(space) == 1000


def test_names_and_ids_find_each_other():
    assert [PETS.id_of(name) for name in PETS.names] == [0, 1, 2]
    assert [PETS.id_of_source(i) for i in (1, 17, 90)] == [0, 1, 2]
    assert LabelSpace(name="a", names=("x", "y")).id_of_source(1) == 1
    assert pickle.loads(pickle.dumps(PETS)) == PETS


def test_a_misspelt_class_gets_near_names():
    with pytest.raises(LabelError, match="no class 'tabbby'") as error:
        label_space("imagenet_1k").id_of("tabbby")
    assert str(error.value.fix).startswith("tabby")


def test_a_class_unlike_any_gets_the_first_names():
    with pytest.raises(LabelError, match="no class 'qqqq'") as error:
        label_space("coco").id_of("qqqq")
    assert error.value.fix == "person"
    assert error.value.found.startswith("80 names: person, bicycle, ")
    assert error.value.found.endswith(" …")


@pytest.mark.parametrize("class_id", [-1, 3])
def test_ids_outside_are_refused(class_id):
    with pytest.raises(LabelError, match="no class"):
        PETS.name_of(class_id)


def test_unknown_source_ids_are_refused():
    with pytest.raises(LabelError, match="no source id 2"):
        PETS.id_of_source(2)


@pytest.mark.parametrize(
    ("background", "outputs", "classes"), [("none", 3, "abc"), ("first", 4, "bcd"), ("last", 4, "abc")]
)
def test_the_background_is_counted_and_left_out(background, outputs, classes):
    space = LabelSpace(name="pets", names=("a", "b", "c"), background=background)
    space.check(outputs)
    assert "abcd"[:outputs][space.classes_of_outputs] == classes
    with pytest.raises(LabelError, match=f"{outputs + 1} outputs"):
        space.check(outputs + 1)


def test_91_outputs_do_not_pass_for_80_classes():
    coco = LabelSpace(name="coco", names=tuple(map(str, range(80))))
    with pytest.raises(LabelError, match="91 outputs, but label space 'coco' has 80 classes"):
        coco.check(91)


@pytest.mark.parametrize(
    "wrong",
    [
        {"names": ()},
        {"names": ("a", "")},
        {"names": ("a", 3)},
        {"names": ("a", "a")},
        {"names": ("a", "b"), "source_ids": (1,)},
        {"names": ("a", "b"), "source_ids": (1, 1)},
        {"names": ("a",), "background": "maybe"},
    ],
)
def test_a_space_that_contradicts_itself_is_refused(wrong):
    with pytest.raises(LabelError, match="label space 'wrong'"):
        LabelSpace(name="wrong", **wrong)


def test_a_misspelt_space_gets_a_suggestion():
    with pytest.raises(NotFoundError) as error:
        label_space("imagenet1k")
    assert "imagenet_1k" in str(error.value.fix)
    for name in ("", "../labels", "/etc/passwd", "\0"):
        with pytest.raises(NotFoundError):
            label_space(name)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package that must not be imported, with room for label spaces."""
    folder = tmp_path / "acme_zoo" / "spaces"
    folder.mkdir(parents=True)
    (tmp_path / "acme_zoo" / "__init__.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    label_space.cache_clear()
    yield folder
    label_space.cache_clear()


def test_a_plugin_brings_its_own_space_without_being_imported(package):
    (package / "pets.json").write_text(json.dumps({"names": ["cat", "dog"], "source_ids": [1, "n2"]}))
    space = label_space("acme_zoo:spaces/pets.json")
    assert (space.names, space.source_ids, space.name) == (("cat", "dog"), (1, "n2"), "acme_zoo:spaces/pets.json")
    assert "acme_zoo" not in sys.modules


@pytest.mark.parametrize(
    "name",
    [
        "acme_zoo:spaces/none.json",
        "no_such_package:pets.json",
        "acme_zoo:../secret.json",
        "acme_zoo:/etc/passwd.json",
        "acme_zoo:__init__.py",
        "acme_zoo.spaces:pets.json",
        "json.tool:pets.json",
        ":pets.json",
    ],
)
def test_a_space_that_is_not_there_is_not_found(package, name):
    (package.parent.parent / "secret.json").write_text('{"names": ["a"]}')
    with pytest.raises(NotFoundError):
        label_space(name)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"names": "cat"}', '{"names": [1]}', '{"names": ["a"], "source_ids": [[1]]}',
             '{"names": ["a"], "source_ids": 3}', '{"names": ["a"], "background": []}', "[" * 100_000, "\x00"]
)  # fmt: skip
def test_a_hostile_space_is_a_label_error(package, text):
    (package / "hostile.json").write_text(text)
    with pytest.raises(LabelError):
        label_space("acme_zoo:spaces/hostile.json")


def test_a_file_of_bytes_is_a_label_error(package):
    (package / "bytes.json").write_bytes(b"\xff\xfe\x80")
    with pytest.raises(LabelError):
        label_space("acme_zoo:spaces/bytes.json")


def test_names_need_no_torch():
    code = "from zoo.models.labels import label_space; label_space('imagenet_1k')"
    subprocess.run([sys.executable, "-c", f"import sys; {code}; assert 'torch' not in sys.modules"], check=True)
