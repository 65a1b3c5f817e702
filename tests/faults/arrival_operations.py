"""Downloads from a web server and from the Hub, killed and resumed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

from killing import Answer
from operations import nothing, operation

from loopback_hub import running_hub
from zoo.checkpoints import arrivals
from zoo.checkpoints.sources import fetch
from zoo.checkpoints.store import Store

BODY = hashlib.shake_256(b"weights").digest(400_000)
DIGEST = hashlib.sha256(BODY).hexdigest()
PLACE = "org/weights"


class Served:
    """Where the file is; known while `serving` runs."""

    web = ""
    hub = ""


@contextmanager
def serving() -> Iterator[None]:
    """Servers in a process of their own: this one is to be forked, and has no threads."""
    fork = get_context("fork")
    ours, theirs = fork.Pipe()
    server = fork.Process(target=_serve, args=(theirs, ours), daemon=True)
    server.start()
    theirs.close()
    Served.web, Served.hub = ours.recv()
    try:
        yield
    finally:
        ours.close()
        server.join(10)


def _serve(answers: Connection, other_end: Connection) -> None:
    other_end.close()
    with running_hub() as hub:
        hub.add(PLACE, "model.safetensors", BODY)
        answers.send((hub.serve("/model.safetensors", BODY), hub.endpoint))
        answers.poll(None)  # until the other end is closed


def arrived(said: Sequence[str]) -> None:
    store = Store()
    assert set(said) <= {DIGEST}
    blob = store.find(DIGEST)
    assert blob or not said
    assert not blob or Path(blob.path).read_bytes() == BODY


def fetched(answer: Answer, source: str, sha256: str | None) -> None:
    """Fetch it, with spans so short that there are several to resume after."""
    arrivals.SPAN = 1 << 16
    os.environ |= {"HF_ENDPOINT": Served.hub, "HF_HOME": os.path.abspath("hf"), "NO_PROXY": "127.0.0.1"}
    answer(fetch([source], sha256=sha256).sha256)


@operation("download", before=nothing, check=arrived)
def downloading(answer: Answer) -> None:
    fetched(answer, Served.web, DIGEST)


@operation("download without a digest", before=nothing, check=arrived)
def downloading_unpinned(answer: Answer) -> None:
    fetched(answer, Served.web, None)


@operation("download from the Hub", before=nothing, check=arrived)
def downloading_from_the_hub(answer: Answer) -> None:
    fetched(answer, f"hf://{PLACE}/model.safetensors", None)
