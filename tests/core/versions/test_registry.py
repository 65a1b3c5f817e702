"""The registry: what is registered comes back as it was, for ever, by version, range, alias and tag."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from registered_models import Pebble, PebbleConfig, pebble, register, value_of
from torch import nn

import zoo
from zoo.versions.addresses import Address
from zoo.versions.records import VersionRecord

IMAGES = torch.rand(2, 3, 8, 8)


# Out as it went in


def test_a_class_and_its_config_come_back(registry: zoo.ModelRegistry) -> None:
    cfg = PebbleConfig(num_classes=5, width=2)
    registry.register(name="custom_model", version="1.0.0", model=Pebble, config=cfg)
    model, record = registry.load("custom_model", version="1.0.0", return_info=True)
    assert type(model) is Pebble
    assert model.config == cfg
    assert not model.training
    assert (record.name, record.version, record.ref) == ("custom_model", "1.0.0", "local/custom_model@1.0.0")
    assert record.config == {"num_classes": 5, "width": 2}
    assert model.provenance.sha256 == record.sha256
    assert model.provenance.source == record.ref
    again = registry.load("custom_model")
    with torch.inference_mode():
        assert torch.equal(model(IMAGES)["logits"], again(IMAGES)["logits"])


def test_given_weights_are_what_is_kept(registry: zoo.ModelRegistry) -> None:
    weights = pebble(7.0).state_dict()
    registry.register(name="m", version="1.0.0", model=Pebble, config={}, weights=weights)
    assert value_of(registry.load("m")) == 7.0
    with pytest.raises(zoo.LoadError):
        registry.register(name="m", version="2.0.0", model=Pebble, config={"width": 2}, weights=weights)


def test_the_calls_of_the_documentation() -> None:
    model = pebble(1.0)
    parent = zoo.register_model(model, name="m", version="1.1.0")
    record = zoo.register_model(
        pebble(2.0),
        name="m",
        version="1.2.0",
        tags=["production", "classifier"],
        metrics={"top1": 0.9},
        parent=("m", "1.1.0"),
        data="note",
    )
    assert record == zoo.ModelRegistry().show("m", "1.2.0")
    assert record.tags == ("classifier", "production")
    assert record.metrics == {"top1": 0.9}
    assert record.parent is not None
    assert (record.parent.sha256, record.parent.version) == (parent.sha256, "1.1.0")
    assert record.data == "note"
    assert record.author
    assert record.zoo_version
    assert value_of(zoo.create("local/m@production")) == 2.0
    assert value_of(zoo.create("local/m@1.1.0")) == 1.0
    assert value_of(zoo.create("local/m")) == 2.0
    assert value_of(Pebble.from_pretrained("local/m@^1.1,<1.2")) == 1.0
    json.dumps(record.to_dict())


def test_a_model_of_a_plugin_brings_its_input_labels_and_licence(registry: zoo.ModelRegistry) -> None:
    model = zoo.create("resnet18", num_classes=2, img_size=96)
    model.label_space = zoo.LabelSpace(name="two", names=("cat", "dog"))
    model.provenance = zoo.Provenance(ref="cnn/resnet18@1", license="CC-BY-NC-4.0", sha256="a" * 64, source="hf://a/b")
    record = zoo.register_model(model, name="pets", version="1.0.0")
    assert record.distribution == "zoo-cnn"
    assert record.plugin_version
    assert record.parent is not None
    assert record.parent.sha256 == "a" * 64
    with pytest.raises(zoo.LicenseError, match="CC-BY-NC"):
        registry.load("pets")
    again = zoo.create("local/pets", allow_licenses="CC-BY-NC-4.0")
    assert again.input_spec == model.input_spec
    assert again.label_space == model.label_space
    assert again.provenance.ref == "cnn/resnet18@1"
    assert again.provenance.license == "CC-BY-NC-4.0"
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name])
    backbone = zoo.create("local/pets", features_only=True, out_indices=(4,), allow_licenses="*")
    assert backbone.strides == (32,)
    assert zoo.create("local/pets", num_classes=7, allow_licenses="*").num_classes == 7
    with pytest.raises(zoo.OptionError, match="depth"):
        zoo.create("local/pets", depth=34)


def test_what_was_loaded_and_trained_on_is_the_parent_of_what_is_registered_next(registry: zoo.ModelRegistry) -> None:
    first = registry.register(name="m", version="1.0.0", model=pebble(1.0))
    model = registry.load("m")
    with torch.no_grad():
        model.fc.bias += 1
    record = registry.register(name="m", version="1.1.0", model=model)
    assert record.parent is not None
    assert (record.parent.name, record.parent.version, record.parent.sha256) == ("m", "1.0.0", first.sha256)
    assert value_of(registry.load("m", "1.0.0")) == 1.0  # training a mapped model never reaches the file


def test_ones_own_model_is_loaded_after_it_was_loaded_and_registered_again(registry: zoo.ModelRegistry) -> None:
    registry.register(name="m", version="1.0.0", model=pebble(1.0))
    registry.register(name="m", version="1.1.0", model=registry.load("m"))
    assert value_of(registry.load("m", "1.1.0")) == 1.0


def test_a_parent_may_be_written_as_its_address(registry: zoo.ModelRegistry) -> None:
    first = registry.register(name="m", version="1.0.0", model=pebble(1.0))
    for number, parent in enumerate(("m@1.0.0", "local/m@^1,<1.0.1", "local/m", ["m", "1.0.0"])):
        record = registry.register(name="n", version=f"{number}.0.0", model=pebble(2.0), parent=parent)
        assert record.parent is not None
        assert (record.parent.name, record.parent.version, record.parent.sha256) == ("m", "1.0.0", first.sha256)


def test_a_source_written_by_hand_is_a_parent_without_a_name(registry: zoo.ModelRegistry) -> None:
    model = pebble(1.0)
    model.provenance = zoo.Provenance(ref="mine", license="MIT", sha256="b" * 64, source="local/My File.pth")
    record = registry.register(name="m", version="1.0.0", model=model)
    assert record.parent is not None
    assert (record.parent.sha256, record.parent.name) == ("b" * 64, "")


def test_where_and_as_what(registry: zoo.ModelRegistry) -> None:
    register(registry, "1.0.0")
    for number, dtype in enumerate((torch.bfloat16, torch.float16, torch.float64)):
        registry.register(name="other", version=f"{number}.0.0", model=pebble(1.0).to(dtype))
        again = registry.load("other")
        assert {parameter.dtype for parameter in again.parameters()} == {dtype}
        assert registry.register(name="copy", version=f"{number}.0.0", model=again).sha256 == again.provenance.sha256
    assert registry.load("other", dtype="float32").fc.weight.dtype == torch.float32
    assert registry.load("m", dtype="bfloat16").fc.weight.dtype == torch.bfloat16
    assert zoo.create("local/m", dtype=torch.float64).fc.weight.dtype == torch.float64


def test_tied_weights_come_back_tied(registry: zoo.ModelRegistry) -> None:
    class Tied(Pebble):
        def __init__(self, config: PebbleConfig) -> None:
            super().__init__(config)
            self.fc = nn.Linear(config.width, config.width)
            self.again = self.fc

    with pytest.warns(UserWarning, match="cls=Tied"):
        registry.register(name="m", version="1.0.0", model=Tied, config={"num_classes": 4})
    model = registry.load("m")
    assert model.again.weight is model.fc.weight


# Versions, ranges, aliases, tags


SELECTORS = {
    "latest": "1.10.0",
    "1.2.0": "1.2.0",
    "1.2.0+any.build": "1.2.0",
    "^1.2": "1.10.0",
    "~1.2.0": "1.2.5",
    ">=0.9,<1.2": "1.0.0",
    "1.*": "1.10.0",
    "2.0.0-rc.2": "2.0.0-rc.2",
    ">=2.0.0-alpha": "2.0.0-rc.2",
    "production": "1.0.0",  # an alias counts before a tag
    "good": "1.2.5",
}


def test_a_selector_means_one_version(registry: zoo.ModelRegistry) -> None:
    register(registry, "1.2.0", "1.10.0", "2.0.0-rc.2", "1.0.0", "2.0.0-rc.1")
    registry.register(name="m", version="1.2.5", model=Pebble, tags=["good", "production"])
    registry.register(name="m", version="1.2.4", model=Pebble, tags=["good"])
    registry.register(name="other", version="9.0.0", model=Pebble, tags=["good"])
    registry.promote("m", "1.0.0", "production")
    assert {selector: registry.show("m", selector).version for selector in SELECTORS} == SELECTORS
    for selector in ("1.2.5", "~1.2.0", "production"):
        assert zoo.create(f"local/m@{selector}").provenance.source == f"local/m@{registry.show('m', selector).version}"


def test_the_latest_of_pre_releases_alone_is_the_newest_of_them(registry: zoo.ModelRegistry) -> None:
    register(registry, "1.0.0-rc.10", "1.0.0-rc.9")
    assert registry.show("m").version == "1.0.0-rc.10"


@pytest.mark.parametrize(
    ("name", "selector", "said"),
    [
        ("pebbel", "latest", "did you mean 'pebble'"),
        ("nothing_like_it", "1.0.0", "no model 'nothing_like_it' is registered"),
        ("pebble", "3.0.0", "pebble has no version '3.0.0'"),
        ("pebble", "productoin", "did you mean 'production'"),
        ("pebble", "^2", "1.0.0"),
    ],
)
def test_what_is_not_there_is_said_with_what_is(name: str, selector: str, said: str) -> None:
    registry = zoo.ModelRegistry()
    register(registry, "1.0.0", name="pebble")
    registry.promote("pebble", "latest", "production")
    with pytest.raises(zoo.NotFoundError) as caught:
        registry.load(name, selector)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "text", ["local/", "local/M", "local/a b", "local/m@", "local/m@1.x", "local/m@^^1", "local/a/b"]
)
def test_what_names_no_registered_model_is_a_ref_error(text: str) -> None:
    zoo.register_model(pebble(0.0), name="m", version="1.0.0")
    with pytest.raises(zoo.RefError):
        zoo.create(text)


def test_an_address_survives_its_text() -> None:
    for text in ("m@latest", "m@1.0.0", "m@production", "m@^1,<2"):
        assert str(Address.parse(text)) == text == str(Address.parse(f"local/{text}"))


def test_listing_is_by_name_pattern_and_tag(registry: zoo.ModelRegistry) -> None:
    registry.register(name="cats", version="1.0.0", model=Pebble, tags=["good"])
    registry.register(name="cats", version="1.10.0", model=Pebble)
    registry.register(name="cats", version="1.9.0", model=Pebble)
    registry.register(name="dogs", version="1.0.0", model=Pebble, tags=["good", "old"])
    registry.promote("cats", "1.9.0", "production")

    def listed(pattern: str = "*", tag: str | None = None) -> list[str]:
        return [f"{record.name} {record.version}" for record in registry.list(pattern, tag=tag)]

    assert listed() == ["cats 1.10.0", "cats 1.9.0", "cats 1.0.0", "dogs 1.0.0"]
    assert listed("d*") == ["dogs 1.0.0"]
    assert listed("cat") == []
    assert listed(tag="good") == ["cats 1.0.0", "dogs 1.0.0"]
    assert listed("c?ts", "good") == ["cats 1.0.0"]
    assert [record.aliases for record in registry.list("cats")] == [(), ("production",), ()]
    assert all(isinstance(record, VersionRecord) for record in registry.list())


# Aliases


def test_an_alias_goes_back_step_by_step_and_forgets_nothing(registry: zoo.ModelRegistry) -> None:
    register(registry, "1.0.0", "1.1.0", "1.2.0")
    for version in ("1.0.0", "1.1.0", "1.2.0"):
        registry.promote("m", version, "production")
    assert registry.promote("m", "^1", "production").version == "1.2.0"  # what it means already is no change
    assert registry.rollback("m", "production").version == "1.1.0"
    assert registry.rollback("m", "production").version == "1.0.0"
    with pytest.raises(zoo.NotFoundError, match=r"no earlier target than 1\.0\.0"):
        registry.rollback("m", "production")
    assert registry.promote("m", "1.2.0", "production").action == "promote"
    assert registry.rollback("m", "production").version == "1.0.0"
    told = [(change.action, change.version) for change in registry.history("m", "production")]
    assert told == [
        ("promote", "1.0.0"),
        ("promote", "1.1.0"),
        ("promote", "1.2.0"),
        ("rollback", "1.1.0"),
        ("rollback", "1.0.0"),
        ("promote", "1.2.0"),
        ("rollback", "1.0.0"),
    ]
    assert all(change.at and change.by for change in registry.history("m"))
    with pytest.raises(zoo.NotFoundError, match="no alias 'staging'"):
        registry.rollback("m", "staging")


def test_an_alias_belongs_to_one_model(registry: zoo.ModelRegistry) -> None:
    register(registry, "1.0.0", "2.0.0")
    register(registry, "1.0.0", name="n")
    registry.promote("m", "1.0.0", "production")
    registry.promote("n", "1.0.0", "production")
    registry.promote("m", "2.0.0", "production")
    assert registry.show("m", "production").version == "2.0.0"
    assert registry.show("n", "production").version == "1.0.0"
    with pytest.raises(zoo.NotFoundError, match="no earlier"):
        registry.rollback("n", "production")


@pytest.mark.parametrize("word", ["latest", "1.0.0", "", "Production", "a b", "^1", "a" * 65, "prod@1", None])
def test_what_cannot_be_an_alias_or_a_tag(word: str) -> None:
    registry = zoo.ModelRegistry()
    register(registry, "1.0.0")
    with pytest.raises(zoo.RefError):
        registry.promote("m", "1.0.0", word)
    with pytest.raises(zoo.RefError):
        registry.register(name="m", version="2.0.0", model=Pebble, tags=[word])
    assert len(registry.list()) == 1


# Comparing


def test_a_difference_names_what_changed_and_nothing_else(registry: zoo.ModelRegistry) -> None:
    registry.register(name="m", version="1.0.0", model=pebble(1.0), metrics={"top1": 0.5, "loss": 1.0})
    registry.register(name="m", version="1.1.0", model=pebble(1.0, num_classes=5), metrics={"top1": 0.75, "f1": 0.5})
    found = registry.diff("m@1.0.0", "m@1.1.0")
    assert found.factory is None
    assert found.config == {"num_classes": (3, 5)}
    assert found.metrics == {"top1": (0.5, 0.75), "loss": (1.0, None), "f1": (None, 0.5)}
    assert {name: [pair.shape for pair in both] for name, both in found.tensors.items()} == {
        "fc.weight": [(3, 4), (5, 4)],
        "fc.bias": [(3,), (5,)],
    }
    assert not found.same_weights
    registry.register(name="n", version="1.0.0", model=pebble(1.0), metrics={"top1": 0.5, "loss": 1.0})
    same = registry.diff("m@1.0.0", "n")
    assert (same.config, same.metrics, same.tensors, same.same_weights) == ({}, {}, {}, True)
    json.dumps(found.to_dict())


# Places


def test_a_registry_of_its_own_folder_has_everything_in_it_and_can_be_moved(tmp_path: Path) -> None:
    registry = zoo.ModelRegistry(tmp_path / "here")
    assert not registry.list()
    assert not (tmp_path / "here").exists()  # looking creates nothing
    register(registry, "1.0.0")
    (tmp_path / "here").rename(tmp_path / "the?re #1%")
    moved = zoo.ModelRegistry(tmp_path / "the?re #1%")
    assert value_of(moved.load("m")) == 0.0
    assert not zoo.ModelRegistry().list()
    with pytest.raises(zoo.NotFoundError):
        zoo.create("local/m")


def test_looking_needs_no_torch() -> None:
    zoo.register_model(pebble(1.0), name="m", version="1.0.0")
    code = (
        "import sys, zoo; r = zoo.ModelRegistry(); r.list(); r.promote('m', '^1', 'a'); r.show('m', 'a'); "
        "r.history('m'); r.diff('m', 'm@a'); print([n for n in ('torch', 'numpy', 'pydantic') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
