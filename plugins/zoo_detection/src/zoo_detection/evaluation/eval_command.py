"""`zoo eval MODEL DATA`: how good a detector is on labelled images, in COCO's terms."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

from zoo.cli.arguments import Arguments, Command, Option, UsageError
from zoo.cli.progress import Progress
from zoo.cli.terminal import clean, show_warnings_plainly, styled
from zoo.errors import NotFoundError, UnsupportedError
from zoo.refs import is_external
from zoo_detection.evaluation.data_folder import FORMATS, read_data
from zoo_detection.evaluation.labelled_images import DetectionData

SUMMARY = "how good a detector's boxes, masks and keypoints are on labelled images, in COCO's terms"
TASKS = ("detection", "instance_segmentation", "keypoints")
DTYPES = ("float32", "bfloat16", "float16")
KINDS = ("boxes", "masks", "keypoints")
COMMAND = Command(
    "eval",
    operands=("MODEL", "DATA"),
    options=(
        Option("--split", "which part of the data: val, test … (the only one, or val, or test)", value="NAME"),
        Option("--data-format", f"{', '.join(FORMATS)}; told by what is in the folder otherwise", value="FORMAT"),
        Option("--kind", "boxes, masks, keypoints; otherwise all there are", value="KIND", repeat=True),
        Option("--limit", "only so many images, the first ones", value="N"),
        Option("--score-threshold", "detections score more than this (0.001)", value="SHARE"),
        Option("--max-detections", "the most of an image that count (100)", value="N"),
        Option("--sigmas", "of keypoints that are not COCO's 17: one for all, or one for each", value="S,S…"),
        Option("--first-pixel", "the number of VOC's first pixel, 1 or 0; told by the files otherwise", value="N"),
        Option("--json", "one JSON object for machines"),
        Option("--output", "write that JSON object to a file", value="FILE", short="-o"),
        Option("--batch-size", "images at a time (8)", value="N", short="-b"),
        Option("--device", "where to compute: cpu (the default), cuda …", value="DEVICE"),
        Option("--dtype", f"what to compute in: {', '.join(DTYPES)} (the first is the default)", value="DTYPE"),
        Option("--checkpoint", "other weights: a checkpoint's name, or a file or folder of your own", value="WEIGHTS"),
        Option("--format", "whose key names these weights have: native, torchvision …", value="FORMAT"),
        Option("--allow-license", "accept weights under this licence; '*' accepts any", value="SPDX", repeat=True),
    ),
    notes=(
        "DATA is a folder as it is: COCO's (annotations/instances_val2017.json, val2017/), also as Roboflow exports "
        "it; YOLO's (data.yaml, images/, labels/); Pascal VOC's (Annotations/, JPEGImages/, or XML beside the images). "
        "The JSON file or the data.yaml itself will do, too.",
        "AP is averaged over IoU 0.50 to 0.95; the numbers are pycocotools'. Only classes that the model and the data "
        "both have are evaluated; which these are is printed.",
        "A photo that cannot be opened is named at the end, the exit code is 1, and there are no scores: its objects "
        "would count as missed.",
    ),
    examples=(
        ("zoo eval ssd_mobilenetv2 coco/ --split val2017", "COCO as it comes"),
        ("zoo eval retinanet voc/VOC2007 --split test --limit 500", "the first 500 images"),
        ("zoo eval file://my-detector data.yaml --json -o scores.json", "your own, for another program"),
    ),
)


def run(arguments: Arguments) -> int:
    """Evaluate, and print what was measured."""
    ref, folder = arguments.operands
    settings = _settings(arguments)
    own_weights = arguments.text("checkpoint") is not None
    show_warnings_plainly()
    task = _task(ref, own_weights=own_weights)
    with Progress(f"reading {folder}") as progress:
        data = _data(folder, arguments, keypoints=task == "keypoints" or "keypoints" in (settings["kinds"] or ()))
        for note in data.notes:
            with progress.aside():
                print(styled(f"note: {clean(note)}", "dim", sys.stderr), file=sys.stderr)
        progress.step(f"loading {ref}")
        model = _created(ref, arguments, progress)
        from zoo_detection.evaluation.running import evaluate

        progress.step("evaluating", total=len(data.images), unit="photos")
        scores = evaluate(model, data, **settings, progress=progress.advance)
    if arguments.text("output") is not None:
        scores.save(arguments.text("output") or "")
    if arguments.flag("json"):
        import json

        print(json.dumps(scores.to_dict(), indent=2, ensure_ascii=False))
    else:
        from zoo_detection.evaluation.score_tables import print_scores

        print_scores(scores)
    return 0


def _settings(arguments: Arguments) -> dict[str, Any]:
    """What `evaluate` takes, checked before anything is read."""
    kinds = arguments.texts("kind") or None
    unknown = [kind for kind in kinds or () if kind not in KINDS]
    if unknown:
        raise UsageError(f"--kind is one of {', '.join(KINDS)}", asked=unknown[0], fix="--kind boxes")
    if arguments.text("dtype") not in (None, *DTYPES):
        raise UsageError(
            f"--dtype is one of {', '.join(DTYPES)}", asked=arguments.text("dtype"), fix="--dtype bfloat16"
        )
    if arguments.text("data-format") not in (None, *FORMATS):
        asked = arguments.text("data-format")
        raise UsageError(f"--data-format is one of {', '.join(FORMATS)}", asked=asked, fix="--data-format coco")
    return {
        "kinds": kinds,
        "limit": None if arguments.text("limit") is None else arguments.number("limit", 100),
        "batch_size": arguments.number("batch-size", 8),
        "score_threshold": _number(arguments.text("score-threshold") or "0.001", "score-threshold", "0.001", most=1.0),
        "max_detections": arguments.number("max-detections", 100),
        "sigmas": [_number(text, "sigmas", "0.05", most=10.0) for text in arguments.texts("sigmas")] or None,
    }


def _number(text: str, name: str, example: str, *, most: float) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= most:
        raise UsageError(f"--{name} takes numbers from 0 to {most:g}", asked=text, fix=f"--{name} {example}")
    return number


def _task(ref: str, *, own_weights: bool) -> str:
    """The model's task, as far as the catalogue knows it. Raises what can be said against it before it is imported."""
    if is_external(ref):
        return ""
    import zoo

    info = zoo.info(ref)
    if info.model.kind != "model" or info.model.task not in TASKS:
        what = info.model.kind if info.model.kind != "model" else info.model.task
        raise UnsupportedError(
            f"zoo eval measures what detectors find, and {info.ref} is for {what}", fix="zoo list --task detection"
        )
    if info.checkpoint is None and not own_weights:
        raise NotFoundError(
            f"{info.ref} has no published weights, and without weights it finds nothing",
            fix="weights of your own: --checkpoint FILE; or a folder of save_pretrained: zoo eval file://FOLDER DATA",
        )
    return info.model.task


