"""Changes of the root: who may sign what. They are staged, and count once enough keys have signed.

Snapshot and timestamp have the online key; whoever steals it can hold updates back until the
timestamp expires, and can install nothing.
"""

import copy
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from securesystemslib.signer import SSlibKey
from tuf.api.metadata import Metadata, Root, Targets

from dat_runtime.errors import ConfigError
from dat_runtime.fields import checked, whole
from export.repository.store import ONLINE, Store, verification

DAYS = {"root": 365, "targets": 180, "snapshot": 14, "timestamp": 3}
"""How long each statement holds; after the timestamp's, a repository held back is noticed."""

MOST_DAYS = 3650
DAYS_FIELD = "x-dat-days"
"""Where the root states them, so that every command and every machine uses the same."""

DAYS_RULES = {role: whole(1, MOST_DAYS) for role in DAYS}

ROLES = ("root", "targets", "online")


def begin(
    store: Store,
    keys: Mapping[str, Sequence[SSlibKey]],
    thresholds: Mapping[str, int],
    days: Mapping[str, int],
) -> None:
    """Stage the first root and the first, empty list of targets.

    Args:
        keys, thresholds: of `root`, `targets` and `online`.
        days: how long each role's statements hold.

    Raises:
        ConfigError: there is a repository already, or the keys do not do.
    """
    if any(store.metadata.iterdir()) or store.waiting("root") is not None:
        raise ConfigError(f"{store.folder} is a repository already")
    root = Root(
        version=1,
        expires=until(days["root"]),
        consistent_snapshot=True,
        unrecognized_fields={DAYS_FIELD: dict(days)},
    )
    for role in ROLES:
        for name in _tuf_roles(role):
            for key in keys[role]:
                root.add_key(key, name)
            root.roles[name].threshold = thresholds[role]
    _demand_sound(root)
    store.stage(Metadata(root))
    store.stage(Metadata(Targets(version=1, expires=until(days["targets"]))))


def rotate(
    store: Store, role: str, old: str | None, new: SSlibKey | None, threshold: int | None
) -> None:
    """Stage a root with other keys of a role; with none of `old` and `new`, a later expiry.

    Where the targets' keys change, the same targets are staged for new signatures.

    Args:
        role: root, targets or online.
        old: id of the key that goes; `new` comes.
        threshold: how many keys of the role have to sign from now on; `None`: as many as before.

    Raises:
        ConfigError: an earlier change waits, the old key is none of them, or too few are left.
    """
    store.demand_nothing_waits()
    if role == "targets" and (old, new, threshold) == (None, None, None):
        stage_targets(store, renewed_targets(store))
        return
    root = copy.deepcopy(store.root().signed)
    root.version += 1
    root.expires = until(days_of(root)["root"])
    for name in _tuf_roles(role):
        if old is not None:
            if old not in root.roles[name].keyids:
                raise ConfigError(f"{old} is no key of {role}, {_known(root, name)} are")
            root.revoke_key(old, name)
        if new is not None:
            root.add_key(new, name)
        if threshold is not None:
            root.roles[name].threshold = threshold
    _demand_sound(root)
    store.stage(Metadata(root))
    if role == "targets":
        targets = store.newest_targets()
        if targets is not None and not verification(root, targets).verified:
            stage_targets(store, renewed_targets(store))


def renewed_targets(store: Store) -> Targets:
    """The targets as they are, as their next version."""
    published = store.newest_targets()
    if published is None:
        raise ConfigError(f"{store.folder} has no signed targets yet")
    targets = copy.deepcopy(published.signed)
    targets.version += 1
    targets.expires = until(days_of(store.root().signed)["targets"])
    return targets


def stage_targets(store: Store, targets: Targets) -> None:
    """Let the targets wait for signatures."""
    store.stage(Metadata(targets))


def _tuf_roles(role: str) -> tuple[str, ...]:
    return ONLINE if role == "online" else (role,)


def _known(root: Root, role: str) -> str:
    return ", ".join(id[:8] for id in root.roles[role].keyids)


def _demand_sound(root: Root) -> None:
    """Raises:
    ConfigError: a role has fewer keys than have to sign, or an online key may sign offline.
    """
    for role, stated in root.roles.items():
        if not 1 <= stated.threshold <= len(stated.keyids):
            raise ConfigError(
                f"{role} has {len(stated.keyids)} keys, of which {stated.threshold} have to sign"
            )
    online = {id for role in ONLINE for id in root.roles[role].keyids}
    for role in ("root", "targets"):
        both = online.intersection(root.roles[role].keyids)
        if both:
            raise ConfigError(
                f"key {min(both)[:8]} would be online and of {role}: who steals it could install "
                "anything"
            )


def until(days: int) -> datetime:
    """So many days from now, in whole seconds, as TUF has it."""
    return datetime.now(UTC).replace(microsecond=0) + timedelta(days=days)


def days_of(root: Root) -> dict[str, Any]:
    """How long each role's statements hold, as the root states it.

    Raises:
        ConfigError: it does not.
    """
    try:
        return checked(root.unrecognized_fields.get(DAYS_FIELD), DAYS_RULES, DAYS_FIELD)
    except ValueError as error:
        raise ConfigError(f"the root was not made by export.publish: {error}") from None
