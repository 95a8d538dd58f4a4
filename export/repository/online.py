"""What the online key does: it says what is newest, again and again, and for a short time each."""

from datetime import UTC, datetime, timedelta

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, Targets, Timestamp

from dat_runtime.errors import ConfigError
from export.repository.ceremony import days_of, until
from export.repository.store import ONLINE, Store, content_of, verification


def is_online(root: Root, signer: CryptoSigner) -> bool:
    """Whether a key may sign snapshot and timestamp."""
    return all(signer.public_key.keyid in root.roles[role].keyids for role in ONLINE)


def refresh(store: Store, signers: list[CryptoSigner], days: int | None = None) -> int:
    """Sign a new timestamp, and a new snapshot where it is due; the timestamp's version.

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
    snapshot = _snapshot(store, root, targets)
    if snapshot is None or (days or 0) > stated["snapshot"]:
        snapshot = _next_snapshot(store, targets, days or stated["snapshot"])
        _sign(snapshot, signers, root)
        store.publish(snapshot)
    before = store.timestamp()
    signed = Timestamp(
        version=1 if before is None else before.signed.version + 1,
        expires=until(days or stated["timestamp"]),
        snapshot_meta=_named(snapshot),
    )
    timestamp = Metadata(signed)
    _sign(timestamp, signers, root)
    store.publish(timestamp)
    return signed.version


def _snapshot(store: Store, root: Root, targets: Metadata[Targets]) -> Metadata[Snapshot] | None:
    """The present snapshot where it will do: signed, of these targets, half its time left."""
    timestamp = store.timestamp()
    if timestamp is None:
        return None
    snapshot = store.snapshot(timestamp.signed.snapshot_meta.version)
    if not verification(root, snapshot).verified:
        return None
    if snapshot.signed.meta != {"targets.json": _named(targets)}:
        return None
    half = timedelta(days=days_of(root)["snapshot"]) / 2
    return snapshot if snapshot.signed.expires > datetime.now(UTC) + half else None


def _next_snapshot(store: Store, targets: Metadata[Targets], days: int) -> Metadata[Snapshot]:
    timestamp = store.timestamp()
    before = 0 if timestamp is None else timestamp.signed.snapshot_meta.version
    return Metadata(
        Snapshot(version=before + 1, expires=until(days), meta={"targets.json": _named(targets)})
    )


def _named(metadata: Metadata[Snapshot] | Metadata[Targets]) -> MetaFile:
    """Version, length and digest, as one statement names another."""
    return MetaFile.from_data(metadata.signed.version, content_of(metadata), ["sha256"])


def _sign(
    metadata: Metadata[Snapshot] | Metadata[Timestamp], signers: list[CryptoSigner], root: Root
) -> None:
    for signer in signers:
        metadata.sign(signer, append=True)
    result = verification(root, metadata)
    if not result.verified:
        raise ConfigError(f"{metadata.signed.type} needs {result.threshold} online keys to sign")
