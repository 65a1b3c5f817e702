"""Training checkpoints: saved in the foreground and in the background, with old ones removed, killed meanwhile."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from killing import Answer
from operations import nothing, operation
from stones import Stone, stone, value_of

from zoo.checkpoints.training.folders import list_checkpoints
from zoo.checkpoints.training.loading import load_checkpoint
from zoo.checkpoints.training.saving import CheckpointSaver, save_checkpoint

KEPT = 2


def run_at(epoch: int) -> tuple[Stone, torch.optim.SGD]:
    """A model and an optimizer whose every number says which epoch it is."""
    model = stone(epoch)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for parameter in model.parameters():
        optimizer.state[parameter]["momentum_buffer"] = torch.full_like(parameter, epoch)
    return model, optimizer


def loss_at(epoch: int) -> dict[str, float]:
    """Worse with every epoch: the first stays the best."""
    return {"loss": float(epoch)}


def two_epochs() -> None:
    for epoch in range(3):
        save_checkpoint(*run_at(epoch), epoch, loss_at(epoch), "run", keep_last=KEPT, best=("loss", "min"))


def every_checkpoint_whole(said: Sequence[str]) -> None:
    """What is listed loads, all of it of one epoch; what was acknowledged and is due to stay is listed."""
    checkpoints = list_checkpoints("run")
    names = [checkpoint.name for checkpoint in checkpoints]
    for checkpoint in checkpoints:
        model, optimizer = run_at(99)
        load_checkpoint(checkpoint.path, model, optimizer)
        assert value_of(model) == checkpoint.epoch == checkpoint.metrics["loss"]
        buffers = [state["momentum_buffer"] for state in optimizer.state.values()]
        assert all(torch.equal(buffer, torch.full_like(buffer, checkpoint.epoch)) for buffer in buffers)
    if said:
        assert set(said[-KEPT:]) <= set(names), (said, names)
        assert load_checkpoint("run", stone(0)).name == names[-1]


def kept_with_the_best(said: Sequence[str]) -> None:
    every_checkpoint_whole(said)
    found = load_checkpoint("run", stone(0), which="best")
    assert found.epoch == 0
    assert len(list_checkpoints("run")) <= KEPT + 1 + 2  # of a killed life, what it saved and what it was to remove


@operation("save_checkpoint", before=nothing, check=every_checkpoint_whole)
def saving_one(answer: Answer) -> None:
    answer(save_checkpoint(*run_at(3), 3, loss_at(3), "run").name)


@operation("save_checkpoint, retention", before=two_epochs, check=kept_with_the_best)
def saving_with_retention(answer: Answer) -> None:
    for epoch in (3, 4):
        saved = save_checkpoint(*run_at(epoch), epoch, loss_at(epoch), "run", keep_last=KEPT, best=("loss", "min"))
        answer(saved.name)


@operation("save_checkpoint, background", before=two_epochs, check=kept_with_the_best)
def saving_in_the_background(answer: Answer) -> None:
    with CheckpointSaver("run", keep_last=KEPT, best=("loss", "min"), background=True) as saver:
        for epoch in (3, 4):
            model, optimizer = run_at(epoch)
            saver.save(model, optimizer, epoch, loss_at(epoch))
            with torch.no_grad():  # training goes on: what is being written is a copy
                for parameter in model.parameters():
                    parameter.fill_(-1.0)
            saved = saver.wait()
            answer(saved.name if saved else None)
