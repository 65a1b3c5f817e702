"""Every error the zoo raises on purpose: what was asked, what was found, what to type next."""

from __future__ import annotations


class ZooError(Exception):
    """Base of all zoo errors.

    Args:
        message: one sentence, what went wrong.
        asked: what the caller asked for.
        found: what was there instead.
        fix: what to type next: a command or an argument.
    """

    code = "zoo"

    def __init__(
        self, message: str, *, asked: str | None = None, found: str | None = None, fix: str | None = None
    ) -> None:
        super().__init__(message, asked, found, fix)  # all of them in args, so that pickling keeps them
        self.message, self.asked, self.found, self.fix = message, asked, found, fix

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.message, self.asked, self.found, self.fix, self.__dict__))

    def __str__(self) -> str:
        lines = [self.message]
        lines += [f"  asked: {self.asked}"] if self.asked else []
        lines += [f"  found: {self.found}"] if self.found else []
        lines += [f"  try:   {self.fix}"] if self.fix else []
        return "\n".join(lines)

    def to_dict(self) -> dict[str, str | None]:
        """The error as data, for `--json` output and logs."""
        return {
            "code": self.code,
            "message": self.message,
            "asked": self.asked,
            "found": self.found,
            "fix": self.fix,
        }


def _rebuild(
    kind: type[ZooError],
    message: str,
    asked: str | None,
    found: str | None,
    fix: str | None,
    state: dict[str, object],
) -> ZooError:
    error = kind.__new__(kind)
    ZooError.__init__(error, message, asked=asked, found=found, fix=fix)
    error.__dict__.update(state)
    return error


class RefError(ZooError):
    """A reference that does not follow the grammar; the message carries a caret under the fault."""

    code = "ref"


class NotFoundError(ZooError):
    """No such model, checkpoint, component, plugin or label space."""

    code = "not-found"


class AmbiguousNameError(ZooError):
    """A bare name that more than one first-party plugin provides."""

    code = "ambiguous-name"


class PluginError(ZooError):
    """A plugin is quarantined, incompatible or failed to import; `state` says which.

    Attributes:
        namespace: the plugin at fault.
        state: one of `zoo.plugin.state.STATES`.
    """

    code = "plugin"
    namespace: str = ""
    state: str = ""


class ManifestError(ZooError):
    """A plugin's manifest or catalogue row is not valid; the place in the file is named."""

    code = "manifest"


class OptionError(ZooError):
    """An unknown or out-of-range option, with the nearest valid one suggested."""

    code = "option"


class UnsupportedError(ZooError):
    """A valid request that this model cannot serve (a size it does not allow, feature maps it has not)."""

    code = "unsupported"


class InputError(ZooError):
    """An image, array or tensor that cannot be used: truncated, empty, wrong shape, dtype or range."""

    code = "input"


class LabelError(ZooError):
    """Labels or class ids that do not fit the label space."""

    code = "label"


class CheckpointError(ZooError):
    """A checkpoint that cannot be had, read or trusted."""

    code = "checkpoint"


class SourceError(CheckpointError):
    """No source could deliver a file: not there, not allowed, or the connection failed."""

    code = "source"


class OfflineError(SourceError):
    """Files are not in the store and the network is switched off.

    `missing` has one `zoo.checkpoints.delivery.MissingFile` for each: name, size, SHA-256 and sources, where known.
    """

    code = "offline"
    missing: tuple[object, ...] = ()


class DigestError(CheckpointError):
    """The bytes that arrived are not the bytes that were promised."""

    code = "digest"


class FormatError(CheckpointError):
    """A weights file of an unknown, refused or damaged format, or one that its key map does not fit."""

    code = "format"


class LoadError(CheckpointError):
    """Weights that do not fit the model. `report` is the `LoadReport` with every unmatched key."""

    code = "load"
    report: object = None


class LicenseError(ZooError):
    """Weights whose licence the caller has not accepted."""

    code = "license"


class LockError(ZooError):
    """Something else than what the lock file says, or a lock file that cannot be read."""

    code = "lock"


class MissingDependencyError(ZooError):
    """A Python package that this call needs is not installed."""

    code = "missing-dependency"
