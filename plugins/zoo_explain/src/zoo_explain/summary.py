"""A model layer by layer: shapes, parameters, multiply-accumulates, memory; on the meta device, without its weights.

B batch, one image   M multiply-accumulates, which papers call FLOPs, of convolutions, linear layers and attention
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from zoo.errors import InputError, UnsupportedError
from zoo.models.model import Backbone, Model, evaluating

Shape = tuple[int, ...]
DEPTH = 3
HEADING = ("LAYER", "KIND", "OUTPUT", "PARAMS", "MACS", "ACTIVATIONS")


@dataclass(frozen=True, kw_only=True)
class LayerRow:
    """One layer with everything in it.

    path: in the model. kind: its class. depth: 1 for the model's own parts. outputs: the shapes of the tensors it
    gives; empty where it does not run. params: parameters, shared ones once. macs: multiply-accumulates of one image.
    activation_bytes: of all tensors that it and its parts give, each once.
    """

    path: str
    kind: str
    depth: int
    outputs: tuple[Shape, ...]
    params: int
    macs: int
    activation_bytes: int

    def __str__(self) -> str:
        return "  ".join(self.cells())

    def cells(self) -> tuple[str, ...]:
        """Its columns as text, under `HEADING`."""
        shapes = [" x ".join(map(str, shape[1:])) for shape in self.outputs]
        shown = ", ".join(shapes[:1] + ["…"] * (len(shapes) > 1)) or "-"
        numbers = f"{self.params:,}", _mega(self.macs), f"{self.activation_bytes / 1e6:.2f} MB"
        return self.path, self.kind, shown, *numbers


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a model is made of, and what one image costs it.

    name: its class. input: (1, C, H, W). rows: every layer, in the order of the model. params, trainable: parameters,
    and those of them that are trained. parameter_bytes: of parameters and buffers. macs, activation_bytes: as of a row.
    """

    name: str
    input: Shape
    outputs: tuple[Shape, ...]
    rows: tuple[LayerRow, ...]
    params: int
    trainable: int
    parameter_bytes: int
    macs: int
    activation_bytes: int

    def __str__(self) -> str:
        cells = [HEADING, *(row.cells() for row in self.down_to(DEPTH))]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = [
            "  ".join(c.ljust(w) if i < 3 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
            for row in cells
        ]
        return "\n".join([*lines, "", *(f"{name:<12} {value}" for name, value in self.totals())])

    def down_to(self, depth: int) -> list[LayerRow]:
        """The rows at most so deep inside the model."""
        return [row for row in self.rows if row.depth <= depth]

    def totals(self) -> Iterator[tuple[str, str]]:
        """Name and value of what holds for the whole model."""
        frozen = self.params - self.trainable
        yield "input", " x ".join(map(str, self.input[1:]))
        yield "output", ", ".join(" x ".join(map(str, shape[1:])) for shape in self.outputs)
        yield "parameters", f"{self.params:,}" + (f" ({frozen:,} of them frozen)" if frozen else "")
        yield "MACs", _mega(self.macs)
        yield (
            "memory",
            (
                f"{self.parameter_bytes / 1e6:.1f} MB parameters and buffers, "
                f"{self.activation_bytes / 1e6:.1f} MB activations"
            ),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)


def summarize(model: Model | Backbone, *, image_size: int | tuple[int, int] | None = None) -> Summary:
    """Run a model once without computing anything, and note what each of its layers gives and costs.

    Args:
        model: any model or backbone; neither its weights nor its device matter.
        image_size: pixels, one side or (height, width); None: the model's own.

    Raises:
        InputError: a size that the model does not take.
        UnsupportedError: no zoo model, or one whose path depends on the values of its input.
    """
    if not isinstance(model, Model | Backbone):
        raise UnsupportedError(f"a {type(model).__name__} is no zoo model", fix='zoo.create("resnet50")')
    reference = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    size = model.input_spec.size if image_size is None else image_size
    height, width = (size, size) if isinstance(size, int) else size
    shape = (1, model.input_spec.channels, height, width)
    images = torch.empty(shape, device="meta", dtype=reference.dtype)
    tensors = dict(model.named_parameters()) | dict(model.named_buffers())
    bodiless = {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors.items()}
    noted = _Notes(model)
    try:
        with torch.device("meta"), torch.no_grad(), evaluating(model), noted:
            if isinstance(model, Model):  # of one whose path depends on values, what comes before that
                inside = {f"model.{name}": tensor for name, tensor in bodiless.items()}
                outputs = functional_call(_Network(model), inside, (images,))
            else:
                outputs = functional_call(model, bodiless, (images,))
    except (NotImplementedError, RuntimeError) as error:
        raise InputError(
            f"{type(model).__name__} cannot be run on images of {height} x {width} without their values",
            found=str(error).splitlines()[0] if str(error) else type(error).__name__,
            fix="image_size=…, as zoo info has it",
        ) from error
    return Summary(
        name=type(model).__name__,
        input=shape,
        outputs=_shapes(outputs),
        rows=tuple(noted.row(path, module) for path, module in model.named_modules() if path),
        params=_count(model),
        trainable=sum(p.numel() for p in model.parameters() if p.requires_grad),
        parameter_bytes=sum(t.numel() * t.element_size() for t in [*model.parameters(), *model.buffers()]),
        macs=noted.counter.get_total_flops() // 2,
        activation_bytes=noted.bytes,
    )


class _Network(nn.Module):
    """What a model computes before values decide what is computed next, as a forward pass."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Any:
        return self.model.network(images)


@dataclass
class _Run:
    """How the counts stood when a module was called, and what the modules it calls add to them."""

    flops: int
    bytes: int
    inner_flops: int = 0
    inner_bytes: int = 0


class _Notes:
    """Watches a forward pass: what every module gives, and what it costs beside the modules it calls."""

    def __init__(self, model: nn.Module) -> None:
        self.counter = FlopCounterMode(display=False)
        self.bytes = 0
        self._model = model
        self._storages: dict[int, torch.UntypedStorage] = {}  # kept: a freed one's identity would be given again
        self._open: list[_Run] = []
        self._outputs: dict[int, tuple[Shape, ...]] = {}
        self._own: dict[int, tuple[int, int]] = {}  # operations and bytes, less those of modules called meanwhile
        self._hooks: list[Any] = []

    def __enter__(self) -> _Notes:
        for module in self._model.modules():
            self._hooks.append(module.register_forward_pre_hook(self._before))
            self._hooks.append(module.register_forward_hook(self._after))
        self.counter.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.counter.__exit__(*error)
        for hook in self._hooks:
            hook.remove()

    def row(self, path: str, module: nn.Module) -> LayerRow:
        """The row of one module."""
        own = [self._own.get(id(part), (0, 0)) for part in module.modules()]  # a part may be called from elsewhere
        return LayerRow(
            path=path,
            kind=type(module).__name__,
            depth=path.count(".") + 1,
            outputs=self._outputs.get(id(module), ()),
            params=_count(module),
            macs=sum(flops for flops, _ in own) // 2,
            activation_bytes=sum(size for _, size in own),
        )

    def _before(self, module: nn.Module, args: Any) -> None:
        self._open.append(_Run(self.counter.get_total_flops(), self.bytes))

    def _after(self, module: nn.Module, args: Any, output: Any) -> None:
        for tensor in _tensors(output):
            storage = tensor.untyped_storage()
            if storage._cdata not in self._storages:
                self._storages[storage._cdata] = storage
                self.bytes += storage.nbytes()
        run = self._open.pop()
        flops, size = self.counter.get_total_flops() - run.flops, self.bytes - run.bytes
        if self._open:
            self._open[-1].inner_flops += flops
            self._open[-1].inner_bytes += size
        earlier_flops, earlier_size = self._own.get(id(module), (0, 0))  # it may run more than once
        self._own[id(module)] = (earlier_flops + flops - run.inner_flops, earlier_size + size - run.inner_bytes)
        self._outputs[id(module)] = _shapes(output)


def _tensors(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping):
        for value in output.values():
            yield from _tensors(value)
    elif isinstance(output, list | tuple):
        for value in output:
            yield from _tensors(value)


def _shapes(output: Any) -> tuple[Shape, ...]:
    return tuple(tuple(tensor.shape) for tensor in _tensors(output))


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _mega(macs: int) -> str:
    return f"{macs / 1e9:.2f} G" if macs >= 1e9 else f"{macs / 1e6:.2f} M"
