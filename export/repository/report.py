"""What a repository holds, in words, and whether nodes would take it now."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from tuf.api.metadata import Metadata, Root

from export.repository.releases import offers_of
from export.repository.store import ONLINE, Store, verification

REFRESH = "python -m export.publish refresh"


def problems(store: Store) -> list[str]:
    """Why a node would refuse the repository now."""
    root = store.root()
    found = []
    now = datetime.now(UTC)
    for metadata in (root, *_others(store)):
        role = metadata.signed.type
        if metadata.signed.expires <= now:
            found.append(f"{role} has expired: {_remedy(store, role)}")
        elif role != "root" and not verification(root.signed, metadata).verified:
            found.append(f"{role} has too few signatures of today's keys: {_remedy(store, role)}")
    if store.timestamp() is None:
        found.append(f"there is no timestamp: {REFRESH}")
    return found


def _others(store: Store) -> Iterator[Metadata[Any]]:
    timestamp = store.timestamp()
    if timestamp is not None:
        yield timestamp
        yield store.snapshot(timestamp.signed.snapshot_meta.version)
    targets = store.seen_targets() or store.newest_targets()
    if targets is not None:
        yield targets


def _remedy(store: Store, role: str) -> str:
    if role in ONLINE or (role == "targets" and _unseen(store) is not None):
        return REFRESH
    return f"python -m export.publish rotate {role}"


def _unseen(store: Store) -> int | None:
    """The version of the newest targets, where nodes are told of others."""
    newest, seen = store.newest_targets(), store.seen_targets()
    if newest is None or (seen is not None and seen.signed.version == newest.signed.version):
        return None
    version: int = newest.signed.version
    return version


def lines(store: Store) -> Iterator[str]:
    """The keys, the statements with their ends, and the releases."""
    root = store.root()
    yield from _keys(root.signed)
    yield ""
    for metadata in (root, *_others(store)):
        signed = metadata.signed
        until = f"{signed.expires:%Y-%m-%d %H:%M} UTC"
        yield f"{signed.type:<10} version {signed.version:<5} until {until}"
    unseen = _unseen(store)
    if unseen is not None:
        yield f"{'targets':<10} version {unseen:<5} nodes see it after: {REFRESH}"
    targets = store.newest_targets()
    offers = [] if targets is None else offers_of(targets.signed)
    yield ""
    for offer in offers:
        yield (
            f"release {offer.release:<4} {offer.name}/{offer.version}: {offer.terms.rollout:.0%} "
            f"of the nodes, {offer.length:,} bytes, for {offer.terms.base}"
        )
    if not offers:
        yield "no release"


def _keys(root: Root) -> Iterator[str]:
    for role in ("root", "targets", "timestamp"):
        stated = root.roles[role]
        name = "online" if role in ONLINE else role
        ids = " ".join(id[:8] for id in stated.keyids)
        yield f"{name:<10} {stated.threshold} of {len(stated.keyids)} keys: {ids}"
