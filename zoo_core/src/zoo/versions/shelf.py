"""One registry's two halves: the ledger that says what there is, and the store where the weights are."""

from __future__ import annotations

from typing import NamedTuple

from zoo.checkpoints.store import Blob, Store
from zoo.errors import CheckpointError, DigestError
from zoo.versions import selection
from zoo.versions.addresses import Address, checked_name
from zoo.versions.ledger import Ledger
from zoo.versions.records import VersionRecord


class Shelf(NamedTuple):
    """A ledger and its store."""

    ledger: Ledger
    store: Store

    def record(self, address: Address) -> VersionRecord:
        """What an address means now. Raises `RefError`, `NotFoundError`."""
        with self.ledger.reading() as connection:
            return selection.find(connection, Address(checked_name(address.name), address.selector))[1]

    def blob(self, record: VersionRecord) -> Blob:
        """A version's weights, unread. Raises `CheckpointError`: gone, or cut short."""
        found = self.store.find(record.sha256, record.size)
        if found is None:
            raise CheckpointError(
                f"the weights of {record.ref} are not in the store, or cut short",
                asked=self.store.blob_path(record.sha256),
                fix="restore that file from a copy, or load another version",
            )
        return found

    def sound_blob(self, record: VersionRecord) -> Blob:
        """A version's weights, as they were registered. Raises `CheckpointError`, and `DigestError`: damaged."""
        blob = self.blob(record)
        if self.store.digest(blob.path) != record.sha256:  # hashed anew only where the file looks touched
            raise DigestError(
                f"the weights of {record.ref} are damaged",
                asked=record.sha256,
                found=blob.path,
                fix="restore that file from a copy, or load another version",
            )
        return blob
