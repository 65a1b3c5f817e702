"""What a reference means; and where it means nothing, what is said instead."""

from __future__ import annotations

import json
import string
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest
from catalog_rows import checkpoint
from hypothesis import HealthCheck, example, given, settings, strategies as st

import zoo
from synthetic_plugins import Site, manifest_of
from zoo.catalog import open_catalog
from zoo.catalog.names import BARE
from zoo.errors import (
    AmbiguousNameError,
    NotFoundError,
    PluginError,
    RefError,
    UnsupportedError,
    ZooError,
)
from zoo.specs import ModelSpec

Install = Callable[..., Path]


def resolve(text: str) -> str:
    return open_catalog().resolve(text).ref


def miss(text: str, kind: type[ZooError] = NotFoundError) -> ZooError:
    with pytest.raises(kind) as raised:
        open_catalog().resolve(text)
    assert type(raised.value) is kind
    return raised.value


@pytest.fixture
def zoo_of_two(install: Install) -> None:
    """A first-party plugin and a stranger's that has the same name."""
    swin = {
        "name": "swin_b",
        "version": 3,
        "params": 7,
        "config": {"depth": 3},
        "aliases": ["swin_base", "microsoft/swin-base"],
        "checkpoints": [checkpoint("in1k", aliases=["swin_b_1k"]), checkpoint("in22k", num_classes=21841)],
    }
    schema = {"zoo_vit.tiny:Tiny": {"type": "object", "properties": {"depth": {"type": "integer"}}}}
    install("vit", swin, "plain", schemas=schema)
    install("acme", {"name": "swin_b", "aliases": ["swin_c", "facebook/detr"]}, "own")


@pytest.mark.parametrize(
    ("text", "ref"),
    [
        ("swin_b", "vit/swin_b.in1k@3"),
        ("vit/swin_b", "vit/swin_b.in1k@3"),
        ("swin_b.in22k", "vit/swin_b.in22k@3"),
        ("vit/swin_b.in22k@3", "vit/swin_b.in22k@3"),
        ("swin_b@3", "vit/swin_b.in1k@3"),
        ("plain", "vit/plain@1"),
        ("acme/swin_b", "acme/swin_b@1"),
        ("acme/own@1", "acme/own@1"),
        ("swin_base", "vit/swin_b.in1k@3"),
        ("swin_base.in22k@3", "vit/swin_b.in22k@3"),
        ("vit/swin_base.in22k", "vit/swin_b.in22k@3"),
        ("microsoft/swin-base", "vit/swin_b.in1k@3"),
        ("vit/microsoft/swin-base", "vit/swin_b.in1k@3"),
        ("swin_b_1k", "vit/swin_b.in1k@3"),
        ("acme/swin_c", "acme/swin_b@1"),
        ("acme/facebook/detr", "acme/swin_b@1"),
    ],
)
def test_a_reference_leads_to_its_model(zoo_of_two: None, text: str, ref: str) -> None:
    assert resolve(text) == ref
    assert resolve(ref) == ref


def test_a_resolved_reference_has_all_that_building_needs(zoo_of_two: None) -> None:
    default, named, alias = (open_catalog().resolve(text) for text in ("swin_b", "swin_b.in22k", "swin_b_1k"))
    assert (default.named_checkpoint, named.named_checkpoint, alias.named_checkpoint) == (False, True, True)
    assert named.checkpoint is not None
    assert named.checkpoint.num_classes == 21841
    assert (default.model.config, default.model.params) == ({"depth": 3}, 7)
    assert default.schema["properties"]["depth"] == {"type": "integer"}
    assert (default.plugin.distribution, default.plugin.state) == ("zoo-vit", "ok")
    assert open_catalog().resolve("plain").checkpoint is None


def test_a_stranger_never_changes_what_a_bare_name_means(zoo_of_two: None) -> None:
    assert resolve("swin_b") == "vit/swin_b.in1k@3"
    for bare in ("own", "swin_c", "facebook/detr"):
        miss(bare)
    assert "acme/own" in miss("own").message


@pytest.mark.parametrize("namespace", ["timm", "acme", "zoo_vit", "vit2"])
def test_nobodys_names_but_ours_are_bare(install: Install, namespace: str) -> None:
    assert namespace not in BARE
    install(namespace, {"name": "some_model", "aliases": ["published"]})
    assert f"{namespace}/some_model" in miss("some_model").message
    miss("published")


def test_a_distribution_that_takes_anothers_namespace_changes_nothing(site: Site, install: Install) -> None:
    install("vit", "swin_b")
    site.plugin("vit", distribution="zoo-evil", models=[{"name": "evil", "factory": "zoo_evil.tiny:Tiny"}])
    assert resolve("swin_b") == "vit/swin_b@1"
    assert [row.ref for row in open_catalog().list_models("*", plugin="vit")] == ["swin_b"]
    miss("vit/evil")
    assert {(p.distribution, p.state) for p in zoo.plugins()} == {("zoo-vit", "ok"), ("zoo-evil", "namespace-conflict")}


