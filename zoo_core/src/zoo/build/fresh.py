"""What a file of weights lacks, freshly initialised: for loads that are not strict.

A model that is to be loaded was built without initialisation, so its own values are none. The tensors a file lacks
come from a second model of the same configuration, built as its class initialises it, and only if one is missing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

from torch import Tensor

from zoo.errors import ZooError
from zoo.models.model import Component, Model


class Fresh:
    """An initialised twin of a component, built on first need.

    Args:
        build: gives the twin. It is taken apart: it must not be the component itself.
    """

    def __init__(self, build: Callable[[], Component]) -> None:
        self._build = build

    @cached_property
    def _twin(self) -> Component:
        return self._build()

    @cached_property
    def head(self) -> frozenset[str]:
        """The names of the tensors that replacing the head replaces; empty where it cannot be replaced."""
        classes = getattr(self._twin.config, "num_classes", None) or getattr(self._twin, "num_classes", None)
        if not isinstance(self._twin, Model) or not isinstance(classes, int):
            return frozenset()
        before = self._twin.state_dict(keep_vars=True)
        try:
            self._twin.reset_head(classes)
        except ZooError:
            return frozenset()
        after = self._twin.state_dict(keep_vars=True)
        return frozenset(name for name, tensor in after.items() if tensor is not before.get(name))

    def tensor(self, name: str) -> Tensor:
        """The initial value of a parameter or buffer, detached."""
        return self._state[name]

    @cached_property
    def _state(self) -> dict[str, Tensor]:
        return self._twin.state_dict()
