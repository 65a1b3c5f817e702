"""Detections in the shapes that other programs read: COCO's result records, supervision, pandas.

N objects   P keypoints
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zoo.errors import MissingDependencyError
from zoo.models.rle import encode_rle

if TYPE_CHECKING:
    import pandas
    import supervision

    from zoo.models.detections import Detections


def coco_records(detections: Detections, image_id: int | str) -> list[dict[str, Any]]:
    """One result record an object, as COCO's evaluation reads them.

    `category_id` is the data set's own id where the label space knows it, `bbox` x, y, width, height; `segmentation` a
    compressed run-length code; `keypoints` x, y and the network's score, one after another.
    """
    source_ids = detections.labels.source_ids if detections.labels is not None else ()
    corners = detections.boxes.double()  # a width in float64 adds up again
    boxes_xywh = [[*box[:2], box[2] - box[0], box[3] - box[1]] for box in corners.tolist()]
    records = []
    for row, (class_id, score) in enumerate(zip(detections.ids.tolist(), detections.scores.tolist(), strict=True)):
        record: dict[str, Any] = {
            "image_id": image_id,
            "category_id": source_ids[class_id] if source_ids else class_id,
            "bbox": boxes_xywh[row],
            "score": score,
        }
        if detections.masks is not None:
            record["segmentation"] = encode_rle(detections.masks[row])
        if detections.keypoints is not None:
            record["keypoints"] = detections.keypoints[row].flatten().tolist()
        records.append(record)
    return records


def as_supervision(detections: Detections) -> supervision.Detections:
    """`supervision.Detections`: `class_name` in its data, and `keypoints` and `embeddings` where there are some."""
    try:
        import supervision
    except ModuleNotFoundError as error:
        raise MissingDependencyError("to_supervision() needs supervision", fix="pip install supervision") from error
    import numpy as np

    data: dict[str, Any] = {"class_name": np.array(detections.names, dtype=str)}
    extra = {"keypoints": detections.keypoints, "embeddings": detections.embeddings}
    data |= {name: value.numpy() for name, value in extra.items() if value is not None}
    return supervision.Detections(
        xyxy=detections.boxes.numpy(),
        mask=None if detections.masks is None else detections.masks.numpy(),
        confidence=detections.scores.numpy(),
        class_id=detections.ids.numpy(),
        data=data,
    )


def as_dataframe(detections: Detections) -> pandas.DataFrame:
    """A row an object: `source name id score x1 y1 x2 y2`, and `nose_x nose_y nose_score` … for every keypoint."""
    try:
        import pandas
    except ModuleNotFoundError as error:
        raise MissingDependencyError("to_dataframe() needs pandas", fix="pip install pandas") from error
    columns: dict[str, Any] = {
        "source": [detections.source] * len(detections),
        "name": list(detections.names),
        "id": detections.ids.numpy(),
        "score": detections.scores.numpy(),
    }
    columns |= {side: detections.boxes[:, i].numpy() for i, side in enumerate(("x1", "y1", "x2", "y2"))}
    if detections.keypoints is not None:
        for i, point in enumerate(detections.point_names):
            for j, what in enumerate(("x", "y", "score")):
                columns[f"{point}_{what}"] = detections.keypoints[:, i, j].numpy()
    return pandas.DataFrame(columns)
