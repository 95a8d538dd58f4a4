"""Changes of the targets: a bundle is added, given to more nodes, or taken back."""

import hashlib
import os
import shutil
from dataclasses import replace
from pathlib import Path

from tuf.api.metadata import TargetFile, Targets

from dat_runtime import fields, manifest
from dat_runtime.edge.updates.offer import NAMED, Offer, Target, Terms, offers_in, target_path
from dat_runtime.errors import ConfigError
from dat_runtime.files import sync_folder
from export.repository.ceremony import renewed_targets, stage_targets
from export.repository.store import Store


def release_name(text: str) -> tuple[str, str]:
    """The two halves of NAME/VERSION.

    Raises:
        ConfigError: it is none.
    """
    name, slash, version = text.partition("/")
    if not slash or not NAMED.holds(name) or not NAMED.holds(version):
        raise ConfigError(
            f"{text!r} is no release, expected NAME/VERSION such as crossing/1.2.0, each half "
            f"{NAMED.expected}"
        )
    return name, version


def next_release(store: Store) -> int:
    """The number of the release that is added next, above that of any before, taken back or not.

    Raises:
        ConfigError: an earlier change waits.
    """
    store.demand_nothing_waits()
    return renewed_targets(store).version


def add(store: Store, release: tuple[str, str], bundle: Path, terms: Terms) -> None:
    """Copy a bundle's files among the targets and stage targets that name them.

    Args:
        terms: with the number that `next_release` gave.

    Raises:
        ConfigError: an earlier change waits, the release is there already, or no node would take
            it for one.
    """
    store.demand_nothing_waits()
    targets = renewed_targets(store)
    name, version = release
    if _paths(targets, release):
        raise ConfigError(f"{name}/{version} is published already: give the bundle another version")
    for path in sorted(p for p in bundle.rglob("*") if p.is_file()):
        file = path.relative_to(bundle).as_posix()
        target = TargetFile.from_file(target_path(name, version, file), str(path), ["sha256"])
        if file == manifest.NAME:
            target.unrecognized_fields["custom"] = terms.as_json()
        targets.targets[target.path] = target
        _copy(path, target, store.targets)
    _demand_offered(targets, release)
    stage_targets(store, targets)


def set_rollout(store: Store, release: tuple[str, str], share: float) -> None:
    """Stage targets in which a release goes to another share of the nodes.

    Raises:
        ConfigError: an earlier change waits, there is no such release, or the share is none.
    """
    if not fields.SHARE.holds(share):
        raise ConfigError(f"a share of {share}, expected {fields.SHARE.expected}")
    store.demand_nothing_waits()
    targets = renewed_targets(store)
    offer = _demand_offered(targets, release)
    target = targets.targets[target_path(*release, manifest.NAME)]
    target.unrecognized_fields["custom"] = replace(offer.terms, rollout=share).as_json()
    stage_targets(store, targets)


def withdraw(store: Store, release: tuple[str, str]) -> list[str]:
    """Stage targets without a release; its files stay among the targets, and are named.

    Raises:
        ConfigError: an earlier change waits, or there is no such release.
    """
    store.demand_nothing_waits()
    targets = renewed_targets(store)
    paths = _paths(targets, release)
    if not paths:
        raise ConfigError(f"{'/'.join(release)} is not published")
    files = [prefixed for path in paths for prefixed in targets.targets[path].get_prefixed_paths()]
    for path in paths:
        del targets.targets[path]
    stage_targets(store, targets)
    return files


def offers_of(targets: Targets) -> list[Offer]:
    """What the targets offer, as a node reads them.

    Raises:
        ConfigError: something in them is no offer.
    """
    told = {
        path: Target(file.length, file.hashes["sha256"], file.custom)
        for path, file in targets.targets.items()
    }
    offers, refused = offers_in(told)
    if refused:
        raise ConfigError(f"the targets hold what no node takes: {refused[0]}")
    return offers


def _demand_offered(targets: Targets, release: tuple[str, str]) -> Offer:
    for offer in offers_of(targets):
        if (offer.name, offer.version) == release:
            return offer
    raise ConfigError(f"{'/'.join(release)} is not published")


def _paths(targets: Targets, release: tuple[str, str]) -> list[str]:
    prefix = target_path(*release, "")
    return [path for path in targets.targets if path.startswith(prefix)]


def _copy(source: Path, target: TargetFile, targets: Path) -> None:
    """Under its name with the digest, so that it never changes; it is there once it is whole."""
    (name,) = target.get_prefixed_paths()
    to = targets / name
    to.parent.mkdir(parents=True, exist_ok=True)
    beside = to.with_name(to.name + ".new")
    shutil.copyfile(source, beside)
    with beside.open("rb") as copied:
        digest = hashlib.file_digest(copied, "sha256").hexdigest()
        os.fsync(copied.fileno())
    if digest != target.hashes["sha256"]:
        beside.unlink()
        raise ConfigError("changed while it was read", source)
    beside.replace(to)
    sync_folder(to.parent)
