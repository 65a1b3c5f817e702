"""A recommendation is what its rules say, for any catalogue; and its reasons are the catalogue's facts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from catalog_rows import checkpoint
from recommend_rows import CONSTRAINTS, FEW, answer, figure, refs, weights

import zoo
from zoo.catalog.recommend_facts import without_twins
from zoo.catalog.recommend_words import Data
from zoo.errors import OptionError

Install = Callable[..., Path]


# The rules, one by one


def test_accuracy_alone_decides_where_accuracy_is_asked_for() -> None:
    rows = [weights("small"), weights("huge", figures=(figure(80.1),), params=10**9, macs=10**11)]
    assert refs(rows, "accuracy") == ["huge", "small"]
    assert refs(rows, "speed") == refs(rows, "memory") == refs(rows, "balanced") == ["small", "huge"]


def test_a_doubling_of_cost_has_to_buy_three_points_for_speed_and_memory() -> None:
    rows = [weights("small"), weights("big", params=20_000_000, macs=2 * 10**9, figures=(figure(82.9),))]
    assert refs(rows, "speed") == refs(rows, "memory") == ["small", "big"]
    rows[1] = rows[1]._replace(figures=(figure(83.1),))
    assert refs(rows, "speed") == refs(rows, "memory") == ["big", "small"]


def test_speed_looks_at_computation_and_memory_at_parameters() -> None:
    rows = [weights("quick", macs=10**8, params=10**8), weights("light", macs=10**10, params=10**6)]
    assert refs(rows, "speed") == ["quick", "light"]
    assert refs(rows, "memory") == ["light", "quick"]


def test_what_another_beats_in_every_respect_comes_after_what_nobody_beats() -> None:
    rows = [
        weights("good", figures=(figure(85.0),)),
        weights("beaten", figures=(figure(84.9),), macs=10**9 + 1),
        weights("cheap", figures=(figure(50.0),), macs=10**8),
    ]
    found = answer(rows, "speed")
    assert [(one.ref, one.beaten_by) for one in found] == [("good", ""), ("cheap", ""), ("beaten", "good")]
    assert "good is as accurate for no more computation" in found[2].reason


def test_equals_beat_each_other_not_and_stand_in_the_order_of_their_names() -> None:
    found = answer([weights("b"), weights("c"), weights("a")])
    assert [(one.ref, one.beaten_by) for one in found] == [("a", ""), ("b", ""), ("c", "")]


@pytest.mark.parametrize(
    ("constraint", "unknown"),
    [
        ("accuracy", {"figures": ()}),
        ("speed", {"macs": None}),
        ("memory", {"params": None}),
        ("balanced", {"macs": None}),
        ("balanced", {"params": None}),
        ("accuracy", {"figures": (figure(99.0, dataset="imagenet-v2/test"),)}),
        ("accuracy", {"figures": (figure(99.0, name="top5"),)}),
    ],
)
def test_what_is_unknown_is_never_preferred(constraint: str, unknown: dict[str, Any]) -> None:
    facts = {"figures": (figure(99.0),), "params": 1, "macs": 1, **unknown}
    found = answer([weights("mystery", **facts), weights("known"), weights("usual")], constraint)
    assert [one.ref for one in found] == ["known", "usual", "mystery"]
    assert "unknown" in found[2].reason
    assert "stands last" in found.explanation


def test_the_figure_at_the_weights_own_input_size_counts() -> None:
    row = weights("a", image_size=(384, 384), figures=(figure(80.0, size=224), figure(84.0, size=384)))
    (found,) = answer([row], "accuracy")
    assert found.figure == figure(84.0, size=384)
    assert "84.0 % top-1 on ImageNet-1k at 384 px" in found.reason


def test_accuracy_on_larger_images_than_were_counted_is_not_paid_for() -> None:
    rows = [weights("honest"), weights("flattered", figures=(figure(99.0, size=288),))]
    assert refs(rows, "speed") == refs(rows, "balanced") == ["honest", "flattered"]
    assert refs(rows, "memory") == refs(rows, "accuracy") == ["flattered", "honest"]
    smaller = weights("dear", image_size=(518, 518), figures=(figure(99.0, size=224),))
    found = answer([smaller, *rows], "speed")
    assert found[0].ref == "dear"
    assert "99.0 % top-1 on ImageNet-1k at 224 px, 10.0M parameters, 1.0 GMACs at 518 px" in found[0].reason


def test_a_zero_shot_figure_is_no_yardstick_and_another_figure_is_told() -> None:
    towers = [weights(f"clip{i}", figures=(figure(90.0, "zero_shot_top1"),)) for i in range(3)]
    found = answer([*towers, weights("dino", figures=(figure(80.0, "linear_top1"),))], "accuracy")
    assert [one.ref for one in found] == ["dino", "clip0", "clip1", "clip2"]
    assert found[0].reason.startswith("80.0 % linear-probe top-1 on ImageNet-1k at 224 px")
    stated = "(stated: 90.0 % zero-shot top-1 on ImageNet-1k at 224 px)"
    assert found[1].reason.startswith(f"linear-probe top-1 on ImageNet-1k unknown {stated}")


def test_a_family_answers_once_with_its_best() -> None:
    rows = [weights(f"vit_{i}", family="VisionTransformer", figures=(figure(80.0 + i),)) for i in range(3)]
    rows.append(weights("timm/vit_x", name="timm/vit_x", family="vision_transformer", figures=(figure(82.5),)))
    assert refs([*rows, weights("other")], "accuracy") == ["timm/vit_x", "other"]


def test_few_images_ask_for_broad_pretraining_first() -> None:
    rows = [weights("narrow", figures=(figure(90.0),)), weights("broad", trained_on=("imagenet-21k", "imagenet-1k"))]
    assert refs(rows, "accuracy", FEW) == ["broad", "narrow"]
    assert refs(rows, "accuracy") == refs(rows, "accuracy", Data(50_000, "50000 images")) == ["narrow", "broad"]


def test_narrow_weights_beat_no_broad_ones_where_these_come_first_anyway() -> None:
    rows = [
        weights("narrow", figures=(figure(90.0),)),
        weights("good", figures=(figure(85.0),), macs=2 * 10**9, trained_on=("imagenet-21k",)),
        weights("cheap", figures=(figure(60.0),), macs=10**8, trained_on=("imagenet-21k",)),
    ]
    assert refs(rows, "speed", FEW) == ["good", "cheap", "narrow"]
    assert refs(rows, "speed") == ["narrow", "cheap", "good"]


def test_few_images_keep_the_last_place_for_features_without_labels() -> None:
    rows = [weights(f"w{i}", figures=(figure(80.0 + i),)) for i in range(4)]
    features = {"task": "features", "figures": (), "named_classes": False}
    rows.append(weights("web", **features, trained_on=("webli",), params=1_000_000))
    rows.append(weights("dino", **features, trained_on=("lvd-142m",), family="w3"))
    rows.append(weights("mae", **features, trained_on=("imagenet-1k",)))
    assert refs(rows, "accuracy", FEW, count=3) == ["w3", "w2", "dino"]
    assert refs(rows, "accuracy", FEW, count=1) == ["w3"]
    assert refs(rows, "accuracy", count=9) == ["w3", "w2", "w1", "w0"]


def test_no_images_leave_only_named_classes_and_say_what_is_missing() -> None:
    found = answer([weights("named"), weights("nameless", named_classes=False)], data=Data(0, ""), labels=True)
    assert [one.ref for one in found] == ["named"]
    assert "zero-shot" in found.explanation
    assert "not available yet" in found.explanation


@pytest.mark.parametrize(
    ("images", "advice"),
    [(1, "linear probe"), (1_999, "linear probe"), (2_000, "a linear probe first"), (20_000, "fine-tuning all of it")],
)
def test_the_advice_follows_the_amount_of_images(images: int, advice: str) -> None:
    (found,) = answer([weights("a")], data=Data(images, f"{images} images"))
    assert f"for {images} images: " in found.reason
    assert advice in found.reason
    assert "frozen" in found.reason or images >= 2_000


# Twins


def test_the_same_file_is_listed_once_under_its_curated_name() -> None:
    timm = weights("timm/vit_base", name="timm/vit_base", addresses=("hf://timm/vit/model.safetensors",), macs=5)
    ours = weights("vit_b_16", name="vit/vit_b_16", addresses=("pkg://x/y", *timm.addresses), macs=None)
    for rows in ([timm, ours], [ours, timm]):
        (kept,) = without_twins(rows)
        assert (kept.ref, kept.macs) == ("vit_b_16", 5)
    (kept,) = without_twins([timm, ours._replace(image_size=(384, 384))])
    assert kept.macs is None, "computation counted at another size is another figure"


def test_of_twins_the_installed_one_is_named() -> None:
    timm = weights("timm/a", name="timm/a", addresses=("hf://timm/a/f",))
    ours = weights("a", addresses=("hf://timm/a/f",), status="available", fix="pip install zoo-cnn")
    assert [one.ref for one in without_twins([ours, timm])] == ["timm/a"]


# From manifests


def row(name: str, **fields: Any) -> dict[str, Any]:
    """A model with one checkpoint of 80 % top-1; `top1`, `license`, `labels` and others are the checkpoint's."""
    of_checkpoint = {k: fields.pop(k) for k in ("license", "labels", "trained_on", "gated", "input") if k in fields}
    metric = {
        "name": "top1",
        "value": fields.pop("top1", 80.0),
        "dataset": "imagenet-1k/val",
        "conditions": {"image_size": 224},
    }
    sources = fields.pop("sources", [f"hf://org/{name}/model.safetensors"])
    weights = checkpoint("a", **{"sources": sources, "metrics": [metric], "labels": "imagenet_1k", **of_checkpoint})
    counted = {"params": 25_600_000, "macs": 4_100_000_000}
    return {"name": name, "family": name, **counted, "checkpoints": [weights], **fields}