def _data(folder: str, arguments: Arguments, *, keypoints: bool) -> DetectionData:
    first_pixel = None if arguments.text("first-pixel") is None else arguments.number("first-pixel", 1, least=0)
    if first_pixel not in (None, 0, 1):
        raise UsageError("--first-pixel is 0 or 1", asked=arguments.text("first-pixel"), fix="--first-pixel 1")
    return read_data(
        folder,
        arguments.text("split"),
        data_format=arguments.text("data-format"),
        keypoints=keypoints,
        first_pixel=first_pixel,
    )


def _created(ref: str, arguments: Arguments, progress: Progress) -> Any:
    import zoo
    from zoo.checkpoints.delivery import watched_by

    def watch(name: str) -> Callable[[int, int | None], None]:
        progress.step(f"fetching {name}", unit="B")
        return progress.advance

    with watched_by(watch):
        made = zoo.create(
            ref,
            pretrained=True,
            checkpoint=_weights(arguments),
            format=arguments.text("format"),
            allow_licenses=arguments.texts("allow-license") or None,
            device=arguments.text("device"),
            dtype=arguments.text("dtype"),
        )
    if not isinstance(made, zoo.Detector):  # a saved model's folder says only now what is in it
        raise UnsupportedError(
            f"zoo eval measures what detectors find, and {ref} is a {type(made).__name__}",
            fix="zoo list --task detection",
        )
    return made


def _weights(arguments: Arguments) -> str | None:
    """The checkpoint's name, or a path; `my_weights` is one too where a format says that no name is meant."""
    given = arguments.text("checkpoint")
    if given is None or arguments.text("format") is None or "://" in given or not os.path.exists(given):
        return given
    return os.path.join(os.curdir, given)
