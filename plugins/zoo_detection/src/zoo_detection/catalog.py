"""What zoo-detection offers: a size is a row. Torch-free; `zoo plugin compile` writes it as `zoo.json`."""

from __future__ import annotations

from zoo.specs import PluginSpec
from zoo_detection.rows.cascade import CASCADE
from zoo_detection.rows.dense import DENSE
from zoo_detection.rows.necks import NECKS
from zoo_detection.rows.pyramids import PYRAMIDS
from zoo_detection.rows.rcnn import RCNN
from zoo_detection.rows.ssd import SSD

PLUGIN = PluginSpec(
    namespace="detection",
    distribution="zoo-detection",
    summary="Object detectors, feature pyramids and evaluation in COCO's terms",
    requires=("torch", "torchvision", "zoo_cnn"),
    hooks=("cli_commands", "read_weights"),
    models=(*NECKS, *PYRAMIDS, *DENSE, *RCNN, *CASCADE, *SSD),
)