def test_the_reason_is_made_of_the_rows_facts(install: Install) -> None:
    install("acme", row("net", top1=95.1, trained_on=["imagenet-21k", "imagenet-1k"]))
    (found,) = zoo.recommend(constraint="accuracy", data=500, limit=1)
    assert found.ref == "acme/net"
    assert found.reason == (
        "95.1 % top-1 on ImageNet-1k at 224 px, 25.6M parameters, 4.1 GMACs, Apache-2.0, trained on imagenet-21k, then "
        "imagenet-1k; for 500 images: frozen embeddings and a linear probe"
    )
    assert str(found) == f"acme/net: {found.reason}"


def test_licences_that_bind_and_gates_are_said(install: Install) -> None:
    install("acme", row("net", top1=99.0, license="CC-BY-NC-4.0", gated=True))
    (found,) = zoo.recommend(constraint="accuracy", limit=1)
    assert "CC-BY-NC-4.0 (non-commercial), to be accepted at the host" in found.reason
    assert "acme/net" not in [one.ref for one in zoo.recommend(constraint="accuracy", license="permissive")]


def test_computation_is_known_only_at_the_size_it_was_counted_at(install: Install) -> None:
    install("acme", row("net", top1=99.0, input={"size": [384, 384]}))
    (found,) = zoo.recommend(constraint="accuracy", installed=True)
    assert "computation unknown" in found.reason
    assert not zoo.recommend(max_macs="10G", installed=True)


