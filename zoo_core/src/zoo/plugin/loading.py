"""Loading what a plugin declares: its code is imported here and nowhere else, and whatever goes wrong bears its name.

An import that never ends cannot be caught from inside; `zoo doctor` finds it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from zoo.errors import PluginError
from zoo.plugin.state import PluginRecord, as_error

if TYPE_CHECKING:
    from zoo.models.model import Component


def load_factory(factory: str, record: PluginRecord) -> type[Component]:
    """The class that `package.module:Class` names.

    Raises:
        PluginError: the plugin is not ok, its import fails or exits (`import-failed`), something it imports is not
            installed (`missing-deps`), or what is there is no `zoo` component with a config (`contract-failed`).
    """
    cls = load_object(factory, record)
    from zoo.models.config import ModelConfig
    from zoo.models.model import Component

    upgrade = f"pip install --upgrade {record.distribution}"
    if not isinstance(cls, type) or not issubclass(cls, Component):
        reason = f"{factory} is a {type(cls).__name__}, not a zoo.Model, Backbone, Neck or Head"
        raise as_error(record.quarantined("contract-failed", reason, upgrade))
    if not isinstance(cls.Config, type) or not issubclass(cls.Config, ModelConfig):
        reason = f"the Config of {factory} is not a zoo.ModelConfig"
        raise as_error(record.quarantined("contract-failed", reason, upgrade))
    required = [name for name, field in cls.Config.model_fields.items() if field.is_required()]
    if required:
        reason = f"the config of {factory} has no default for `{required[0]}`"
        raise as_error(record.quarantined("contract-failed", reason, upgrade))
    return cls


def load_object(address: str, record: PluginRecord) -> Any:
    """What `package.module:name` or `package.module` names, whatever it is; errors as those of `load_factory`."""
    if record.state != "ok":
        raise as_error(record)
    module_name, _, attribute = address.partition(":")
    try:
        module = import_module(module_name)
        return getattr(module, attribute) if attribute else module
    except (Exception, SystemExit) as error:
        raise _failure(address, record, error) from error


def _failure(address: str, record: PluginRecord, error: BaseException) -> PluginError:
    package = address.partition(":")[0].partition(".")[0]
    state, reason = "import-failed", f"importing {address} raised {type(error).__name__}: {error}"
    fix = f"pip install --force-reinstall --no-deps {record.distribution}"
    if isinstance(error, SystemExit):
        reason = f"importing {address} tried to end the process (exit status {error.code})"
    elif isinstance(error, ModuleNotFoundError) and error.name and error.name.partition(".")[0] != package:
        state, reason = "missing-deps", f"{address} needs `{error.name}`, which is not installed"
        # The core alone asks for no torch: that comes with the first plugin of models.
        fix = "pip install zoo-cnn" if record.namespace == "core" else f"pip install {record.distribution}"
    elif isinstance(error, AttributeError) and address.endswith(f":{error.name}"):
        state, reason = "contract-failed", f"there is no {address}"
        fix = f"pip install --upgrade {record.distribution}"
    return as_error(record.quarantined(state, reason, fix))
