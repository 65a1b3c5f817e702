"""Train a detector on two photographs of forests, and see how it does in forests where it has never been.

    python examples/train_tree_crowns.py --out trees          # two to three minutes of one core
    python examples/train_tree_crowns.py --out trees --quick  # two steps: does it run here?

The photographs and their boxes are NEON's, taken from the air at 10 cm a pixel, and come with the Python package
deepforest, of which only the files are used: pip install --no-deps deepforest==2.1.0. The split is by photograph:

    train        Yellowstone, 230 m x 247 m, and a 40 m square of the Sierra Nevada
    yellowstone  another place in Yellowstone, 13 km away
    florida      another forest altogether

Everything is plain PyTorch: the zoo gives the model, its preprocessing, the losses (`model(images, targets)`), sliced
prediction for photographs larger than what it was trained on, and COCO's measure.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

import zoo
from zoo.models.images import load_images
from zoo_detection.evaluation import evaluate, read_data

SPLITS = {
    "train": ("2019_YELL_2_528000_4978000_image_crop2", "SOAP_061"),
    "yellowstone": ("2019_YELL_2_541000_4977000_image_crop",),
    "florida": ("OSBS_029",),
}
SIDE = 224  # pixels of a training crop, and of a slice when a whole photograph is looked at
EARLY = ("encoder.conv_stem.", "encoder.bn1.", "encoder.blocks.0.", "encoder.blocks.1.")  # maps up to stride 4
LEAST_SHARE = 0.4  # of a tree that a crop's edge cuts: smaller rests are no tree any more


class Photograph(NamedTuple):
    """One image, (H, W, 3) uint8, and its trees, (N, 4) corners in pixels."""

    pixels: np.ndarray
    boxes: np.ndarray


def main(arguments: Sequence[str] | None = None) -> None:
    """The whole workflow: data, model, training, a measurement after every epoch, a curve."""
    options = parsed(arguments)
    torch.manual_seed(options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    folder = voc_folder(options.out / "data")
    photographs = [photograph(image) for image in read_data(folder, "train").images]
    places = ("florida",) if options.quick else ("yellowstone", "florida")
    held_out = {place: read_data(folder, place) for place in places}
    model = detector().to(options.device)
    history = []
    started = time.process_time()
    for epoch, loss in enumerate(training(model, photographs, options), start=1):
        row = {"epoch": epoch, "loss": loss, "cpu_seconds": round(time.process_time() - started)}
        for name, data in held_out.items():
            boxes = evaluate(Sliced(model), data, score_threshold=0.1, max_detections=1000).boxes
            row[name] = {"AP50": boxes.ap50, "AP": boxes.ap, "recall50": boxes.ar50, "objects": boxes.objects}
        history.append(row)
        print(json.dumps(row), flush=True)
        (options.out / "history.json").write_text(json.dumps(history, indent=2) + "\n", encoding="utf-8")
    model.save_pretrained(fresh(options.out / "model"))
    plot_curve(history, options.out / "curve.png")
    for name, data in held_out.items():
        picture = zoo.predict_sliced(model, data.images[0].path, slice_size=SIDE, whole=False, score_threshold=0.3)
        picture[0].plot(options.out / f"{name}.png")


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("trees"), help="folder for everything that is written")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--steps", type=int, default=15, help="batches an epoch")
    parser.add_argument("--batch", type=int, default=4, help="crops a batch")
    parser.add_argument("--rate", type=float, default=1e-3, help="highest learning rate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--quick", action="store_true", help="one epoch of two batches, one place")
    options = parser.parse_args(arguments)
    if options.quick:
        options.epochs, options.steps, options.batch = 1, 2, 2
    return options


# Data: a folder in Pascal VOC's way, as people have it, and random crops of the photographs in it.


def voc_folder(folder: Path) -> Path:
    """The package's photographs and annotations, with a list of names for each split."""
    package = metadata.distribution("deepforest")
    for part in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for split, names in SPLITS.items():
        (folder / "ImageSets/Main" / f"{split}.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
        for name in names:
            shutil.copy(str(package.locate_file(f"deepforest/data/{name}.png")), folder / "JPEGImages")
            annotation = Path(str(package.locate_file(f"deepforest/data/{name}.xml"))).read_text(encoding="utf-8")
            # One of them names the TIFF beside the PNG.
            (folder / "Annotations" / f"{name}.xml").write_text(annotation.replace(".tif<", ".png<"), encoding="utf-8")
    return folder


def photograph(image: Any) -> Photograph:
    """An image of a data set in memory. Every kind of tree, dead or alive, is a tree here."""
    corners = [(x, y, x + w, y + h) for x, y, w, h in (tree.box_xywh for tree in image.objects)]
    return Photograph(np.asarray(Image.open(image.path).convert("RGB")), np.array(corners, np.float32))


def crop(photographs: Sequence[Photograph], rng: np.random.Generator) -> Photograph:
    """A random square of SIDE pixels around a random tree, turned and tinted at random, and the trees in it.

    The smaller photograph has one tree in sixteen; it is taken once in four times, for it looks different.
    """
    pixels, boxes = photographs[rng.choice(len(photographs), p=(0.75, 0.25))]
    start = boxes[rng.integers(len(boxes)), :2].astype(int) - rng.integers(SIDE, size=2)
    left, top = start.clip(0, [pixels.shape[1] - SIDE, pixels.shape[0] - SIDE])
    inside = np.clip(boxes - np.float32([left, top, left, top]), 0, SIDE)
    inside = inside[areas(inside) >= LEAST_SHARE * areas(boxes)]
    pixels = pixels[top : top + SIDE, left : left + SIDE]
    if rng.random() < 0.5:
        pixels = pixels[:, ::-1]
        inside = np.stack([SIDE - inside[:, 2], inside[:, 1], SIDE - inside[:, 0], inside[:, 3]], 1)
    for _ in range(rng.integers(4)):  # a quarter turn to the left: (x, y) -> (y, SIDE - x)
        pixels = np.rot90(pixels)
        inside = np.stack([inside[:, 1], SIDE - inside[:, 2], inside[:, 3], SIDE - inside[:, 0]], 1)
    tint = rng.uniform(0.8, 1.2) * rng.uniform(0.85, 1.15, size=3)  # brightness, and that of each colour
    return Photograph(np.clip(pixels * tint, 0, 255).astype(np.uint8), inside)


def areas(boxes: np.ndarray) -> np.ndarray:
    """Square pixels of boxes (N, 4)."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


# The model, its training, and how it looks at whole photographs.


def detector() -> zoo.Detector:
    """FCOS on a MobileNetV2 that knows ImageNet: its weights come in a Python package, so that no hub is asked."""
    model = zoo.create(
        "fcos",
        num_classes=1,
        backbone={"name": "mobilenetv2", "pretrained": True},
        neck={"name": "fpn", "width": 96},
        freeze_norm=True,  # four crops are too few to learn a mean and a variance from
        img_size=(SIDE, SIDE),
        nms_threshold=0.4,
        score_threshold=0.05,
        max_detections=300,
    )
    for name, parameter in model.backbone.named_parameters():  # edges and colours are learnt already
        parameter.requires_grad_(not name.startswith(EARLY))
    model.label_space = zoo.LabelSpace(name="trees", names=("Tree",))
    return model


def training(model: zoo.Detector, photographs: Sequence[Photograph], options: argparse.Namespace) -> Iterator[float]:
    """The mean loss of each epoch, when it is done."""
    preprocess, rng = zoo.Preprocessor(model.input_spec), np.random.default_rng(options.seed)
    new = [p for name, p in model.named_parameters() if p.requires_grad and not name.startswith("backbone.")]
    known = [p for name, p in model.named_parameters() if p.requires_grad and name.startswith("backbone.")]
    groups = [{"params": new}, {"params": known, "lr": options.rate / 5}]
    optimizer = torch.optim.AdamW(groups, lr=options.rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, [options.rate, options.rate / 5], total_steps=options.epochs * options.steps, pct_start=0.1
    )
    for _ in range(options.epochs):
        total = 0.0
        model.train()
        for _ in range(options.steps):
            crops = [crop(photographs, rng) for _ in range(options.batch)]
            images, frames = preprocess(load_images([one.pixels for one in crops]))
            targets = [
                {
                    "boxes": frame.boxes_to_input(torch.from_numpy(one.boxes)).to(options.device),
                    "labels": torch.zeros(len(one.boxes), dtype=torch.int64, device=options.device),
                }
                for one, frame in zip(crops, frames, strict=True)
            ]
            loss = model(images.to(options.device), targets)["loss"]
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(new + known, 10.0)
            optimizer.step()
            schedule.step()
            total += float(loss.detach()) / options.steps
        yield total


class Sliced:
    """A detector that looks at whole photographs slice by slice, at the scale it was trained at."""

    def __init__(self, model: zoo.Detector) -> None:
        self.model, self.label_space, self.provenance = model, model.label_space, model.provenance

    def predict(self, inputs: Any, *, batch_size: int, score_threshold: float, max_detections: int) -> list[Any]:
        """What `evaluate` asks for: so many detections a photograph, of which a slice can have a tenth."""
        return zoo.predict_sliced(
            self.model,
            inputs,
            slice_size=SIDE,
            overlap=0.3,
            merge="nms",
            whole=False,
            batch_size=batch_size,
            score_threshold=score_threshold,
            max_detections=max(1, max_detections // 10),
        )


def plot_curve(history: Sequence[dict[str, Any]], path: Path) -> None:
    """AP50 of every held-out place, and the loss, over the epochs. Needs matplotlib."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), dpi=110, layout="constrained")
    axes = figure.subplots()
    epochs = [row["epoch"] for row in history]
    for name in (split for split in SPLITS if split in history[0]):
        axes.plot(epochs, [row[name]["AP50"] for row in history], marker="o", label=f"AP50, {name} (held out)")
    axes.set(xlabel="epoch", ylabel="AP at IoU 0.5", ylim=(0, 1))
    losses = axes.twinx()
    losses.plot(epochs, [row["loss"] for row in history], color="grey", linestyle=":", label="training loss")
    losses.set(ylabel="loss", ylim=(0, None))
    figure.legend(loc="outside upper center", ncols=3, fontsize="small")
    figure.savefig(path)


def fresh(folder: Path) -> Path:
    """A folder that is not there yet: a saved model is never overwritten."""
    shutil.rmtree(folder, ignore_errors=True)
    return folder


if __name__ == "__main__":
    main()
