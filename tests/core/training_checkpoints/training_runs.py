"""Small training runs that use every source of randomness and every kind of state. As a program: resumes them.

python training_runs.py FOLDER      resumes every run saved in FOLDER for EPOCHS more, and prints its fingerprint
"""

from __future__ import annotations

import _pickle
import hashlib
import json
import os
import pickle
import random
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn, optim
from torch.optim import lr_scheduler as schedules
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import zoo

EPOCHS, BATCHES = 2, 3
TOTAL = 2 * EPOCHS * BATCHES


def slower(step: int) -> float:
    return 0.9**step


OPTIMIZERS: dict[str, Callable[[Any], optim.Optimizer]] = {
    "sgd": lambda p: optim.SGD(p, 0.05),
    "momentum": lambda p: optim.SGD(p, 0.05, momentum=0.9, weight_decay=1e-3),
    "nesterov": lambda p: optim.SGD(p, 0.05, momentum=0.9, nesterov=True),
    "adamw": lambda p: optim.AdamW(p, 1e-2),
    "amsgrad": lambda p: optim.AdamW(p, 1e-2, amsgrad=True),
    "fused": lambda p: optim.AdamW(p, 1e-2, fused=True),
    "fused-sgd": lambda p: optim.SGD(p, 0.05, momentum=0.9, fused=True),
    "rmsprop": lambda p: optim.RMSprop(p, 1e-3, momentum=0.5, centered=True),
    "adagrad": lambda p: optim.Adagrad(p, 1e-2),
    "nadam": lambda p: optim.NAdam(p, 1e-2),
    "adafactor": lambda p: optim.Adafactor(p, 1e-2),
    "lbfgs": lambda p: optim.LBFGS(p, 0.1, max_iter=4),  # sums over its state, which shows how that lies in memory
}
SCHEDULERS: dict[str, Callable[[optim.Optimizer], Any]] = {
    "one-cycle": lambda o: schedules.OneCycleLR(o, 0.1, total_steps=TOTAL + 1),
    "cosine": lambda o: schedules.CosineAnnealingLR(o, TOTAL),
    "warm-restarts": lambda o: schedules.CosineAnnealingWarmRestarts(o, 3),
    "plateau": lambda o: schedules.ReduceLROnPlateau(o, patience=1),
    "sequential": lambda o: schedules.SequentialLR(
        o, [schedules.LinearLR(o, 0.1, total_iters=4), schedules.ExponentialLR(o, 0.8)], milestones=[4]
    ),
    "chained": lambda o: schedules.ChainedScheduler([schedules.ConstantLR(o, 0.5, 7), schedules.StepLR(o, 2)], o),
    "lambda": lambda o: schedules.LambdaLR(o, slower),
    "multi-step": lambda o: schedules.MultiStepLR(o, [3, 8], 0.3),
    "cyclic": lambda o: schedules.CyclicLR(o, 1e-3, 0.1, step_size_up=4, cycle_momentum=False),
    "polynomial": lambda o: schedules.PolynomialLR(o, TOTAL),
}


