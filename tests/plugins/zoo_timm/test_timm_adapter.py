"""TimmModel and TimmBackbone on tiny architectures: what they give, and what they say to bad input."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from zoo.errors import InputError, OptionError, UnsupportedError
from zoo_timm.adapter import TimmBackbone, TimmModel
from zoo_timm.encoders import build_encoder

IMAGES = torch.rand(2, 3, 64, 64)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def test_it_gives_logits_and_embeddings() -> None:
    outputs = TimmModel(architecture="test_resnet", num_classes=7).eval()(IMAGES)
    assert {name: tuple(t.shape) for name, t in outputs.items()} == {"embeddings": (2, 96), "logits": (2, 7)}


def test_features_are_every_map_from_one_pass_of_the_trunk() -> None:
    model = TimmModel(architecture="test_resnet", num_classes=7).eval()
    passes = []
    model.encoder.conv1.register_forward_hook(lambda *_: passes.append(1))
    outputs = model(IMAGES, output_features=True)
    assert [tuple(m.shape) for m in outputs["features"]] == [
        (2, 32, 32, 32),
        (2, 32, 16, 16),
        (2, 48, 8, 8),
        (2, 192, 4, 4),
        (2, 96, 2, 2),
    ]
    assert len(passes) == 1
    assert torch.equal(outputs["logits"], model(IMAGES)["logits"])


def test_targets_give_the_loss() -> None:
    model = TimmModel(architecture="test_resnet", num_classes=7).eval()
    targets = torch.tensor([3, 0])
    outputs = model(IMAGES, targets)
    expected = nn.functional.cross_entropy(outputs["logits"], targets)
    assert torch.equal(outputs["loss"], expected)
    assert torch.equal(outputs["loss_classification"], expected)


def test_without_a_classifier_there_are_no_logits_and_a_loss_is_refused() -> None:
    model = TimmModel(architecture="test_resnet", num_classes=0).eval()
    assert set(model(IMAGES)) == {"embeddings"}
    with pytest.raises(UnsupportedError, match="reset_head"):
        model(IMAGES, torch.tensor([3, 0]))


@pytest.mark.parametrize("architecture", ["test_resnet", "test_vit", "test_vit3", "mobilenetv3_small_050"])
def test_the_backbone_embeds_as_the_classifier_does(architecture: str) -> None:
    model = TimmModel(architecture=architecture, num_classes=5).eval()
    backbone = TimmModel.as_backbone(model.config).eval()
    backbone.load_state_dict(backbone.key_maps()["timm"].load(model.encoder.state_dict()).tensors)
    images = torch.rand(1, 3, *model.input_spec.size)
    with torch.inference_mode():
        embeddings = model.embed(images)
        assert torch.equal(embeddings, model(images)["embeddings"])
        assert torch.equal(embeddings, backbone.embed(images))


def test_the_backbones_state_is_the_classifiers_less_its_head() -> None:
    model = TimmModel(architecture="test_resnet", num_classes=5)
    backbone = TimmModel.as_backbone(model.config)
    assert set(model.state_dict()) - set(backbone.state_dict()) == {"encoder.fc.weight", "encoder.fc.bias"}
    assert not set(backbone.state_dict()) - set(model.state_dict())


@pytest.mark.parametrize(
    ("architecture", "channels", "strides"),
    [
        ("resnet50", (64, 256, 512, 1024, 2048), (2, 4, 8, 16, 32)),
        ("swin_tiny_patch4_window7_224", (96, 192, 384, 768), (4, 8, 16, 32)),
        ("vit_base_patch16_224", (768,), (16,)),
        ("tresnet_m", (64, 128, 1024, 2048), (4, 8, 16, 32)),
    ],
)
def test_by_default_a_backbone_gives_the_last_map_of_each_stride(
    architecture: str, channels: tuple[int, ...], strides: tuple[int, ...]
) -> None:
    with torch.device("meta"):
        backbone = TimmBackbone(architecture=architecture).eval()
        maps = backbone(torch.rand(1, 3, 224, 224))
    assert (backbone.channels, backbone.strides) == (channels, strides)
    assert [(m.shape[1], 224 // m.shape[2]) for m in maps] == list(zip(channels, strides, strict=True))


@pytest.mark.parametrize("architecture", ["test_resnet", "test_vit", "test_coatnet"])
def test_chosen_maps_are_those_of_the_full_list(architecture: str) -> None:
    model = TimmModel(architecture=architecture).eval()
    images = torch.rand(1, 3, *model.input_spec.size)
    backbone = TimmModel.as_backbone(model.config, out_indices=(1, -2)).eval()
    backbone.load_state_dict(backbone.key_maps()["timm"].load(model.encoder.state_dict()).tensors)
    with torch.inference_mode():
        every, chosen = model(images, output_features=True)["features"], backbone(images)
    assert all(map(torch.equal, chosen, [every[1], every[-2]]))


@pytest.mark.parametrize("indices", [(5,), (-6,), (3, 1), (1, 1), ()])
def test_impossible_indices_are_answered_with_the_maps_there_are(indices: tuple[int, ...]) -> None:
    with pytest.raises(OptionError, match=r"test_resnet gives 5 maps") as caught:
        TimmBackbone(architecture="test_resnet", out_indices=indices)
    assert "4: 96 channels at stride 32" in str(caught.value)


def test_a_misspelt_architecture_gets_near_names() -> None:
    with pytest.raises(OptionError, match="resnet50") as caught:
        TimmModel(architecture="resnet55")
    assert caught.value.fix == 'architecture="resnet50"'


def test_an_architecture_cannot_reach_the_network() -> None:
    with pytest.raises(OptionError, match="pattern"):
        TimmModel(architecture="hf-hub:timm/resnet18.a1_in1k")


def test_an_option_the_architecture_lacks_is_refused() -> None:
    with pytest.raises(OptionError, match="drop_path_rate"):
        TimmModel(architecture="vgg11", drop_path_rate=0.1)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.rand(3, 64, 64), r"batch of images \(B, 3, H, W\)"),
        (torch.rand(0, 3, 64, 64), r"batch of images \(B, 3, H, W\)"),
        (torch.rand(2, 1, 64, 64), r"batch of images \(B, 3, H, W\)"),
        (torch.zeros(2, 3, 64, 64, dtype=torch.uint8), "floating-point"),
        (torch.zeros(2, 3, 64, 64, dtype=torch.float64), "float32"),
    ],
)
def test_images_of_another_shape_or_dtype_are_refused(images: torch.Tensor, message: str) -> None:
    model = TimmModel(architecture="test_resnet")
    for call in (model, model.embed, TimmModel.as_backbone(model.config), TimmModel.as_backbone(model.config).embed):
        with pytest.raises(InputError, match=message):
            call(images)


def test_a_fixed_size_model_says_which_size_it_takes() -> None:
    model = TimmModel(architecture="vit_tiny_patch16_224").eval()
    with pytest.raises(InputError, match="224 x 224") as caught:
        model(torch.rand(1, 3, 64, 96))
    assert caught.value.fix == "image_size=(64, 96) builds a model for them"
    model = TimmModel(architecture="vit_tiny_patch16_224", image_size=(64, 96)).eval()
    assert model.input_spec.size == (64, 96)
    assert model(torch.rand(1, 3, 64, 96))["logits"].shape == (1, 1000)


def test_a_model_of_whole_patches_says_which_multiples_it_takes() -> None:
    model = TimmModel(architecture="test_vit").eval()
    assert model.input_spec.divisor == 16
    assert model(torch.rand(1, 3, 64, 96))["logits"].shape == (1, 1000)
    with pytest.raises(InputError, match="multiples of 16") as caught:
        model(torch.rand(1, 3, 64, 100))
    assert caught.value.fix == "pad or resize to 64 x 112"


@pytest.mark.parametrize(
    ("architecture", "divisor"), [("halonet26t", 256), ("dla34", 32), ("tresnet_m", 4), ("resnet18", 1), ("vgg11", 1)]
)
def test_multiples_are_those_the_family_needs(architecture: str, divisor: int) -> None:
    with torch.device("meta"):
        assert TimmBackbone(architecture=architecture).input_spec.divisor == divisor


def test_another_description_of_the_input_does_not_change_what_the_encoder_takes() -> None:
    model = TimmModel(architecture="vit_tiny_patch16_224").eval()
    model.input_spec = model.input_spec.with_size(64, 64)
    with pytest.raises(InputError, match="224 x 224"):
        model(torch.rand(1, 3, 64, 64))


@pytest.mark.parametrize(
    ("architecture", "size"), [("nest_tiny", 100), ("hiera_tiny_224", 100), ("vit_tiny_patch16_224", 7)]
)
def test_a_size_the_family_cannot_take_is_refused_when_it_is_built(architecture: str, size: int) -> None:
    with pytest.raises(OptionError, match=f"timm cannot build {architecture}") as caught:
        TimmModel(architecture=architecture, image_size=size)
    assert caught.value.fix == "image_size=224"


def test_one_and_five_channels_are_built_and_described() -> None:
    grey = TimmModel(architecture="resnet18", in_chans=1).eval()
    assert grey(IMAGES[:, :1])["logits"].shape == (2, 1000)
    assert grey.input_spec.mean == pytest.approx((0.449,))
    five = TimmModel(architecture="resnet18", in_chans=5)
    assert five.input_spec.mean == (0.485, 0.456, 0.406, 0.485, 0.456)
    assert five(torch.rand(1, 5, 64, 64))["logits"].shape == (1, 1000)


@pytest.mark.parametrize("architecture", ["test_resnet", "test_vit", "test_convnext"])
def test_assigning_a_head_turns_an_encoder_into_a_classifier(architecture: str) -> None:
    model = TimmModel(architecture=architecture, num_classes=0).eval()
    images = torch.rand(1, 3, *model.input_spec.size)
    embeddings = model(images)["embeddings"]
    head = nn.Linear(embeddings.shape[1], 3)
    model.head = head
    assert model.head is head
    assert model.num_classes == model.config.num_classes == 3
    assert torch.equal(model(images)["logits"], head(embeddings))
    assert set(model.state_dict()) == set(TimmModel(architecture=architecture, num_classes=3).state_dict())


def test_any_module_over_embeddings_can_be_the_head_and_be_replaced() -> None:
    model = TimmModel(architecture="test_resnet", num_classes=0).eval()
    model.head = nn.Sequential(nn.BatchNorm1d(96), nn.Linear(96, 4))
    assert model(IMAGES)["logits"].shape == (2, 4)
    assert model.head.training
    model.head = nn.Identity()
    assert set(model(IMAGES)) == {"embeddings"}


def test_a_head_of_another_width_is_refused_and_leaves_the_model_as_it_was() -> None:
    model = TimmModel(architecture="test_resnet", num_classes=5).eval()
    with pytest.raises(InputError, match="96 values") as caught:
        model.head = nn.Linear(64, 3)
    assert caught.value.fix == "nn.Linear(96, num_classes)"
    assert model(IMAGES)["logits"].shape == (2, 5)


def test_a_head_of_several_classifiers_is_replaced_by_reset_head_only() -> None:
    model = TimmModel(architecture="crossvit_tiny_240", num_classes=5).eval()
    with pytest.raises(UnsupportedError, match="CrossVit") as caught:
        model.head = nn.Linear(288, 3)
    assert caught.value.fix == "model.reset_head(num_classes)"


@pytest.mark.parametrize(
    "architecture",
    ["test_resnet", "test_vit", "crossvit_tiny_240", "efficientformer_l1", "repvit_m0_9", "shvit_s1", "resnetv2_18"],
)
def test_a_reset_head_is_what_a_new_model_would_have(architecture: str) -> None:
    with torch.device("meta"):
        model = TimmModel(architecture=architecture, num_classes=5)
        fresh = TimmModel(architecture=architecture, num_classes=3)
        model.reset_head(0)
        assert model.num_classes == 0
        model.reset_head(3)
    assert model.num_classes == 3
    assert {k: v.shape for k, v in model.state_dict().items()} == {k: v.shape for k, v in fresh.state_dict().items()}
    assert model.config == fresh.config


def test_a_reset_head_has_the_models_dtype() -> None:
    model = TimmModel(architecture="test_vit", num_classes=5).to(torch.bfloat16).eval()
    model.reset_head(3)
    logits = model(torch.rand(1, 3, 160, 160, dtype=torch.bfloat16))["logits"]
    assert logits.dtype == torch.bfloat16


@pytest.mark.parametrize("head", [None, lambda x: x, 10])
def test_what_is_no_module_is_no_head(head: object) -> None:
    model = TimmModel(architecture="test_resnet", num_classes=5)
    with pytest.raises(InputError, match="a head is a module") as caught:
        model.head = head
    assert "reset_head(0)" in str(caught.value.fix)
    with pytest.raises(InputError, match="logits"):
        model.head = nn.Unflatten(1, (8, 12))
    assert model.num_classes == 5


def test_a_head_of_another_dtype_or_device_is_refused_and_not_moved() -> None:
    model = TimmModel(architecture="test_resnet", num_classes=5).to(torch.bfloat16)
    head = nn.Linear(96, 3)
    with pytest.raises(InputError, match="bfloat16") as caught:
        model.head = head
    assert caught.value.fix == 'head.to("cpu", torch.bfloat16)'
    with pytest.raises(InputError, match="device"):
        model.head = nn.Linear(96, 3, device="meta", dtype=torch.bfloat16)
    model.head = head.to("cpu", torch.bfloat16)
    assert model.num_classes == 3


@pytest.mark.parametrize("number", ["10", 2.5, None, True])
def test_a_number_of_classes_that_is_none_is_refused_and_changes_nothing(number: object) -> None:
    model = TimmModel(architecture="test_resnet", num_classes=5)
    with pytest.raises(OptionError, match="number"):
        model.reset_head(number)
    assert model.num_classes == 5
    assert model.head.out_features == 5


def test_a_reset_head_leaves_the_dtypes_of_everything_else() -> None:
    model = TimmModel(architecture="test_resnet", num_classes=5).to(torch.bfloat16)
    model.encoder.layer1.float()
    before = {name: tensor.dtype for name, tensor in model.state_dict().items()}
    model.reset_head(3)
    assert {name: tensor.dtype for name, tensor in model.state_dict().items()} == before
    assert set(before.values()) >= {torch.bfloat16, torch.float32}


def test_a_replaced_first_layer_says_which_dtype_images_have() -> None:
    model = TimmModel(architecture="test_resnet", num_classes=5).eval()
    model.encoder.conv1[0] = nn.Conv2d(3, model.encoder.conv1[0].out_channels, 3, 2, 1)
    model.to(torch.bfloat16)
    assert model(IMAGES.to(torch.bfloat16))["logits"].dtype == torch.bfloat16
    model.float().encoder.conv1 = nn.Conv2d(3, 32, 3, 2, 1)  # of another build: no such path any more
    assert model(IMAGES)["logits"].shape == (2, 5)


def test_images_on_another_device_than_the_weights_are_refused() -> None:
    model = TimmModel(architecture="test_resnet", num_classes=5)
    with pytest.raises(InputError, match="on cpu") as caught:
        model(IMAGES.to("meta"))
    assert caught.value.fix == 'images.to("cpu")'


def test_attentions_come_from_a_pass_without_checkpointing() -> None:
    model = TimmModel(architecture="test_vit", num_classes=5).train()
    model.encoder.set_grad_checkpointing(True)
    images = torch.rand(1, 3, 32, 32)
    outputs = model(images, output_attentions=True)
    outputs["logits"].sum().backward()
    plain = TimmModel(architecture="test_vit", num_classes=5).eval()
    assert len(outputs["attentions"]) == len(plain(images, output_attentions=True)["attentions"])
    assert model.encoder.grad_checkpointing


def test_a_width_that_is_not_whole_heads_is_told_in_the_configs_words() -> None:
    options = {"embed_dim": 100, "num_heads": 3, "img_size": 96}
    with pytest.raises(OptionError) as caught:
        build_encoder("vit_tiny_patch16_224", options)
    assert "width=100" in str(caught.value)
    assert "heads=3" in str(caught.value)
    assert "num_heads" not in str(caught.value)
    assert caught.value.fix == "heads=2, or width=102"


def test_a_size_is_tried_once_and_its_own_never(monkeypatch: pytest.MonkeyPatch) -> None:
    built = []
    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda *args, **options: built.append(1) or create(*args, **options))
    with torch.device("meta"):
        build_encoder("vit_tiny_patch16_224", {"img_size": 224, "depth": 1})
        assert len(built) == 1
        for _ in range(2):
            build_encoder("vit_tiny_patch16_224", {"img_size": (48, 80), "depth": 1})
    assert len(built) == 4


def test_a_plain_encoder_is_a_backbone_and_says_so_elsewhere() -> None:
    with torch.device("meta"):
        backbone = TimmBackbone(architecture="qwen3_vit_88m_enc")
        assert len(backbone(torch.rand(1, 3, *backbone.input_spec.size))) == 1
        with pytest.raises(UnsupportedError, match="feature maps only"):
            backbone.embed(torch.rand(1, 3, *backbone.input_spec.size))
        with pytest.raises(UnsupportedError, match="feature maps only"):
            TimmModel(architecture="qwen3_vit_88m_enc")


def test_a_config_comes_back_from_json() -> None:
    for component in (
        TimmModel(architecture="test_vit", image_size=96),
        TimmBackbone(architecture="test_resnet", out_indices=[-1]),
    ):
        assert type(component).Config.of(component.config.to_dict(), {}) == component.config


def check_compiles(architecture: str) -> None:
    with torch.device("meta"):
        model = TimmModel(architecture=architecture, num_classes=5).eval()
        backbone = TimmModel.as_backbone(model.config).eval()
        images = torch.rand(1, 3, *model.input_spec.size)
        for module in (model, backbone):
            torch.compile(module, backend="eager", fullgraph=True)(images)  # fullgraph: a break raises


@pytest.mark.parametrize("architecture", ["test_resnet", "test_vit", "test_convnext"])
def test_forward_compiles_without_graph_breaks(architecture: str) -> None:
    check_compiles(architecture)


@pytest.mark.long
@pytest.mark.parametrize(
    "architecture", ["swin_tiny_patch4_window7_224", "crossvit_tiny_240", "test_coatnet", "volo_d1_224"]
)
def test_forward_of_further_families_compiles_without_graph_breaks(architecture: str) -> None:
    check_compiles(architecture)


@pytest.mark.parametrize("architecture", ["test_resnet", "test_vit", "test_convnext"])
def test_bfloat16_and_channels_last_run(architecture: str) -> None:
    model = TimmModel(architecture=architecture).eval()
    images = torch.rand(1, 3, *model.input_spec.size)
    with torch.inference_mode():
        expected = model(images)["logits"]
        assert torch.allclose(model(images.to(memory_format=torch.channels_last))["logits"], expected, atol=1e-4)
        half = model.to(torch.bfloat16)(images.to(torch.bfloat16))["logits"]
    assert half.dtype == torch.bfloat16
    assert torch.allclose(half.float(), expected, atol=0.1)


def test_autocast_accepts_single_precision_images() -> None:
    model = TimmModel(architecture="test_resnet").eval().to(torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model(IMAGES)["logits"].dtype == torch.bfloat16
