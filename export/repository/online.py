"""What the online key does: it says what is newest, again and again, and for a short time each."""

import time
from typing import TypeVar

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, Targets, Timestamp

from dat_runtime.errors import ConfigError
from export.repository.ceremony import days_of, until
from export.repository.store import ONLINE, Store, content_of, verification

KEPT = 10
"""Snapshots: a node that is reading while the next one comes still finds its own."""


def is_online(root: Root, signer: CryptoSigner) -> bool:
    """Whether a key may sign snapshot and timestamp."""
    return all(signer.public_key.keyid in root.roles[role].keyids for role in ONLINE)


def refresh(store: Store, signers: list[CryptoSigner], days: int | None = None) -> int:
    """Sign a new snapshot and a new timestamp; the version of both.

    Args:
        days: for which both hold; `None` takes what the root states. A stick that travels for
            longer than a timestamp holds needs more.

    Raises:
        ConfigError: nothing is published yet, the keys are none of the online ones, or the targets
            have lost their signatures.
    """
    root = store.root().signed
    for signer in signers:
        if not is_online(root, signer):
            raise ConfigError(f"{signer.public_key.keyid[:8]} is no online key of the repository")
    targets = store.newest_targets()
    if targets is None or not verification(root, targets).verified:
        raise ConfigError("the newest targets do not have their signatures: sign them first")
    stated = days_of(root)
    version = _next_version(store)
    snapshot = Metadata(
        Snapshot(
            version=version,
            expires=until(days or stated["snapshot"]),
            meta={"targets.json": _named(targets)},
        )
    )
    timestamp = Metadata(
        Timestamp(
            version=version,
            expires=until(days or stated["timestamp"]),
            snapshot_meta=_named(_signed(snapshot, signers, root)),
        )
    )
    store.publish(snapshot)
    store.publish(_signed(timestamp, signers, root))
    store.forget_snapshots(KEPT)
    return version


def _next_version(store: Store) -> int:
    """The time in seconds, so that a server which lost its folder, or a stick, goes on from it."""
    before = store.timestamp()
    return max(int(time.time()), 0 if before is None else before.signed.version + 1)


def _named(metadata: Metadata[Snapshot] | Metadata[Targets]) -> MetaFile:
    """Version, length and digest, as one statement names another."""
    return MetaFile.from_data(metadata.signed.version, content_of(metadata), ["sha256"])


T = TypeVar("T", Snapshot, Timestamp)


def _signed(metadata: Metadata[T], signers: list[CryptoSigner], root: Root) -> Metadata[T]:
    for signer in signers:
        metadata.sign(signer, append=True)
    result = verification(root, metadata)
    if not result.verified:
        raise ConfigError(f"{metadata.signed.type} needs {result.threshold} online keys to sign")
    return metadata