def test_a_name_of_two_first_party_plugins_is_ambiguous_and_names_both(install: Install) -> None:
    install("vit", {"name": "twin", "aliases": ["also"]})
    install("explain", {"name": "twin"}, {"name": "other", "aliases": ["also"]})
    error = miss("twin", AmbiguousNameError)
    assert "vit/twin" in str(error.found)
    assert "explain/twin" in str(error.found)
    miss("also", AmbiguousNameError)
    assert resolve("vit/twin") == "vit/twin@1"
    assert resolve("explain/also") == "explain/other@1"


def test_what_can_be_built_comes_before_what_is_set_aside_and_that_before_what_is_not_installed(
    install: Install,
) -> None:
    install("vit", "twin", "resnet50", requires=["no_such_package_anywhere"])
    assert miss("resnet50", PluginError).fix == "pip install zoo-vit"  # not the snapshot's, whose name it is too
    install("explain", "twin")
    assert resolve("twin") == "explain/twin@1"


def test_a_model_and_a_head_may_share_a_name(install: Install) -> None:
    install("vit", {"name": "both", "params": 1}, {"name": "both", "kind": "head", "params": 2})
    catalog = open_catalog()
    assert catalog.resolve("both").model.params == 1
    assert catalog.resolve("both", kinds=("head",)).model.params == 2
    assert catalog.list_models("both", installed=True)[0].ref == "both"
    with pytest.raises(NotFoundError, match="neck"):
        catalog.resolve("both", kinds=("neck",))


def test_a_misspelt_name_gets_a_suggestion(zoo_of_two: None) -> None:
    error = miss("swinb")
    assert "did you mean swin_b" in error.message
    assert error.fix == "swin_b"
    assert miss("acme/onw").fix == "acme/own"
    assert "microsoft/swin-base" in open_catalog().suggest("microsoft/swin-bse")


@pytest.mark.parametrize("text", ["Swin-B", "Swin_B", "swin_b "])
def test_a_name_that_only_its_spelling_makes_invalid_gets_one_too(zoo_of_two: None, text: str) -> None:
    error = miss(text, RefError)
    assert "^" in error.message
    assert error.fix == "swin_b"


def test_the_right_name_under_the_wrong_plugin_is_found(zoo_of_two: None) -> None:
    assert "acme/own" in miss("vit/own").message


def test_a_bare_name_that_only_timm_has_is_offered_with_its_checkpoint(install: Install) -> None:
    install("timm", {"name": "levit_128", "checkpoints": [checkpoint("fb_in1k")]})
    assert miss("levit_128.fb_in1k").fix == "timm/levit_128.fb_in1k"


def test_an_unknown_checkpoint_lists_those_there_are(zoo_of_two: None) -> None:
    error = miss("swin_b.in12k")
    assert error.found == "in1k, in22k"
    assert error.fix in ("vit/swin_b.in1k", "vit/swin_b.in22k")
    assert "no published weights" in miss("plain.in1k").message


def test_another_version_says_which_is_installed(zoo_of_two: None) -> None:
    assert "version 3 is installed" in miss("swin_b@2").message
    assert "version 3 is installed" in miss("swin_b.in1k@4").message


def test_a_model_that_is_not_installed_says_what_to_install() -> None:
    for text in ("resnet50", "cnn/resnet50", "resnet50.a1_in1k", "cnn/resnet50@1"):
        error = miss(text)
        assert error.fix == "pip install zoo-cnn"
        assert "zoo-cnn" in error.message


def test_a_near_miss_of_what_is_not_installed_is_suggested_too(install: Install) -> None:
    install("acme", "unrelated")
    assert "resnet50" in miss("resnet5O".lower()).message


def test_an_unknown_plugin_says_what_would_be_installed(zoo_of_two: None) -> None:
    error = miss("some_plugin/model")
    assert error.fix == "pip install zoo-some-plugin"
    assert "did you mean 'acme'?" in miss("acmee/own").message


@pytest.mark.parametrize("text", ["tiny", "vit/tiny", "vit/anything"])
def test_a_plugin_set_aside_says_why_and_what_mends_it(install: Install, text: str) -> None:
    install("vit", "tiny", requires=["no_such_package_anywhere"])
    if text == "vit/anything":
        error = miss(text, PluginError)
    else:
        error = miss(text, PluginError)
        assert isinstance(error, PluginError)
        assert (error.namespace, error.state) == ("vit", "missing-deps")
    assert "no_such_package_anywhere" in str(error)
    assert error.fix == "pip install zoo-vit"


def test_a_bare_miss_names_the_plugin_set_aside_that_might_have_it(site: Site) -> None:
    site.plugin("vit", "this is no manifest")
    error = miss("novit_tiny")
    assert "zoo-vit might have it, but is invalid-manifest: not JSON" in error.message
    assert "zoo-vit" in str(error.fix)


