"""The states a plugin can be in, and the record that says which, why, and what to type about it."""

from __future__ import annotations

from typing import NamedTuple

from zoo.errors import PluginError

STATES = (
    "ok",
    "disabled",
    "incompatible",
    "invalid-manifest",
    "manifest-missing",
    "namespace-conflict",
    "missing-deps",
    "import-failed",
    "contract-failed",
)
"""Every state. All but the first quarantine the plugin: its models are known, if its manifest could be read, and not
built. The last two are found when a factory or a hook is first imported, or by `zoo doctor`."""


class PluginRecord(NamedTuple):
    """One installed plugin, as discovery found it.

    namespace, distribution, version: what its metadata claims (the distribution's name normalised, as pip shows it).
    state: one of `STATES`; reason: one sentence, empty if ok; fix: the command that mends it.
    manifest: path of its manifest, empty if not found. location: the folder its metadata lies in (`….dist-info`).
    """

    namespace: str
    distribution: str
    version: str
    state: str = "ok"
    reason: str = ""
    fix: str = ""
    manifest: str = ""
    location: str = ""

    def quarantined(self, state: str, reason: str, fix: str) -> PluginRecord:
        """The same plugin in a state that is not ok."""
        return self._replace(state=state, reason=reason, fix=fix)


def as_error(record: PluginRecord) -> PluginError:
    """The error that says why this plugin cannot be used. Only for a record that is not ok."""
    error = PluginError(
        f"the plugin {record.distribution} {record.version} ({record.namespace}/) is {record.state}: {record.reason}",
        found=record.manifest or record.location,
        fix=record.fix,
    )
    error.namespace, error.state = record.namespace, record.state
    return error