def test_weights_that_are_not_the_default_are_named(install: Install) -> None:
    net = row("net", top1=70.0)
    net["checkpoints"].append({**row("net", top1=99.0)["checkpoints"][0], "name": "better", "sources": ["hf://a/b/c"]})
    install("acme", net)
    (found,) = zoo.recommend(constraint="accuracy", installed=True)
    assert found.ref == "acme/net.better"
    assert zoo.info(found.ref).checkpoint.name == "better"


def test_a_revision_in_an_address_makes_no_other_file(install: Install) -> None:
    install("timm", row("vit_base", sources=["hf://timm/vit@main/model.safetensors"]))
    install("vit", row("vit_b_16", sources=["hf://timm/vit/model.safetensors"]))
    assert [one.ref for one in zoo.recommend(installed=True)] == ["vit_b_16"]


def test_what_is_not_installed_is_answered_with_the_command_that_installs_it(install: Install) -> None:
    install("acme", row("net", top1=1.0))
    found = zoo.recommend(constraint="accuracy", license="permissive", max_params="30M")
    assert {one.install for one in found} == {f"pip install zoo-{one.weights.name.partition('/')[0]}" for one in found}
    assert all(one.figure and one.figure.value > 80 for one in found)
    (here,) = zoo.recommend(installed=True)
    assert (here.ref, here.install) == ("acme/net", "")


def test_a_plugin_set_aside_is_not_recommended(install: Install) -> None:
    install("acme", row("net"), requires=["no_such_package_anywhere"])
    assert not zoo.recommend(installed=True)
    assert "acme/net" not in [one.ref for one in zoo.recommend(limit=1000)]


def test_timms_test_fixtures_are_not_recommended(install: Install) -> None:
    install("timm", row("test_vit", top1=99.9), row("tested_net"))
    install("acme", row("test_net"))
    assert {one.ref for one in zoo.recommend(installed=True)} == {"timm/tested_net", "acme/test_net"}


