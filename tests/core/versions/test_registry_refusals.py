"""What cannot be registered is refused in words, and leaves nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from registered_models import Pebble, blobs, pebble
from torch import nn

import zoo


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"name": "My Model"}, zoo.RefError),
        ({"name": "../m"}, zoo.RefError),
        ({"version": "1.0"}, zoo.RefError),
        ({"version": "latest"}, zoo.RefError),
        ({"model": nn.Linear(2, 2)}, zoo.OptionError),
        ({"model": nn.Linear}, zoo.OptionError),
        ({"model": pebble(1.0), "config": {}}, zoo.OptionError),
        ({"config": {"widht": 3}}, zoo.OptionError),
        ({"tags": "production"}, zoo.OptionError),
        ({"metrics": {"top1": float("nan")}}, zoo.OptionError),
        ({"metrics": {"top1": "0.9"}}, zoo.OptionError),
        ({"parent": "no digest"}, zoo.DigestError),
        ({"parent": ("m", "1.0.0")}, zoo.NotFoundError),
        ({"data": 3}, zoo.OptionError),
        ({"tags": None}, zoo.OptionError),
        ({"tags": 5}, zoo.OptionError),
        ({"metrics": [1]}, zoo.OptionError),
        ({"metrics": 5}, zoo.OptionError),
        ({"metrics": {"a": 10**400}}, zoo.OptionError),
        ({"metrics": {"a": torch.ones(2)}}, zoo.OptionError),
        ({"parent": ("m", "1.0.0", "x")}, zoo.OptionError),
        ({"parent": 5}, zoo.OptionError),
        ({"parent": "local/m@1.0.0"}, zoo.NotFoundError),
    ],
)
def test_what_cannot_be_kept_is_refused_and_leaves_nothing(change: dict[str, object], kind: type[Exception]) -> None:
    given = {"name": "m", "version": "1.0.0", "model": Pebble, **change}
    with pytest.raises(kind):
        zoo.ModelRegistry().register(**given)  # type: ignore[arg-type]  # junk is the point
    assert not zoo.ModelRegistry().list()
    assert blobs(Path(os.environ["ZOO_HOME"])) == []


def test_a_model_that_its_config_does_not_describe_is_refused(registry: zoo.ModelRegistry) -> None:
    model = pebble(1.0)
    model.fc = nn.Linear(4, 9)
    with pytest.raises(zoo.UnsupportedError, match="opened again"):
        registry.register(name="m", version="1.0.0", model=model)


def test_a_model_that_is_not_registered_has_no_history_and_no_alias(registry: zoo.ModelRegistry) -> None:
    registry.register(name="model", version="1.0.0", model=Pebble)
    assert registry.history("model") == ()
    for look in (lambda: registry.history("mode"), lambda: registry.rollback("mode", "production")):
        with pytest.raises(zoo.NotFoundError, match=r"no model 'mode' is registered; did you mean 'model'\?"):
            look()
