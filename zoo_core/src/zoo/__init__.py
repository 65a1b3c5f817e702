"""The zoo: computer-vision models as plugins. `zoo.create("resnet50", pretrained=True)`.

Everything here is loaded on first use; `import zoo` itself imports neither torch nor pydantic.
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing itself would double the price of `import zoo`
if TYPE_CHECKING:
    from typing import Any

    from zoo.build.create import create as create, create_backbone as create_backbone, create_model as create_model
    from zoo.build.pretrained import load_pretrained as load_pretrained, save_pretrained as save_pretrained
    from zoo.catalog.queries import info as info, list_models as list_models, plugins as plugins
    from zoo.catalog.recommend import recommend as recommend
    from zoo.checkpoints.keymap import KeyMap as KeyMap
    from zoo.checkpoints.training.folders import (
        TrainingCheckpoint as TrainingCheckpoint,
        list_checkpoints as list_checkpoints,
    )
    from zoo.checkpoints.training.loading import load_checkpoint as load_checkpoint
    from zoo.checkpoints.training.saving import CheckpointSaver as CheckpointSaver, save_checkpoint as save_checkpoint
    from zoo.errors import (
        AmbiguousNameError as AmbiguousNameError,
        CheckpointError as CheckpointError,
        DigestError as DigestError,
        FormatError as FormatError,
        InputError as InputError,
        LabelError as LabelError,
        LicenseError as LicenseError,
        LoadError as LoadError,
        LockError as LockError,
        ManifestError as ManifestError,
        MissingDependencyError as MissingDependencyError,
        NotFoundError as NotFoundError,
        OfflineError as OfflineError,
        OptionError as OptionError,
        PluginError as PluginError,
        RefError as RefError,
        SourceError as SourceError,
        UnsupportedError as UnsupportedError,
        ZooError as ZooError,
    )
    from zoo.models.attention import recorded_attention as recorded_attention
    from zoo.models.blocks import (
        AttentionBlock as AttentionBlock,
        BlockConfig as BlockConfig,
        ClassificationHead as ClassificationHead,
        ConvBlock as ConvBlock,
        PatchEmbedding as PatchEmbedding,
    )
    from zoo.models.classifier import Classifier as Classifier
    from zoo.models.config import ModelConfig as ModelConfig
    from zoo.models.detections import Detections as Detections
    from zoo.models.detector import (
        Detector as Detector,
        DetectorConfig as DetectorConfig,
        InstanceSegmenter as InstanceSegmenter,
        KeypointDetector as KeypointDetector,
        Selection as Selection,
    )
    from zoo.models.labels import LabelSpace as LabelSpace
    from zoo.models.load_report import LoadReport as LoadReport
    from zoo.models.model import Backbone as Backbone, Head as Head, Model as Model, Neck as Neck
    from zoo.models.parts import (
        Part as Part,
        build_backbone as build_backbone,
        build_head as build_head,
        build_neck as build_neck,
    )
    from zoo.models.preprocessing import Preprocessor as Preprocessor
    from zoo.models.provenance import Provenance as Provenance
    from zoo.models.results import Classification as Classification
    from zoo.models.slicing import predict_sliced as predict_sliced
    from zoo.refs import Ref as Ref
    from zoo.specs import (
        CheckpointSpec as CheckpointSpec,
        InputSpec as InputSpec,
        Metric as Metric,
        ModelSpec as ModelSpec,
        PluginSpec as PluginSpec,
    )
    from zoo.versions.registry import ModelRegistry as ModelRegistry, register_model as register_model

_HOMES = {
    "AmbiguousNameError": "zoo.errors",
    "AttentionBlock": "zoo.models.blocks",
    "Backbone": "zoo.models.model",
    "BlockConfig": "zoo.models.blocks",
    "CheckpointError": "zoo.errors",
    "CheckpointSaver": "zoo.checkpoints.training.saving",
    "CheckpointSpec": "zoo.specs",
    "Classification": "zoo.models.results",
    "ClassificationHead": "zoo.models.blocks",
    "Classifier": "zoo.models.classifier",
    "ConvBlock": "zoo.models.blocks",
    "Detections": "zoo.models.detections",
    "Detector": "zoo.models.detector",
    "DetectorConfig": "zoo.models.detector",
    "DigestError": "zoo.errors",
    "FormatError": "zoo.errors",
    "Head": "zoo.models.model",
    "InputError": "zoo.errors",
    "InputSpec": "zoo.specs",
    "InstanceSegmenter": "zoo.models.detector",
    "KeyMap": "zoo.checkpoints.keymap",
    "KeypointDetector": "zoo.models.detector",
    "LabelError": "zoo.errors",
    "LabelSpace": "zoo.models.labels",
    "LicenseError": "zoo.errors",
    "LoadError": "zoo.errors",
    "LoadReport": "zoo.models.load_report",
    "LockError": "zoo.errors",
    "ManifestError": "zoo.errors",
    "Metric": "zoo.specs",
    "MissingDependencyError": "zoo.errors",
    "Model": "zoo.models.model",
    "ModelConfig": "zoo.models.config",
    "ModelRegistry": "zoo.versions.registry",
    "ModelSpec": "zoo.specs",
    "Neck": "zoo.models.model",
    "NotFoundError": "zoo.errors",
    "OfflineError": "zoo.errors",
    "OptionError": "zoo.errors",
    "Part": "zoo.models.parts",
    "PatchEmbedding": "zoo.models.blocks",
    "PluginError": "zoo.errors",
    "PluginSpec": "zoo.specs",
    "Preprocessor": "zoo.models.preprocessing",
    "Provenance": "zoo.models.provenance",
    "Ref": "zoo.refs",
    "RefError": "zoo.errors",
    "Selection": "zoo.models.detector",
    "SourceError": "zoo.errors",
    "TrainingCheckpoint": "zoo.checkpoints.training.folders",
    "UnsupportedError": "zoo.errors",
    "ZooError": "zoo.errors",
    "build_backbone": "zoo.models.parts",
    "build_head": "zoo.models.parts",
    "build_neck": "zoo.models.parts",
    "create": "zoo.build.create",
    "create_backbone": "zoo.build.create",
    "create_model": "zoo.build.create",
    "info": "zoo.catalog.queries",
    "list_checkpoints": "zoo.checkpoints.training.folders",
    "list_models": "zoo.catalog.queries",
    "load_checkpoint": "zoo.checkpoints.training.loading",
    "load_pretrained": "zoo.build.pretrained",
    "plugins": "zoo.catalog.queries",
    "predict_sliced": "zoo.models.slicing",
    "recommend": "zoo.catalog.recommend",
    "recorded_attention": "zoo.models.attention",
    "register_model": "zoo.versions.registry",
    "save_checkpoint": "zoo.checkpoints.training.saving",
    "save_pretrained": "zoo.build.pretrained",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'zoo' has no attribute {name!r}")
    from importlib import import_module

    try:
        value = getattr(import_module(_HOMES[name]), name)
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        from zoo.errors import MissingDependencyError

        raise MissingDependencyError(
            f"zoo.{name} needs torch, which comes with the first model plugin", fix="pip install zoo-cnn"
        ) from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