class Run:
    """A model with dropout and batch statistics, shuffled data with random noise, an average, a scaler."""

    def __init__(self, optimizer: str = "adamw", scheduler: str = "cosine", seed: int = 0) -> None:
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        self.model = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3), nn.Flatten(), nn.Linear(64, 3)
        )
        self.optimizer = OPTIMIZERS[optimizer](self.model.parameters())
        self.scheduler = SCHEDULERS[scheduler](self.optimizer)
        self.scaler = torch.amp.GradScaler("cpu", init_scale=64.0, growth_interval=4)
        self.ema = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
        self.generator = torch.Generator().manual_seed(seed)
        images = torch.linspace(-1, 1, 12 * 36).reshape(12, 1, 6, 6)
        data = torch.utils.data.TensorDataset(images, torch.arange(12) % 3)
        self.own = torch.utils.data.DataLoader(data, batch_size=8, shuffle=True, generator=self.generator)
        self.common = torch.utils.data.DataLoader(data, batch_size=12, shuffle=True)

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        yield from self.own
        yield from self.common

    def train(self, epochs: int) -> None:
        for _ in range(epochs):
            for images, classes in self.batches():
                noise = torch.from_numpy(np.random.normal(0, 0.1, images.shape).astype(np.float32))
                loss = self.step(images * random.uniform(0.9, 1.1) + noise, classes)
                self.ema.update_parameters(self.model)
                if isinstance(self.scheduler, schedules.ReduceLROnPlateau):
                    self.scheduler.step(loss.item())
                else:
                    self.scheduler.step()

    def step(self, images: Tensor, classes: Tensor) -> Tensor:
        if isinstance(self.optimizer, optim.LBFGS):

            def closure() -> float:
                self.optimizer.zero_grad()
                again = nn.functional.cross_entropy(self.model(images), classes)
                again.backward()
                return again.item()

            return torch.tensor(self.optimizer.step(closure))
        loss = nn.functional.cross_entropy(self.model(images), classes)
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss

    def save(self, path: str | os.PathLike[str], epoch: int = EPOCHS, **options: Any) -> zoo.TrainingCheckpoint:
        return zoo.save_checkpoint(
            self.model,
            self.optimizer,
            epoch,
            {"loss": 1.0 / (epoch + 1)},
            path=path,
            scheduler=self.scheduler,
            scaler=self.scaler,
            ema=self.ema,
            generators={"loader": self.generator},
            **options,
        )

    def load(self, path: str | os.PathLike[str], **options: Any) -> zoo.TrainingCheckpoint:
        return zoo.load_checkpoint(
            path,
            model=self.model,
            optimizer=self.optimizer,
            scheduler=self.scheduler,
            scaler=self.scaler,
            ema=self.ema,
            generators={"loader": self.generator},
            **options,
        )

    def fingerprint(self) -> str:
        """The digest of every bit of its state, random numbers included."""
        digest = hashlib.sha256()
        state = [part.state_dict() for part in (self.model, self.optimizer, self.scheduler, self.scaler, self.ema)]
        draws = [torch.rand(4), np.random.random(4), random.random(), torch.rand(4, generator=self.generator)]
        _digest([*state, draws], digest)
        return digest.hexdigest()


def _digest(value: Any, digest: Any) -> None:
    if isinstance(value, Tensor):
        digest.update(f"{value.dtype}{tuple(value.shape)}".encode() + value.detach().numpy().tobytes())
    elif isinstance(value, dict):
        for key in sorted(value, key=str):
            digest.update(repr(key).encode())
            _digest(value[key], digest)
    elif isinstance(value, list | tuple):
        for item in value:
            _digest(item, digest)
    else:
        digest.update(f"{type(value).__name__}{value!r}".encode())


def refuse_pickle() -> None:
    """Let this process end at any attempt to pickle or to unpickle."""

    def refuse(*_: object, **__: object) -> None:
        raise SystemExit("PICKLED")

    for module in (pickle, _pickle):
        for name in ("load", "loads", "dump", "dumps", "Unpickler", "Pickler"):
            setattr(module, name, refuse)
    torch.load = torch.save = refuse


def main(folder: str) -> None:
    torch.set_num_threads(1)
    prints = {}
    for name in sorted(os.listdir(folder)):
        optimizer, _, scheduler = name.partition("+")
        run = Run(optimizer, scheduler, seed=99)
        run.train(1)  # whatever it has before it loads must not matter
        refuse_pickle()  # torch has imported by now what needs it
        assert run.load(os.path.join(folder, name)).epoch == EPOCHS
        run.train(EPOCHS)
        run.save(os.path.join(folder, name), 2 * EPOCHS)
        prints[name] = run.fingerprint()
    print(json.dumps(prints))


if __name__ == "__main__":
    main(sys.argv[1])
