"""Torch's files through the inert reader: real modules give torch's own state dicts, and none of their code runs."""

from __future__ import annotations

import io
import sys
import types
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from hypothesis import HealthCheck, given, settings, strategies as st
from torch import Tensor, nn

from zoo.checkpoints.torch_files import read_torch_file
from zoo.errors import ZooError

Layout = pytest.mark.parametrize("legacy", [False, True], ids=["archive", "plain"])


def state_of(path: Path) -> dict[str, Tensor]:
    """The tensors of a file that holds one module."""
    file = read_torch_file(str(path))
    fields = file.fields(file.root)
    assert fields is not None
    state = {str(name): file.tensor(value) for name, value in fields.items()}
    assert all(tensor is not None for tensor in state.values())
    return state  # type: ignore[return-value]  # none is None


def saved(path: Path, content: Any, legacy: bool = False) -> Path:
    """A torch file."""
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor), name


@Layout
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("family", ["torchvision", "timm"])
def test_a_pickled_model_gives_its_state_dict(tmp_path: Path, family: str, half: bool, legacy: bool) -> None:
    torch.manual_seed(0)
    model = torchvision.models.shufflenet_v2_x0_5() if family == "torchvision" else timm.create_model("test_vit")
    model = model.half() if half else model
    path = saved(tmp_path / "m.pt", model, legacy)
    assert_same(state_of(path), model.state_dict())


class Part(nn.Module):
    """Everything a module may keep: tied and shared parts, absent ones, both kinds of buffers, views."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 4, bias=False)
        self.same = self.linear
        self.tied = nn.Parameter(torch.randn(4, 3))
        self.again = self.tied
        self.register_buffer("kept", torch.arange(6).reshape(2, 3).t())
        self.register_buffer("passing", torch.ones(2), persistent=False)
        self.register_buffer("absent", None)
        self.register_parameter("nothing", None)
        self.blocks = nn.ModuleDict({"a": nn.BatchNorm1d(3), "b": nn.Sequential(nn.Conv2d(1, 2, 3), nn.GELU())})
        self.free = torch.ones(3)  # no buffer
        self.scale = nn.Parameter(torch.ones(()), requires_grad=False)


@Layout
@pytest.mark.parametrize("protocol", [2, 4])
def test_names_are_those_torch_gives(tmp_path: Path, legacy: bool, protocol: int) -> None:
    module = Part()
    torch.save(module, tmp_path / "m.pt", _use_new_zipfile_serialization=not legacy, pickle_protocol=protocol)
    found = state_of(tmp_path / "m.pt")
    assert_same(found, module.state_dict())
    assert "passing" not in found
    assert found["tied"] is found["again"]


@Layout
@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")
def test_a_class_that_is_nowhere_any_more_is_no_obstacle(tmp_path: Path, legacy: bool) -> None:
    module = types.ModuleType("gone_for_good")
    exec(  # a module that exists only here
        "import torch\nclass Net(torch.nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.fc = torch.nn.Linear(2, 2)\n    def __setstate__(self, state):\n        raise SystemExit\n",
        vars(module),
    )
    vars(module)["Net"].__module__ = "gone_for_good"
    sys.modules["gone_for_good"] = module
    net = vars(module)["Net"]()
    path = saved(tmp_path / "m.pt", net, legacy)
    del sys.modules["gone_for_good"]
    before = set(sys.modules)
    assert_same(state_of(path), net.state_dict())
    assert set(sys.modules) == before


def test_a_scripted_model_gives_its_tensors_and_runs_no_code(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    with pytest.warns(FutureWarning):
        torch.jit.script(module).save(tmp_path / "m.pt")
    found = state_of(tmp_path / "m.pt")
    assert found.keys() == module.state_dict().keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in module.state_dict().items())


@Layout
@pytest.mark.parametrize(
    "dtype",
    ["float64", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool", "complex64", "float8_e4m3fn", "uint16"],
)
def test_every_dtype_comes_back(tmp_path: Path, dtype: str, legacy: bool) -> None:
    tensor = torch.tensor([0, 1, 1, 0, 1]).to(getattr(torch, dtype))
    file = read_torch_file(str(saved(tmp_path / "m.pt", {"a": tensor[1:], "b": torch.ones(3)}, legacy)))
    found = file.tensor(file.root["a"])
    assert found is not None
    assert found.dtype == tensor.dtype
    assert torch.equal(found.view(torch.uint8), tensor[1:].clone().view(torch.uint8))
    assert torch.equal(file.tensor(file.root["b"]), torch.ones(3))  # type: ignore[arg-type]  # it is there


def test_a_file_from_the_other_byte_order_is_turned(tmp_path: Path) -> None:
    state = {
        "a": torch.randn(5),
        "b": torch.arange(3),
        "c": torch.randn(2, dtype=torch.complex64),
        "d": torch.ones(2).bool(),
    }
    saved(tmp_path / "m.pt", state)
    with zipfile.ZipFile(tmp_path / "m.pt") as archive, zipfile.ZipFile(tmp_path / "big.pt", "w") as other:
        for name in archive.namelist():
            raw = archive.read(name)
            if "/data/" in name:
                width = (4, 8, 4, 1)[int(name.rpartition("/")[2])]
                raw = b"".join(raw[at : at + width][::-1] for at in range(0, len(raw), width))
            other.writestr(name, b"big" if name.endswith("byteorder") else raw)
    file = read_torch_file(str(tmp_path / "big.pt"))
    for name, tensor in state.items():
        assert torch.equal(file.tensor(file.root[name]), tensor)  # type: ignore[arg-type]  # it is there


def ran() -> None:
    """The canary."""
    raise AssertionError("code of the file was run")


class Bomb:
    def __reduce__(self) -> Any:
        return ran, ()


def real(legacy: bool) -> bytes:
    """A real file of a module, with something in it that would be run."""
    stream = io.BytesIO()
    module = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    torch.save({"model": module, "x": Bomb()}, stream, _use_new_zipfile_serialization=not legacy)
    return stream.getvalue()


REAL = {legacy: real(legacy) for legacy in (False, True)}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(st.booleans(), st.floats(0, 1), st.binary(max_size=6), st.integers(0, 6))
def test_any_damage_is_an_error_of_ours_or_harmless(
    tmp_path: Path, legacy: bool, place: float, put: bytes, cut: int
) -> None:
    raw = REAL[legacy]
    at = int(place * len(raw))
    (tmp_path / "m.pt").write_bytes(raw[:at] + put + raw[at + cut :])
    with suppress(ZooError):
        file = read_torch_file(str(tmp_path / "m.pt"))
        held = [file.root]
        for value in held:
            file.tensor(value)
            held.extend(((file.fields(value) or {}).values()) if len(held) < 100 else ())


def test_only_archives_of_plain_tensors_are_torch_s_to_read(tmp_path: Path) -> None:
    state = nn.Linear(2, 2).state_dict()
    assert read_torch_file(
        str(saved(tmp_path / "a.pt", {"state_dict": state, "parameter": nn.Parameter(state["bias"])}))
    ).plain
    assert not read_torch_file(str(saved(tmp_path / "b.pt", {"state_dict": state, "x": Bomb()}))).plain
    assert not read_torch_file(str(saved(tmp_path / "c.pt", state, legacy=True))).plain
    many = {"state_dict": state, "x": {i * ((1 << 61) - 1): 0 for i in range(1, 9)}}  # they fall together in a dict
    assert not read_torch_file(str(saved(tmp_path / "d.pt", many))).plain
