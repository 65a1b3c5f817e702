"""What is known about the terms of the data sets that weights are trained on: facts with their source, no advice.

A data set that is not listed, and every one whose terms nobody here has read, is `unknown`. Whether terms of the data
reach the weights is for a lawyer; the report of `zoo licenses` names them so that the question can be asked.
"""

from __future__ import annotations

from typing import NamedTuple

CLASSES = ("permissive", "mixed", "non-commercial", "private", "unknown")
"""`mixed`: the index or the annotations are free, the images have licences of their own, or several sets are merged.
`private`: never published, so that nobody outside can read its terms."""


class DataTerms(NamedTuple):
    """The terms of one data set. source: where they stand; empty where nothing is known."""

    name: str
    license_class: str = "unknown"
    terms: str = "unknown"
    source: str = ""


_IMAGENET = (
    "non-commercial",
    "non-commercial research and educational use, by image-net.org's terms of access",
    "https://www.image-net.org/download.php",
)
_LAION = "links and captions under CC-BY-4.0; the images are under their own copyrights"
_INSTAGRAM = "public Instagram images with hashtags; not published"
_KNOWN = (
    ("ade20k", "non-commercial", "images for non-commercial research and education; annotations BSD-3-Clause",
     "https://groups.csail.mit.edu/vision/datasets/ADE20K/terms/"),
    ("cc12m", "mixed", "links and captions free for any purpose; the images are under their own copyrights",
     "https://github.com/google-research-datasets/conceptual-12m"),
    ("cc3m", "mixed", "links and captions free for any purpose; the images are under their own copyrights",
     "https://github.com/google-research-datasets/conceptual-captions"),
    ("cityscapes", "non-commercial", "non-commercial use, by its own licence",
     "https://www.cityscapes-dataset.com/license/"),
    ("coco", "mixed", "annotations CC-BY-4.0; the images are under Flickr's terms of use",
     "https://cocodataset.org/#termsofuse"),
    ("datacomp-xl", "mixed", _LAION, "https://huggingface.co/datasets/mlfoundations/datacomp_pools"),
    ("imagenet-12k", *_IMAGENET),
    ("imagenet-1k", *_IMAGENET),
    ("imagenet-21k", *_IMAGENET),
    ("imagenet-22k", *_IMAGENET),
    ("instagram-1b", "private", _INSTAGRAM, "https://arxiv.org/abs/1805.00932"),
    ("instagram-3.6b", "private", _INSTAGRAM, "https://arxiv.org/abs/2201.08371"),
    ("jft-300m", "private", "an internal data set of Google's; not published", "https://arxiv.org/abs/1707.02968"),
    ("laion-2b", "mixed", _LAION, "https://laion.ai/blog/laion-5b/"),
    ("laion-400m", "mixed", _LAION, "https://laion.ai/blog/laion-400-open-dataset/"),
    ("laion-aesthetic", "mixed", _LAION, "https://laion.ai/blog/laion-aesthetics/"),
    ("lvd-142m", "private", "curated from the web by Meta; not published", "https://arxiv.org/abs/2304.07193"),
    ("merged-2b", "mixed", "merged from LAION-2B and COYO-700M, each with terms of its own",
     "https://arxiv.org/abs/2303.15389"),
    ("merged-38m", "mixed", "merged from several sets with terms of their own, ImageNet-22k among them",
     "https://arxiv.org/abs/2303.11331"),
    ("objects365", "mixed", "annotations CC-BY-4.0; the images are under Flickr's terms of use",
     "https://www.objects365.org/download.html"),
    ("open-images", "permissive", "annotations CC-BY-4.0; images listed as CC-BY-2.0, each to be verified",
     "https://storage.googleapis.com/openimages/web/factsfigures.html"),
    ("sa-1b", "non-commercial", "research purposes, by the SA-1B dataset research licence",
     "https://ai.meta.com/datasets/segment-anything-downloads/"),
    ("sa-v", "permissive", "CC-BY-4.0", "https://ai.meta.com/datasets/segment-anything-video/"),
    ("webli", "private", "an internal data set of Google's; not published", "https://arxiv.org/abs/2209.06794"),
    ("yfcc-100m", "mixed", "Flickr images and videos, each under its own Creative Commons licence",
     "https://arxiv.org/abs/1503.01817"),
)  # fmt: skip
_BY_NAME = {row[0]: DataTerms(*row) for row in _KNOWN}


def data_terms(name: str) -> DataTerms:
    """What is known about a data set by its name in the catalogue; a split (`imagenet-1k/train`) is its data set's."""
    return _BY_NAME.get(name.casefold().partition("/")[0], DataTerms(name))


def known_data() -> tuple[DataTerms, ...]:
    """Every data set whose terms are known, by name."""
    return tuple(_BY_NAME.values())
