"""What loading costs in memory: the file once, and in another dtype the file and the copy, tensor by tensor."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import zoo
from zoo.checkpoints.store import Store, digest_of, read_chunks

CHILD = """
import re, sys
import torch
import zoo

def memory(what):
    with open("/proc/self/status") as file:
        return int(re.search(what + r":\\s+(\\d+) kB", file.read())[1]) * 1024

torch.set_num_threads(1)
options = dict(width=768, heads=12, img_size=32, num_classes=3)
warm = zoo.create("vit_base_patch16_224", **options, depth=1)
del warm
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # forget the peak so far
before = memory("VmRSS")
model = zoo.create("vit_base_patch16_224", **options, depth=7, checkpoint=sys.argv[1], dtype=sys.argv[2] or None)
total = sum(float(p.detach().sum()) for p in model.parameters())  # every page is used
print(memory("VmHWM") - before, next(model.parameters()).dtype)
"""


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some 200 MB of weights."""
    folder = tmp_path_factory.mktemp("weights") / "vit"
    model = zoo.create("vit_base_patch16_224", width=768, heads=12, img_size=32, num_classes=3, depth=7)
    model.save_pretrained(folder)
    return folder / "model.safetensors"


def peak(source: str, dtype: str) -> int:
    """Bytes above what the process had before, at most, while it creates the model and uses it."""
    done = subprocess.run([sys.executable, "-c", CHILD, source, dtype], capture_output=True, text=True, check=True)
    grown, found = done.stdout.split()
    assert found == f"torch.{dtype or 'float32'}"
    return int(grown)


@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="needs Linux's /proc to measure the peak")
@pytest.mark.long
@pytest.mark.parametrize("kept", ["own file", "stored"])
def test_a_load_takes_the_file_once_and_another_dtype_its_copy(weights: Path, kept: str) -> None:
    size = weights.stat().st_size
    assert size > 190_000_000
    source = f"file://{weights}"
    if kept == "stored":
        store, source = Store(), "https://example.org/vit.safetensors"
        with open(weights, "rb") as file:
            blob = store.put(read_chunks(file))
        assert blob.sha256 == digest_of(str(weights))
        store.remember_pin(source, blob.sha256, source)
    assert 0.5 * size < peak(source, "") < 1.15 * size
    assert peak(source, "bfloat16") < 1.65 * size  # the file, half of it again, and no whole copy in between
