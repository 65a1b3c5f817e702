"""Checkpoints of state that is spread over the processes of one run, through torch.distributed.checkpoint.

Every process writes the pieces it holds; the first one writes the rest and gives the folder its name when all are
done. In place of `model.safetensors` and `state.safetensors` there are

    shard-00000.safetensors …    what each process wrote; what is its alone, such as random numbers, under `local:`
    shards.json                  of every tensor: dtype, shape, and where each piece of it lies

torch's own writer pickles its index; this one is JSON. (While they agree on who writes what, torch's processes pickle
messages to each other, as all of its object collectives do; none of that reaches a file.)
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner, DefaultSavePlanner
from torch.distributed.checkpoint.state_dict_loader import load as load_together
from torch.distributed.checkpoint.state_dict_saver import save as save_together

from zoo.checkpoints.files import read_tensors
from zoo.checkpoints.store import sync_folder
from zoo.checkpoints.training.agreement import agreed, first_says, rank, world_size
from zoo.checkpoints.training.capture import Contents, Training, bare
from zoo.checkpoints.training.commit import Aside, aside, clean, commit, make_run_folder, write_file
from zoo.checkpoints.training.folders import (
    RECORD,
    STRUCTURE,
    File,
    TrainingCheckpoint,
    next_sequence,
    record_text,
)
from zoo.checkpoints.training.pieces import LOCAL, WEIGHT, PieceReader, PieceWriter, Whole, pieces_of, shard_name
from zoo.checkpoints.training.retention import retire
from zoo.checkpoints.training.trees import child, structure_text
from zoo.checkpoints.writing import is_sharded
from zoo.errors import CheckpointError, UnsupportedError

LOCAL_TREES = ("random", "generators")
"""What every process has of its own."""


def write_sharded(contents: Contents, checkpoint: TrainingCheckpoint, keep_last: int | None) -> TrainingCheckpoint:
    """Write one checkpoint together: every process of the default group calls it with its own shards.

    Args:
        checkpoint: its record as far as known; `path` is the run's folder, which every process must see.

    Raises:
        CheckpointError: a process could not write, or is gone; nothing is left in the run's folder.
    """
    if not dist.is_initialized():
        raise UnsupportedError("sharded state is saved by the processes that hold it", fix="init_process_group first")
    root = checkpoint.path
    with ExitStack() as stack:
        made = first_says(lambda: _opened(stack, root))
        agreed(lambda: _check_seen(made.path))
        files = _write_pieces(contents, made.path)
        ranks = agreed(lambda: {word: contents.structure[word] for word in LOCAL_TREES})
        structure = {word: tree for word, tree in contents.structure.items() if word not in LOCAL_TREES}
        text = structure_text({**structure, "ranks": ranks})
        return first_says(lambda: _finish(made, checkpoint, files, text, keep_last))


def read_pieces(checkpoint: TrainingCheckpoint, training: Training) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A checkpoint's tensors, each process's share of those that it holds as shards, whole ones of the others.

    Returns:
        The model's tensors by name, and all others by their names in the trees.
    """
    wholes = pieces_of(checkpoint)
    like = _sharded_targets(training)
    state: dict[str, Any] = {
        name: _room(whole, like.get(name, like.get(name.rpartition(".")[0]))) for name, whole in sorted(wholes.items())
    }  # `optimizer.state[0].exp_avg` lies as parameter 0 of the optimizer does
    alone = not dist.is_initialized()
    with warnings.catch_warnings():
        if alone:
            warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        planner = DefaultLoadPlanner(flatten_state_dict=False, flatten_sharded_tensors=False)
        reader = PieceReader(checkpoint.path, wholes)
        try:
            load_together(state, storage_reader=reader, planner=planner, no_dist=alone)
        except (CheckpointException, RuntimeError) as error:  # the first is no Exception
            raise CheckpointError(
                f"{checkpoint.path} could not be read by all processes of this run",
                found=_met(error),
            ) from error
    tensors = {name: value for name, value in state.items() if not name.startswith(WEIGHT)}
    weights = {name.removeprefix(WEIGHT): value for name, value in state.items() if name.startswith(WEIGHT)}
    return weights, tensors | _local_tensors(checkpoint)