def test_a_strangers_broken_plugin_is_named_where_it_is_asked_for_and_nowhere_else(site: Site) -> None:
    site.plugin("acme", "this is no manifest")
    error = miss("acme/tiny", PluginError)
    assert "invalid-manifest" in error.message
    assert "acme" not in miss("hivit_tiny").message


def test_what_the_snapshot_knows_of_a_broken_plugin_is_blamed_on_it(site: Site) -> None:
    site.plugin("cnn", "this is no manifest")
    error = miss("resnet50", PluginError)
    assert "zoo-cnn" in error.message
    assert "invalid-manifest" in error.message
    info = zoo.info("resnet50")
    assert (info.status, info.complete) == ("invalid-manifest", False)
    assert info.fix


def test_what_is_switched_off_says_how_to_switch_it_on(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install("cnn", "resnet50")
    monkeypatch.setenv("ZOO_NO_PLUGINS", "1")
    assert miss("resnet50", PluginError).fix == "unset ZOO_NO_PLUGINS"


def test_info_is_everything_on_the_spec_and_its_standing(zoo_of_two: None) -> None:
    info = zoo.info("swin_b.in22k")
    everything = info.to_dict()
    assert {f.name for f in fields(ModelSpec)} <= set(everything)
    assert (everything["ref"], everything["status"], everything["checkpoint"]) == (
        "vit/swin_b.in22k@3",
        "installed",
        "in22k",
    )
    assert everything["license"] == "Apache-2.0"  # also what the manifest leaves out, being the default
    assert everything["plugin"]["distribution"] == "zoo-vit"
    assert json.loads(json.dumps(everything))["checkpoints"][1]["name"] == "in22k"
    assert (info.complete, info.reason, info.fix) == (True, "", "")


def test_info_of_what_is_not_installed_tells_what_is_known_and_how_to_get_it() -> None:
    info = zoo.info("resnet50")
    assert (info.status, info.complete, info.fix) == ("available", False, "pip install zoo-cnn")
    assert info.model.params == 25_557_032
    assert info.model.checkpoints


@pytest.mark.parametrize("text", ["hf://org/repo@main", "file://weights.safetensors"])
def test_an_external_reference_is_said_to_be_one(text: str) -> None:
    for ask in (zoo.info, open_catalog().resolve):
        with pytest.raises(UnsupportedError, match="outside the catalogue"):
            ask(text)


@pytest.mark.parametrize("manifest", [None, "{}", "[]", "\0", "{" * 100_000, json.dumps(manifest_of("bad", models=7))])
def test_one_broken_plugin_hides_nothing_of_the_others(site: Site, install: Install, manifest: str | None) -> None:
    install("acme", "tiny")
    site.plugin("bad", ... if manifest is None else manifest)
    assert resolve("acme/tiny") == "acme/tiny@1"
    assert zoo.list_models() == ["acme/tiny"]
    (bad,) = (plugin for plugin in zoo.plugins() if plugin.namespace == "bad")
    assert bad.state in ("invalid-manifest", "manifest-missing")
    assert bad.reason
    assert bad.fix


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.text()
    | st.text(string.printable)
    | st.lists(
        st.sampled_from(["swin_b", "vit", "acme", "/", ".", "@", "1", "in1k", "own", "-", "%", "'", '"', ";"])
    ).map("".join)
    | st.none()
    | st.integers()
    | st.binary()
)
@example("x" * 100_000)
@example("'; DROP TABLE models; --")
@example("\ud800")
@example("a/\0")
@example("*")
def test_junk_raises_only_zoo_errors_that_say_what_to_do(zoo_of_two: None, junk: object) -> None:
    catalog = open_catalog()
    for ask in (catalog.resolve, catalog.info):
        try:
            ask(junk)  # type: ignore[arg-type]  # junk is the point
        except ZooError as error:
            message, fix = str(error), error.fix
            assert len(message) < 3000 and fix  # noqa: PT018  # one claim about one message
    if isinstance(junk, str):
        assert all(isinstance(near, str) for near in catalog.suggest(junk))


def test_of_equally_near_names_ours_come_before_timms_and_names_before_aliases(install: Install) -> None:
    install("vit", {"name": "vit_b_16"}, {"name": "sam_encoder_h"}, {"name": "tower_b_16", "aliases": ["ViT-B/16"]})
    install("timm", "davit_huge", "vit_b_17")
    catalog = open_catalog()
    for typed in ("vit_b16", "vitb16", "vit_b_1"):
        assert catalog.suggest(typed)[0] == "vit_b_16"
    assert catalog.suggest("sam_vit_h")[0] == "sam_encoder_h"
    assert catalog.suggest("davit_hug")[0] == "timm/davit_huge"
