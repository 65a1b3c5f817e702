"""From files to scores, against pycocotools on the same files: nothing is lost or moved on the way."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from eval_scenes import CATEGORIES, HEIGHT, WIDTH, assert_equal, ellipse, random_scene
from PIL import Image

from zoo.models.detections import Detections
from zoo.models.labels import LabelSpace
from zoo_detection.evaluation import AnnotatedImage, evaluate

SPACE = LabelSpace(name="mixed", names=("brush", "cat", "unheard of", "dog", "never seen"))
CLASS_OF = {category.id: SPACE.id_of(category.name) for category in CATEGORIES}


def written(folder: Path, images: Sequence[AnnotatedImage]) -> Path:
    """A COCO folder of these images; the JSON file. Ids of annotations from 1: pycocotools takes 0 for no match."""
    (folder / "val").mkdir(parents=True)
    annotations = []
    for image in images:
        Image.new("RGB", (WIDTH, HEIGHT)).save(folder / "val" / image.path.replace("jpg", "png"))
        for one in image.objects:
            polygons = isinstance(one.segmentation, tuple)
            annotations.append(
                {
                    "id": 1 + len(annotations),
                    "image_id": image.id,
                    "category_id": one.category_id,
                    "bbox": list(one.box_xywh),
                    "area": one.area,
                    "iscrowd": int(one.crowd),
                    "ignore": len(annotations) % 3 == 0,  # COCO's own code has `iscrowd` overrule it
                    "segmentation": [list(p) for p in one.segmentation or ()] if polygons else one.segmentation,
                    "keypoints": [value for point in one.keypoints or () for value in point],
                    "num_keypoints": one.labelled_keypoints,
                }
            )
    file = folder / "instances_val.json"
    entries = [
        {"id": i.id, "file_name": i.path.replace("jpg", "png"), "height": HEIGHT, "width": WIDTH} for i in images
    ]
    categories = [{"id": category.id, "name": category.name.upper()} for category in reversed(CATEGORIES)]
    file.write_text(json.dumps({"images": entries[::-1], "annotations": annotations, "categories": categories}))
    return file


class Spoken:
    """Says what it was told, image by image; some of it of a class that the data does not have."""

    label_space = SPACE
    provenance = None

    def __init__(self, said: dict[str, Detections]) -> None:
        self.said = said

    def predict(
        self, inputs: Sequence[str], *, batch_size: int, score_threshold: float, max_detections: int
    ) -> list[Any]:
        return [self.said[Path(path).name] for path in inputs]


def as_detections(images: Sequence[AnnotatedImage], found: Any, seed: int) -> dict[str, Detections]:
    random = np.random.default_rng(seed)
    said = {}
    for image in images:
        one = found.get(image.id)
        count = 0 if one is None else len(one.scores)
        ids = [
            CLASS_OF[int(number)] if random.random() < 0.9 else 2
            for number in ([] if one is None else one.category_ids)
        ]
        boxes = torch.zeros(0, 4) if one is None else torch.tensor(one.boxes_xyxy, dtype=torch.float32)
        masks = [ellipse((x, y, X - x, Y - y)) for x, y, X, Y in boxes.double().tolist()]
        said[image.path.replace("jpg", "png")] = Detections(
            source=image.path,
            size=(HEIGHT, WIDTH),
            boxes=boxes,
            scores=torch.zeros(0) if one is None else torch.tensor(one.scores, dtype=torch.float32),
            ids=torch.tensor(ids, dtype=torch.int64),
            names=tuple(SPACE.names[i] for i in ids),
            masks=torch.from_numpy(np.array(masks, dtype=bool).reshape(count, HEIGHT, WIDTH)),
            keypoints=torch.zeros(0, 17, 3) if one is None else torch.tensor(one.keypoints, dtype=torch.float32),
            labels=SPACE,
        )
    return said


def results_of(kind: str, images: Sequence[AnnotatedImage], said: dict[str, Detections]) -> list[dict[str, Any]]:
    """COCO's results, by the data set's ids."""
    from pycocotools import mask as codec

    number_of = {class_id: number for number, class_id in CLASS_OF.items()}
    results = []
    for image in images:
        one = said[image.path.replace("jpg", "png")]
        for i, class_id in enumerate(one.ids.tolist()):
            if class_id not in number_of:
                continue
            result: dict[str, Any] = {"image_id": image.id, "category_id": number_of[class_id]}
            result["score"] = float(one.scores[i])
            if kind == "boxes":
                x1, y1, x2, y2 = one.boxes[i].double().tolist()
                result["bbox"] = [x1, y1, x2 - x1, y2 - y1]
            elif kind == "masks":
                assert one.masks is not None
                result["segmentation"] = codec.encode(np.asfortranarray(one.masks[i].numpy().astype(np.uint8)))
            else:
                assert one.keypoints is not None
                result["keypoints"] = one.keypoints[i].double().flatten().tolist()
            results.append(result)
    return results


@pytest.mark.parametrize("seed", range(40, 46))
def test_files_and_detections_score_as_pycocotools_scores_the_same_files(tmp_path: Path, seed: int) -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    images, found, _ = random_scene(seed)
    file = written(tmp_path, images)
    said = as_detections(images, found, seed)
    scores = evaluate(Spoken(said), tmp_path, batch_size=2)
    assert scores.dropped == sum(int((one.ids == 2).sum()) for one in said.values()) > 0
    assert scores.classes.how == "names"
    assert list(scores.kinds) == ["boxes", "masks", "keypoints"]
    for kind, ours in scores.kinds.items():
        with contextlib.redirect_stdout(io.StringIO()):
            truth = COCO(str(file))
            theirs = COCOeval(
                truth,
                truth.loadRes(results_of(kind, images, said)),
                {"boxes": "bbox", "masks": "segm", "keypoints": "keypoints"}[kind],
            )
            theirs.evaluate()
            theirs.accumulate()
        names = {category.name.upper(): category.name for category in CATEGORIES}  # the data's are in capitals here
        assert_equal(replace(ours, per_class={names[name]: one for name, one in ours.per_class.items()}), theirs)
