"""Child processes by forking, and what they say before they end or are killed."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection

import torch

FORK = multiprocessing.get_context("fork")  # a child costs no import of torch


def started(target: Callable[..., None], *arguments: object) -> tuple[multiprocessing.Process, Connection]:
    """A child process that runs `target(answers, *arguments)`, and the end where its answers come out."""
    out, answers = FORK.Pipe(duplex=False)
    process = FORK.Process(target=_child, args=(target, answers, *arguments), daemon=True)
    process.start()
    answers.close()
    return process, out  # type: ignore[return-value]  # a fork's process is a process


def _child(target: Callable[..., None], answers: Connection, *arguments: object) -> None:
    torch.set_num_threads(1)
    target(answers, *arguments)


def received(out: Connection) -> list[tuple[str, str, float]]:
    """Everything a child said before it ended."""
    said = []
    try:
        while True:
            said.append(out.recv())
    except EOFError:
        return said
