"""What two processes do together in the tests of sharded checkpoints."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.testing import assert_close

import zoo
from zoo.checkpoints.training import pieces, sharded


class Run:
    """A model with sharded layers, one that is not, an average, a schedule."""

    def __init__(self, shards: bool, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.model = nn.Sequential(nn.Linear(5, 7), nn.Dropout(0.3), nn.ReLU(), nn.Linear(7, 3))
        if shards:
            fully_shard(self.model, mesh=init_device_mesh("cpu", (dist.get_world_size(),)))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-2)
        self.scheduler = torch.optim.lr_scheduler.StepLR(self.optimizer, 2)
        self.generator = torch.Generator().manual_seed(seed)

    def train(self, steps: int) -> None:
        for _ in range(steps):
            loss = self.model(torch.randn(4, 5) + torch.randn(1, generator=self.generator)).square().mean()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.scheduler.step()

    def whole(self) -> dict[str, Tensor]:
        states = {f"state {n} {k}": v for n, s in self.optimizer.state_dict()["state"].items() for k, v in s.items()}
        return {name: _whole(value).clone() for name, value in {**self.model.state_dict(), **states}.items()}

    def save(self, path: Path, epoch: int, **options: Any) -> zoo.TrainingCheckpoint:
        return zoo.save_checkpoint(
            self.model, self.optimizer, epoch, {"m": 1}, path,
            scheduler=self.scheduler, generators={"data": self.generator}, **options,
        )  # fmt: skip

    def load(self, path: Path, **options: Any) -> zoo.TrainingCheckpoint:
        return zoo.load_checkpoint(
            path, self.model, self.optimizer,
            scheduler=self.scheduler, generators={"data": self.generator}, **options,
        )  # fmt: skip


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert_close(one[name], other[name], rtol=0, atol=0)


@contextmanager
def together(rank: int, folder: Path) -> Iterator[None]:
    """A process group of two on this machine."""
    torch.set_num_threads(1)
    store = dist.FileStore(str(folder / "rendezvous"), 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2, timeout=timedelta(seconds=60))
    yield
    dist.destroy_process_group()


def train_save_and_resume(rank: int, folder: Path) -> None:
    """Everything that two healthy processes do; `whole.pt`… are compared by the test."""
    with together(rank, folder):
        run = Run(shards=True)
        torch.manual_seed(100 + rank)
        run.train(3)
        saved = run.save(folder / "two", 3, keep_last=2, extra={"seen": 7})
        assert saved.name == "epoch-0003"
        at_save = run.whole()
        torch.save(at_save, folder / f"at_save_{rank}.pt")
        run.train(3)

        resumed = Run(shards=True, seed=1)
        resumed.train(1)
        assert resumed.load(folder / "two").extra == {"seen": 7}
        assert_same(resumed.whole(), at_save)
        resumed.train(3)
        assert_same(resumed.whole(), run.whole())
        assert torch.equal(torch.rand(3), resumed_draw(run, folder, rank))

        from_one = Run(shards=True, seed=2)
        with pytest.warns(UserWarning, match="not to the same bits"):
            from_one.load(folder / "one")
        assert_same(from_one.whole(), torch.load(folder / "one.pt"))
        refusals(run, folder, rank)


def resumed_draw(run: Run, folder: Path, rank: int) -> Tensor:
    """What this process draws after it has resumed and trained as before."""
    run.load(folder / "two")
    run.train(3)
    return torch.rand(3)


def refusals(run: Run, folder: Path, rank: int) -> None:
    """What one process meets is an error on both, and nothing is left."""
    write = pieces.write_file
    if rank == 1:
        pieces.write_file = full
    with pytest.raises(zoo.CheckpointError, match="No space left"):
        run.save(folder / "full", 1)
    pieces.write_file = write
    dist.barrier()
    assert not os.listdir(folder / "full")

    dist.barrier()
    before = run.whole()
    other = nn.Sequential(nn.Linear(5, 8), nn.Dropout(0.3), nn.ReLU(), nn.Linear(8, 3))
    fully_shard(other, mesh=init_device_mesh("cpu", (2,)))
    with pytest.raises(zoo.LoadError, match="another shape"):
        zoo.load_checkpoint(folder / "two", other)
    dist.barrier()
    if rank == 0:
        shard = folder / "two" / "epoch-0003" / "shard-00001.safetensors"
        raw = bytearray(shard.read_bytes())
        raw[-1] ^= 1
        (folder / "two-damaged").mkdir()
        os.rename(folder / "two" / "epoch-0003", folder / "two-damaged" / "epoch-0003")
        (folder / "two-damaged" / "epoch-0003" / shard.name).write_bytes(raw)
    dist.barrier()
    with pytest.raises(zoo.DigestError, match="shard-00001"):
        run.load(folder / "two-damaged")
    assert_same(run.whole(), before)


def full(folder: str, name: str, chunks: object) -> Any:
    raise OSError(28, "No space left on device")


def die_while_saving(rank: int, folder: Path, dying: int, moment: str) -> None:
    """One process is killed while both save; the other must say so, and leave nothing."""
    with together(rank, folder):
        run = Run(shards=True)
        run.save(folder / "run", 1)
        if rank == dying:
            target: Any = pieces.PieceWriter if moment == "write_data" else sharded
            setattr(target, moment, killed)
        with pytest.raises(zoo.CheckpointError):
            run.save(folder / "run", 2)
        assert os.listdir(folder / "run") == ["epoch-0001"]
        (folder / f"survived-{rank}").touch()
        os._exit(0)  # the group is broken; leaving it in good order would wait for the dead


def killed(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _whole(value: Any) -> Tensor:
    full_tensor: Callable[[], Tensor] | None = getattr(value, "full_tensor", None)
    whole = full_tensor() if full_tensor is not None else value
    assert isinstance(whole, Tensor)
    return whole
