"""The folder of an update repository, which any web server or a USB stick serves as it is.

metadata/   N.root.json N.targets.json N.snapshot.json timestamp.json
targets/    bundles/NAME/VERSION/SHA256.FILE
staged/     a root.json or targets.json that waits for signatures; no node looks there

Files are written whole, and timestamp.json last: a reader sees the old state or the new one.
"""

import contextlib
import fcntl
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from securesystemslib.signer import CryptoSigner
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, Snapshot, Targets, Timestamp, VerificationResult
from tuf.api.serialization.json import JSONSerializer

from dat_runtime.errors import ConfigError, DataError
from dat_runtime.files import read_bytes, sync_folder, write_atomically

ONLINE = ("snapshot", "timestamp")
"""The roles of the online key."""

OFFLINE = ("root", "targets")
MOST_BYTES = 8_000_000


@dataclass(frozen=True)
class Missing:
    """What a staged change waits for.

    Attributes:
        signatures: how many more are needed.
        by: ids of the keys that may give them.
    """

    role: str
    signatures: int
    by: tuple[str, ...]

    def __str__(self) -> str:
        keys = ", ".join(id[:8] for id in self.by)
        return f"{self.role} waits for {self.signatures} more of the keys {keys}"


class Store:
    """One repository's folder."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.metadata = folder / "metadata"
        self.targets = folder / "targets"
        self.staged = folder / "staged"

    @contextlib.contextmanager
    def locked(self, *, new: bool = False) -> Iterator[None]:
        """One command at a time.

        Args:
            new: the folder is made; otherwise it has to be a repository.

        Raises:
            ConfigError: it is (not) one, or another command is at work.
        """
        if new:
            self.metadata.mkdir(parents=True, exist_ok=True)
        elif not self.metadata.is_dir():
            raise ConfigError(f"{self.folder} is no repository: python -m export.publish init")
        with (self.folder / ".lock").open("wb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ConfigError(f"another command is at work on {self.folder}") from None
            yield

    # What is published

    def root(self) -> Metadata[Root]:
        """The newest root.

        Raises:
            ConfigError: there is none.
        """
        version = self._newest("root")
        if not version:
            raise ConfigError(
                f"{self.folder} has no root yet: its first one has to be signed",
                self.staged / "root.json",
            )
        return self._read(self.metadata / f"{version}.root.json")

    def newest_targets(self) -> Metadata[Targets] | None:
        version = self._newest("targets")
        return self._read(self.metadata / f"{version}.targets.json") if version else None

    def seen_targets(self) -> Metadata[Targets] | None:
        """The targets that nodes are told of; `None` before the first timestamp."""
        timestamp = self.timestamp()
        if timestamp is None:
            return None
        snapshot = self.snapshot(timestamp.signed.snapshot_meta.version)
        return self._read(
            self.metadata / f"{snapshot.signed.meta['targets.json'].version}.targets.json"
        )

    def timestamp(self) -> Metadata[Timestamp] | None:
        path = self.metadata / "timestamp.json"
        return self._read(path) if path.exists() else None

    def snapshot(self, version: int) -> Metadata[Snapshot]:
        return self._read(self.metadata / f"{version}.snapshot.json")

    def _newest(self, role: str) -> int:
        return max(self._versions(role), default=0)

    def _versions(self, role: str) -> list[int]:
        pattern = re.compile(rf"([1-9][0-9]*)\.{role}\.json")
        found = map(pattern.fullmatch, (path.name for path in self.metadata.iterdir()))
        return sorted(int(name[1]) for name in found if name)

    def forget_snapshots(self, kept: int) -> None:
        """Remove all snapshots but the newest `kept`; nothing names the others any more."""
        for version in self._versions("snapshot")[:-kept]:
            (self.metadata / f"{version}.snapshot.json").unlink()

    def _read(self, path: Path) -> Metadata[Any]:
        content = read_bytes(path, DataError, most_bytes=MOST_BYTES)
        try:
            return Metadata.from_bytes(content)
        except RepositoryError as error:
            raise DataError(f"is no TUF metadata ({error})", path) from None

    def publish(self, metadata: Metadata[Any]) -> None:
        """Write a version that has its signatures; a version once published stays as it is."""
        signed = metadata.signed
        name = f"{signed.type}.json"
        if signed.type != Timestamp.type:
            name = f"{signed.version}.{name}"
        write_atomically(self.metadata / name, content_of(metadata))
        sync_folder(self.metadata)

    # What waits for signatures

    def waiting(self, role: str) -> Metadata[Any] | None:
        path = self.staged / f"{role}.json"
        return self._read(path) if path.exists() else None

    def demand_nothing_waits(self) -> None:
        """Raises:
        ConfigError: an earlier change waits for signatures.
        """
        for role in OFFLINE:
            path = self.staged / f"{role}.json"
            if path.exists():
                raise ConfigError(
                    "an earlier change waits for signatures: sign it (python -m export.publish "
                    "sign), or remove the file",
                    path,
                )

    def stage(self, metadata: Metadata[Any]) -> None:
        self.staged.mkdir(exist_ok=True)
        write_atomically(self.staged / f"{metadata.signed.type}.json", content_of(metadata))

    def sign(self, signers: Sequence[CryptoSigner]) -> set[str]:
        """Sign what waits with the keys that fit; the ids of those keys."""
        used: set[str] = set()
        for role in OFFLINE:
            waiting = self.waiting(role)
            if waiting is None:
                continue
            allowed = self._allowed(waiting)
            fitting = [one for one in signers if one.public_key.keyid in allowed]
            for signer in fitting:
                waiting.sign(signer, append=True)
                used.add(signer.public_key.keyid)
            if fitting:
                self.stage(waiting)
        return used

    def _allowed(self, waiting: Metadata[Any]) -> set[str]:
        """Ids of the keys that may sign it."""
        roots = [self.root_to_come()]
        if self._newest("root"):
            roots.append(self.root().signed)
        role = waiting.signed.type
        return {id for root in roots for id in root.roles[role].keyids}

    def root_to_come(self) -> Root:
        """The root that waits, or today's.

        Raises:
            ConfigError: there is neither.
        """
        waiting = self.waiting("root")
        root: Root = self.root().signed if waiting is None else waiting.signed
        return root

    def missing(self) -> list[Missing]:
        """The signatures that what is staged waits for.

        A root that takes away the keys of the targets waits for those of the targets too: nodes
        would refuse these meanwhile.
        """
        return self._missing_root() + self._missing_targets()

    def settle(self) -> list[str]:
        """Publish what is staged and has its signatures; what that was."""
        published = []
        if not self.missing():
            for role in OFFLINE:
                waiting = self.waiting(role)
                if waiting is not None:
                    self.publish(waiting)
                    (self.staged / f"{role}.json").unlink()
                    published.append(f"{role} {waiting.signed.version}")
        return published

    def _missing_root(self) -> list[Missing]:
        waiting = self.waiting("root")
        if waiting is None:
            return []
        previous = self.root().signed if self._newest("root") else None
        result = waiting.signed.get_root_verification_result(
            previous, waiting.signed_bytes, waiting.signatures
        )
        parts = (result.first, result.second) if previous else (result.first,)
        found = (missing for part in parts for missing in _missing("root", part))
        return list(dict.fromkeys(found))  # today's keys and those to come may be the same

    def _missing_targets(self) -> list[Missing]:
        targets = self.waiting("targets") or self.newest_targets()
        if targets is None:
            return []
        return _missing("targets", verification(self.root_to_come(), targets))


def verification(root: Root, metadata: Metadata[Any]) -> VerificationResult:
    """Which keys of a root have signed it."""
    return root.get_verification_result(
        metadata.signed.type, metadata.signed_bytes, metadata.signatures
    )


def _missing(role: str, result: VerificationResult) -> list[Missing]:
    if result.verified:
        return []
    return [Missing(role, result.missing, tuple(sorted(result.unsigned)))]


def content_of(metadata: Metadata[Any]) -> bytes:
    """As it is written: compact, and checked to come back as it was."""
    return metadata.to_bytes(JSONSerializer(compact=True, validate=True))