def own_structure(structure: Mapping[str, Any], where: str, *, resumes: bool) -> dict[str, Any]:
    """The trees as this process has to read them: with its own random numbers, where it saved any.

    Warns a run that resumes with another number of processes that it will not come to the same bits.
    """
    ranks = structure.get("ranks") or [{word: structure[word] for word in LOCAL_TREES}]
    if resumes and len(ranks) != world_size():
        warnings.warn(
            f"{where} was saved by a run of {len(ranks)} and is read by one of {world_size()}: training goes on, but "
            "not to the same bits, since random numbers cannot be shared out anew",
            stacklevel=5,
        )
    own = ranks[rank()] if rank() < len(ranks) else {"random": None, "generators": ranks[0]["generators"]}
    return {**structure, **own}


def _opened(stack: ExitStack, root: str) -> Aside:
    make_run_folder(root)
    clean(root)
    return stack.enter_context(aside(root))


def _check_seen(path: str) -> None:
    if not os.path.isdir(path):
        raise CheckpointError(
            "this process does not see the folder that the first one made",
            asked=path,
            fix="a folder on a file system that all processes share",
        )


def _write_pieces(contents: Contents, folder: str) -> dict[str, File]:
    """Write this process's shard; what all of them wrote."""
    shared = {WEIGHT + name: tensor for name, tensor in contents.weights.items()}
    own: dict[str, Tensor] = {}
    for name, tensor in contents.tensors.items():
        (own if name.startswith(LOCAL_TREES) else shared)[name] = tensor
    writer = PieceWriter(folder, rank(), own, contents.metadata)
    planner = DefaultSavePlanner(flatten_state_dict=False, flatten_sharded_tensors=False)
    try:
        save_together(dict(sorted(shared.items())), storage_writer=writer, planner=planner)
    except (CheckpointException, RuntimeError, OSError) as error:  # the first is no Exception
        raise CheckpointError(
            "the processes of this run could not write a checkpoint together; nothing of it is left",
            found=_met(error),
            fix="a process that is gone has to come back; the others can save again",
        ) from error
    sync_folder(folder)
    return {name: file for written in agreed(lambda: writer.files) for name, file in written.items()}


def _met(error: BaseException) -> str:
    """What went wrong, and in which process."""
    if isinstance(error, CheckpointException):
        faults = {number: wrapped[0] for number, wrapped in error.failures.items()}
        return "; ".join(f"process {number}: {type(e).__name__}: {str(e)[:200]}" for number, e in faults.items())
    return f"{type(error).__name__}: {str(error)[:300]}"


def _finish(
    made: Aside, checkpoint: TrainingCheckpoint, files: dict[str, File], structure: bytes, keep_last: int | None
) -> TrainingCheckpoint:
    root = checkpoint.path
    files = {**files, STRUCTURE: write_file(made.path, STRUCTURE, [structure])}
    checkpoint = replace(checkpoint, files=files, sequence=next_sequence(root))
    write_file(made.path, RECORD, [record_text(checkpoint).encode()])
    saved = replace(checkpoint, path=commit(made, root, checkpoint.epoch, checkpoint.step))
    retire(saved, keep_last, saved.best)
    return saved


def _sharded_targets(training: Training) -> dict[str, Tensor]:
    """The live shards by the names that their saved states have: weights, averages, optimizer states."""
    found: dict[str, Tensor] = {}
    if training.model is not None:
        found |= {WEIGHT + name: value for name, value in bare(training.model).state_dict().items()}
    for name, part in training.parts().items():
        if isinstance(part, nn.Module):
            found |= {child(name, key): value for key, value in part.state_dict().items()}
        elif isinstance(part, torch.optim.Optimizer):
            parameters = [p for group in part.param_groups for p in group["params"]]
            found |= {f"{name}.state[{number}]": p for number, p in enumerate(parameters)}
    return {name: value for name, value in found.items() if isinstance(value, Tensor) and is_sharded(value)}


def _room(whole: Whole, like: Tensor | None) -> Tensor:
    if like is not None and tuple(like.shape) == whole.shape:
        return torch.empty_like(like, dtype=whole.dtype, requires_grad=False)
    return torch.empty(whole.shape, dtype=whole.dtype)


def _local_tensors(checkpoint: TrainingCheckpoint) -> dict[str, Tensor]:
    name = shard_name(rank())
    if name not in checkpoint.files:  # one process more than there were: it takes the first one's generators
        name = shard_name(0)
    if name not in checkpoint.files:
        return {}
    tensors = read_tensors(os.path.join(checkpoint.path, name)).tensors
    return {key.removeprefix(LOCAL): value.clone() for key, value in tensors.items() if key.startswith(LOCAL)}
