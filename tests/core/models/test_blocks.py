"""The classification head: late-bound or not, on maps, on a map, on embeddings."""

from __future__ import annotations

import pytest
import torch

from zoo.errors import InputError, OptionError, UnsupportedError
from zoo.models.blocks import ClassificationHead
from zoo.models.classifier import checked_cross_entropy, classification_losses


def test_a_head_learns_its_width_from_the_backbone():
    head = ClassificationHead(num_classes=10)
    head.bind([64, 128, 256], [8, 16, 32])
    maps = [torch.rand(2, c, s, s) for c, s in ((64, 8), (128, 4), (256, 2))]
    outputs = head(maps)
    assert set(outputs) == {"embeddings", "logits"}
    assert torch.allclose(outputs["embeddings"], maps[-1].flatten(2).mean(2))
    assert torch.allclose(outputs["logits"], head.classifier(outputs["embeddings"]))
    assert outputs["logits"].shape == (2, 10)


def test_a_head_with_in_features_is_ready_at_once():
    head = ClassificationHead(in_features=2048, num_classes=10)
    assert sorted(head.state_dict()) == ["classifier.bias", "classifier.weight"]
    vectors = torch.rand(3, 2048)
    assert torch.equal(head(vectors)["embeddings"], vectors)
    assert head([vectors])["logits"].shape == (3, 10)
    assert head(torch.rand(3, 2048, 7, 7))["logits"].shape == (3, 10)


def test_binding_again_keeps_the_weights():
    head = ClassificationHead({"num_classes": 10, "in_features": 8})
    before = head.classifier.weight.clone()
    head.bind([4, 8], [1, 2])
    assert torch.equal(head.classifier.weight, before)


def test_a_backbone_of_another_width_is_refused():
    with pytest.raises(OptionError, match=r"takes 8 features, .* has 16"):
        ClassificationHead(num_classes=10, in_features=8).bind([16], [32])


def test_an_unbound_head_says_what_it_needs():
    with pytest.raises(UnsupportedError, match="does not know its input") as error:
        ClassificationHead(num_classes=10)([torch.rand(1, 8, 2, 2)])
    assert "in_features" in str(error.value.fix)


@pytest.mark.parametrize("options", [{"num_classes": 0}, {"in_features": 0}, {"num_clases": 3}])
def test_wrong_options_are_refused(options):
    with pytest.raises(OptionError):
        ClassificationHead(**options)


def test_the_head_exports_and_trains():
    head = ClassificationHead(num_classes=3, in_features=8)
    exported = torch.export.export(head, ([torch.rand(2, 8, 4, 4)],))
    maps = [torch.rand(2, 8, 4, 4)]
    assert torch.allclose(exported.module()(maps)["logits"], head(maps)["logits"])
    head(maps)["logits"].sum().backward()
    assert head.classifier.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("maps", [[], torch.rand(2, 2048), torch.rand(2, 20, 4), [torch.rand(2, 8, 4, 4)]])
def test_a_head_says_what_it_takes(maps):
    with pytest.raises(InputError, match="expected"):
        ClassificationHead(in_features=20)(maps)


def test_a_bound_head_is_saved_and_opened(tmp_path):
    head = ClassificationHead(num_classes=3)
    head.bind([8, 16], [16, 32])
    head.save_pretrained(tmp_path / "head")
    again = ClassificationHead.from_pretrained(tmp_path / "head")
    maps = torch.rand(2, 16, 4, 4)
    assert torch.equal(again([maps])["logits"], head([maps])["logits"])


@pytest.mark.parametrize(
    "targets",
    [
        [0, 1],
        torch.tensor([0, 3]),
        torch.tensor([0, -1]),
        torch.tensor([0, 1, 2]),
        torch.tensor([0, 1], dtype=torch.int32),
        torch.tensor([[0], [1]]),
        torch.tensor([[1, 0, 0], [0, 1, 0]]),
        torch.rand(2, 4),
        torch.rand(2),
    ],
)
def test_targets_that_are_none_are_refused(targets):
    with pytest.raises(InputError, match="class"):
        classification_losses(torch.rand(2, 3), targets)


def test_ids_and_probabilities_cost_the_same_and_ids_left_out_cost_nothing():
    logits, ids = torch.rand(3, 4), torch.tensor([1, 3, 0])
    loss = checked_cross_entropy(logits, ids)
    torch.testing.assert_close(loss, checked_cross_entropy(logits, torch.nn.functional.one_hot(ids).float()))
    left_out = checked_cross_entropy(logits, torch.tensor([1, 3, -100]))
    torch.testing.assert_close(left_out, checked_cross_entropy(logits[:2], ids[:2]))


def test_the_checked_loss_is_one_graph():
    logits, ids = torch.rand(3, 4), torch.tensor([1, 3, 0])
    compiled = torch.compile(checked_cross_entropy, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(logits, ids), checked_cross_entropy(logits, ids))