def test_models_without_weights_are_not_recommended(install: Install) -> None:
    install("acme", {"name": "bare", "params": 1, "macs": 1, "task": "depth"}, row("net"))
    with pytest.raises(OptionError, match="depth"):
        zoo.recommend("depth")
    assert [one.ref for one in zoo.recommend(installed=True)] == ["acme/net"]


@pytest.mark.parametrize(
    ("limits", "explanation"),
    [
        ({"max_params": 20_000_000}, "net, shut out by max_params 20.0M: it has 25.6M"),
        ({"max_macs": 10}, "net, shut out by max_macs 10 MACs: it takes 4.1 GMACs"),
        ({"max_macs": 10**9}, "net, shut out by max_macs 1.0 GMACs: it takes 4.1 GMACs"),
        ({"max_params": 10**7, "license": "copyleft"}, "gpl, shut out by max_params 10.0M: it has 30.0M"),
        ({"license": "GPL-2.0"}, "net, shut out by license GPL-2.0: it has MIT (permissive)"),
        (
            {"max_params": 10**8, "installed": True, "license": "permissive"},
            "net, shut out by installed: it is not (get it)",
        ),
        ({"max_params": 10**6, "installed": True}, "gpl, shut out by max_params 1.0M: it has 30.0M"),
    ],
)
def test_where_nothing_fits_the_limit_that_shut_out_the_nearest_is_named(
    limits: dict[str, Any], explanation: str
) -> None:
    rows = [
        weights("gpl", license="GPL-3.0", license_class="copyleft", params=30_000_000, macs=5 * 10**9),
        weights("net", params=25_600_000, macs=4_100_000_000, status="available", fix="get it"),
        weights(
            "mystery",
            params=None,
            macs=None,
            status="available",
            fix="get it",
            license="unknown",
            license_class="unknown",
        ),
    ]
    found = answer(rows, **limits)
    assert len(found) == 0
    assert not found
    assert explanation in found.explanation


def test_nearest_may_be_what_is_only_not_installed(install: Install) -> None:
    install("acme", row("net"))
    found = zoo.recommend(installed=True, max_params="20M")
    assert "shut out by installed: it is not (pip install zoo-" in found.explanation


def test_answers_are_plain_data_for_programs(install: Install) -> None:
    install("acme", row("net"))
    found = zoo.recommend(installed=True, max_params="30M", data="small")
    told = json.loads(json.dumps(found.to_dict()))
    assert told["asked"]["max_params"] == 30_000_000
    assert told["answers"][0]["ref"] == "acme/net"
    assert told["answers"][0]["facts"]["params"] == 25_600_000
    assert told["answers"][0]["figure"]["value"] == 80.0
    assert str(found).endswith(found.explanation)


@pytest.mark.parametrize(
    ("criteria", "message"),
    [
        ({"task": "clasification"}, "did you mean 'classification'"),
        ({"task": "depth"}, "classification, "),
        ({"constraint": "sped"}, "did you mean 'speed'"),
        ({"constraint": "cheapness"}, "accuracy, balanced, memory, speed"),
        ({"license": "permisive"}, "did you mean 'permissive'"),
        ({"data": "some"}, "none, small, large"),
        ({"data": -1}, "none, small, large"),
        ({"data": True}, "none, small, large"),
        ({"data": 3.7}, "none, small, large"),
        ({"installed": "no"}, "True or False"),
        ({"data": float("inf")}, "none, small, large"),
        ({"max_params": "many"}, "max_params"),
        ({"max_macs": "many"}, "max_macs"),
        ({"limit": 0}, "limit"),
    ],
)
def test_a_criterion_that_does_not_exist_is_an_error_that_says_which_do(
    install: Install, criteria: dict[str, Any], message: str
) -> None:
    install("acme", row("net"))
    with pytest.raises(OptionError) as raised:
        zoo.recommend(**criteria)
    assert message in str(raised.value)


def test_the_workspace_has_an_answer_for_every_constraint_and_amount() -> None:
    """From the snapshot alone, every first-party plugin being absent here."""
    for constraint in CONSTRAINTS:
        for data in (None, "none", 100, "large"):
            found = zoo.recommend(constraint=constraint, data=data, license="permissive", max_params="100M")
            assert len(found) == 5
            assert all(one.weights.license_class == "permissive" for one in found)
            assert all(one.weights.params <= 100_000_000 for one in found)
            assert all(one.install for one in found)
