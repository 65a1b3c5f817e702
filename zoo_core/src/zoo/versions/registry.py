"""ModelRegistry: a trained model has a name, a version and a history. Needs torch only to register and to load."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any, Literal, overload

from zoo.checkpoints.store import Store
from zoo.errors import NotFoundError
from zoo.paths import home
from zoo.versions import filing, selection
from zoo.versions.addresses import LATEST, Address, checked_name, checked_word
from zoo.versions.filing import checked_metrics, checked_note, checked_tags
from zoo.versions.ledger import Ledger
from zoo.versions.listing import listed
from zoo.versions.records import AliasChange, Parent, Transfer, VersionDifference, VersionRecord
from zoo.versions.registration import register_component, stated_parent
from zoo.versions.semver import Version
from zoo.versions.shelf import Shelf

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from zoo.build.saved import Use
    from zoo.models.config import ModelConfig
    from zoo.models.model import Component


class ModelRegistry:
    """Versions of one's own models: class, config, weights, tags, metrics and lineage. None is ever overwritten.

    Versions are semantic (semver.org). A selector, wherever a version is asked for, is a version (`1.2.0`), a range
    (`^1.2`, `~1.2.3`, `>=1,<2`, `1.*`), `latest` (the newest release; of pre-releases alone the newest), an alias
    (`production`), or a tag, which means the newest version that bears it; where a word is both, the alias counts.

    Safe for any number of processes. Weights are in the content-addressed store, once for all versions that share
    them, and are checked when they are loaded.

    Args:
        path: a folder with everything in it. By default `$ZOO_HOME/registry`, with the weights in the zoo's own
            store; that one is what `zoo.create("local/…")` and `zoo registry` use. It need not exist yet.
    """

    def __init__(self, path: str | PathLike[str] | None = None) -> None:
        self.path = os.path.join(home(), "registry") if path is None else os.path.abspath(os.fspath(path))
        self._shelf = Shelf(Ledger(self.path), Store(None if path is None else self.path))

    def register(
        self,
        *,
        name: str,
        version: str,
        model: type[Component] | Component,
        config: ModelConfig | Mapping[str, Any] | None = None,
        weights: Mapping[str, Tensor] | None = None,
        tags: Sequence[str] = (),
        metrics: Mapping[str, float] | None = None,
        parent: str | tuple[str, str] | None = None,
        data: str = "",
    ) -> VersionRecord:
        """Keep a model for ever, under a name and a version. Complete or not at all.

        Args:
            model: an instance with its weights, or a class, which is built from `config`: with `weights`, or random.
            weights: tensors by the class's own names.
            tags: words; they stay as they are, unlike aliases.
            metrics: finite numbers by name.
            parent: what it was made from: the SHA-256 of those weights, or (name, version) or `name@version` here. By
                default what the model itself was loaded from; of an unchanged copy, the original's parent.
            data: a note on what it was trained on.

        Returns:
            The record. The very same content under the same version again is no error: its first record is returned.

        Raises:
            RefError: a name, version or tag that is none.
            OptionError, UnsupportedError: a model or values that cannot be kept.
            ZooError: the version is taken, and the next free ones are named; or the registry cannot be written.
        """
        from zoo.versions.contents import built

        checked_name(name)
        wanted = Version.parse(version)
        notes = {"tags": checked_tags(tags), "metrics": checked_metrics(metrics), "data": checked_note(data)}
        stated = None if parent is None else stated_parent(self._shelf, parent)
        return register_component(self._shelf, name, wanted, built(model, config, weights), stated, notes)

    @overload
    def load(
        self,
        name: str,
        version: str = ...,
        *,
        return_info: Literal[False] = ...,
        cls: type[Component] | None = ...,
        device: str | torch.device | None = ...,
        dtype: torch.dtype | str | None = ...,
        allow_licenses: Sequence[str] | str | None = ...,
    ) -> Any: ...

    @overload
    def load(
        self,
        name: str,
        version: str = ...,
        *,
        return_info: Literal[True],
        cls: type[Component] | None = ...,
        device: str | torch.device | None = ...,
        dtype: torch.dtype | str | None = ...,
        allow_licenses: Sequence[str] | str | None = ...,
    ) -> tuple[Any, VersionRecord]: ...

    def load(
        self,
        name: str,
        version: str = LATEST,
        *,
        return_info: bool = False,
        cls: type[Component] | None = None,
        device: str | torch.device | None = None,
        dtype: torch.dtype | str | None = None,
        allow_licenses: Sequence[str] | str | None = None,
    ) -> Any:
        """A registered model with its weights, in evaluation mode.

        Args:
            version: a selector, see the class.
            return_info: give (model, its `VersionRecord`).
            cls: the model's class, where it cannot be imported from where it was.
            device, dtype: where and as what the parameters are made; by default the dtype that they were registered in.
            allow_licenses: as for `zoo.create`; a model made from somebody's weights is under their licence.

        Raises:
            RefError, NotFoundError: no such version.
            PluginError: its class cannot be imported; the message names what to import or install.
            DigestError, CheckpointError: the stored weights are damaged or gone.
        """
        from zoo.build.placement import as_placement
        from zoo.build.saved import Use

        record = self.show(name, version)
        use = Use(placement=as_placement(device, dtype))
        model = self._open(record, use, allow_licenses, cls)
        return (model, record) if return_info else model

    def show(self, name: str, version: str = LATEST) -> VersionRecord:
        """Everything known about one version. Raises `RefError`, `NotFoundError`."""
        return self._shelf.record(Address(name, version))

    def list(
        self, pattern: str = "*", *, tag: str | None = None, limit: int | None = None, offset: int = 0
    ) -> Sequence[VersionRecord]:
        """Versions by name (`*` and `?` as in a shell) and tag: names in order, of each the newest first.

        Args:
            limit, offset: at most so many, after so many. A record is read when it is looked at, so that a long list
                costs little.
        """
        return listed(self._shelf.ledger, pattern, tag, limit, offset)

    def promote(self, name: str, version: str, alias: str) -> AliasChange:
        """Let an alias mean a version from now on. Where it does already, nothing changes and nothing is noted.

        Raises:
            RefError: the alias is no word. NotFoundError: no such version. ZooError: it cannot be written.
        """
        checked_word(alias, "an alias")
        with self._shelf.ledger.writing() as connection:
            number, record = selection.find(connection, Address(checked_name(name), version))
            now = selection.last_change(connection, record.name, alias)
            if now is None or now[1] != number:
                filing.file_change(connection, record.name, alias, "promote", number, now and now[0])
            return selection.history(connection, record.name, alias)[-1]

    def rollback(self, name: str, alias: str) -> AliasChange:
        """Let an alias mean again what it meant before its last promotion that still holds; repeated, further back.

        Raises:
            NotFoundError: no such model or alias, or it has no earlier target. ZooError: it cannot be written.
        """
        with self._shelf.ledger.writing() as connection:
            selection.check_registered(connection, checked_name(name))
            now = selection.last_change(connection, name, alias)
            if now is None:
                known = sorted({change.alias for change in selection.history(connection, name, None)})
                raise NotFoundError(f"{name} has no alias {alias!r}", found=", ".join(known) or "none at all")
            if now[2] is None:
                only = selection.history(connection, name, alias)[-1].version
                raise NotFoundError(
                    f"{alias!r} of {name} has no earlier target than {only}",
                    asked=f"{name}@{alias}",
                    fix=f"zoo registry promote {name}@VERSION {alias}",
                )
            below = connection.execute("SELECT version, below FROM changes WHERE id = ?", [now[2]]).fetchone()
            filing.file_change(connection, name, alias, "rollback", below[0], below[1])
            return selection.history(connection, name, alias)[-1]

    def history(self, name: str, alias: str | None = None) -> Sequence[AliasChange]:
        """Every change of a model's aliases, or of one of them, oldest first. Raises `NotFoundError`: no such model."""
        with self._shelf.ledger.reading() as connection:
            selection.check_registered(connection, checked_name(name))
            return selection.history(connection, name, alias)

    def diff(self, before: str, after: str, *, weights: bool = False) -> VersionDifference:
        """What differs between two versions, each as `name@selector`.

        Args:
            weights: compare the numbers too, in as much memory as a piece of a tensor takes; otherwise only the
                headers of the files are read.

        Raises:
            RefError, NotFoundError: no such version. CheckpointError: its weights are gone, or damaged.
        """
        from zoo.versions.comparison import difference

        return difference(self._shelf, before, after, weights=weights)

    def lineage(self, name: str, version: str = LATEST) -> Sequence[Parent]:
        """What a version was made from, what that was made from, and so on, as far as it is known; nearest first.

        Each has the name and version under which those weights are registered here, or those that were noted.
        """
        from zoo.versions.comparison import ancestors

        return ancestors(self._shelf, self.show(name, version))

    def export(self, what: str | Sequence[str], path: str | PathLike[str], *, every: bool = False) -> Transfer:
        """Write versions to a new folder, or to a new file that ends in `.zip`, for `import_from` elsewhere.

        Args:
            what: one or several `name@selector`.
            every: take `what` as patterns of names instead (`*`, `pets*`), and every version of those.

        Raises:
            RefError, NotFoundError: no such version. CheckpointError: its weights are gone or damaged, the path is
                taken, or cannot be written; nothing is left there.
        """
        from zoo.versions.exporting import export

        return export(self._shelf, what, fspath(path), every=every)

    def import_from(
        self,
        path: str | PathLike[str],
        what: str | Sequence[str] | None = None,
        *,
        every: bool = False,
        aliases: bool = False,
    ) -> Transfer:
        """Register the versions in a folder or file that `export` wrote: all of them or none. Runs none of their code.

        Tags, metrics, lineage, author and date stay as they were. What is here already, the very same, stays.

        Args:
            what: some of them, as for `export`; by default all. every: as for `export`.
            aliases: let the aliases mean here, too, what they meant there.

        Raises:
            ZooError: another version has that name and number here.
            CheckpointError: the export is damaged, hostile, or by a newer zoo.
        """
        from zoo.versions.archives import opened_export
        from zoo.versions.importing import take

        with opened_export(fspath(path)) as export:
            return take(self._shelf, export, what, every=every, aliases=aliases)

    def push(
        self,
        what: str | Sequence[str],
        repository: str,
        *,
        every: bool = False,
        private: bool | None = None,
        aliases: bool = False,
    ) -> Transfer:
        """Add versions to a repository on the Hub, in one commit. What is there already stays as it is.

        Args:
            what, every: as for `export`.
            repository: `hf://org/repo`, or a branch of it, `hf://org/repo@branch`. It is made if there is none.
            private: of a new repository; by default as its owner has set.
            aliases: let aliases that are there already mean what they mean here. New ones are always added.

        Raises:
            ZooError: the repository has another version of that name and number.
            SourceError: it cannot be reached, or not be written by you; nothing of the push is there then, or the
                message says that it is not known, and the same call again is safe.
            OfflineError, NotFoundError, CheckpointError: the network is off; no such version; its weights are damaged.
        """
        from zoo.versions.hub_repositories import push

        return push(self._shelf, what, repository, every=every, private=private, aliases=aliases)

    def pull(
        self, repository: str, what: str | Sequence[str] | None = None, *, every: bool = False, aliases: bool = False
    ) -> Transfer:
        """Register versions from a repository on the Hub: all of them or none; as `import_from` does.

        Args:
            repository: `hf://org/repo[@revision]`. The commit is kept with the version.
            what: one or several `name@selector`; by default everything there is.

        Raises:
            ZooError: another version has that name and number here. SourceError: it cannot be reached.
            CheckpointError: what arrives is damaged, hostile, or by a newer zoo.
        """
        from zoo.versions.hub_repositories import pull

        return pull(self._shelf, repository, what, every=every, aliases=aliases)

    def _open(
        self,
        record: VersionRecord,
        use: Use,
        allow_licenses: Sequence[str] | str | None,
        cls: type[Component] | None,
    ) -> Component:
        from zoo.versions.contents import opened

        weights = self._shelf.sound_blob(record).path
        return opened(record, weights, use, allow_licenses=allow_licenses, cls=cls)


def register_model(
    model: Component,
    *,
    name: str,
    version: str,
    tags: Sequence[str] = (),
    metrics: Mapping[str, float] | None = None,
    parent: str | tuple[str, str] | None = None,
    data: str = "",
) -> VersionRecord:
    """`ModelRegistry().register(…)` of a model with its weights; afterwards `zoo.create("local/name@version")`."""
    return ModelRegistry().register(
        name=name, version=version, model=model, tags=tags, metrics=metrics, parent=parent, data=data
    )


def create_local(
    ref: str, use: Use, *, allow_licenses: Sequence[str] | str | None, cls: type[Component] | None
) -> Component:
    """What `local/name[@selector]` names in the user's own registry; for `zoo.create`."""
    from zoo.build.locked import check_registered

    registry = ModelRegistry()
    record = registry.show(*Address.parse(ref))
    check_registered(ref, record.ref, record.saved, record.sha256, record.size)
    return registry._open(record, use, allow_licenses, cls)
