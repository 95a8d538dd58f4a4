"""A repository as `export.publish` makes it, its keys in memory, and a mirror that may lie."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, Timestamp

from dat_runtime.edge.updates.offer import Terms, gate_digest
from dat_runtime.edge.updates.repository import Repository
from dat_runtime.edge.updates.served_file import MissingError, WrongFileError
from export.repository import ceremony, online, releases
from export.repository.store import Store

FILES = {
    "manifest.json": b'{"kind": "bundle"}',
    "gate/gate.json": b"{}",
    "gate/gate.onnx": b"gate " * 1000,
    "adapter/adapter_model.safetensors": b"adapter " * 1000,
}


def terms(files: Mapping[str, bytes] = FILES, **changes: Any) -> Terms:
    """Terms of a bundle with these files."""
    digests = {path: hashlib.sha256(content).hexdigest() for path, content in files.items()}
    told = {
        "release": 1,
        "base": "base",
        "base_revision": "0" * 40,
        "processor": "1" * 64,
        "rank": 8,
        "alpha": "16.0",
        "modules": ["q_proj", "v_proj"],
        "gate": gate_digest(digests),
        "prompt": 1,
        "schema": 1,
        "drawing": 1,
        "runtime": "0.1.0",
        "metrics": {"n": "100.0", "sev_f1": "0.9"},
        "rollout": "1.0",
    }
    return Terms.read(told | changes)


def write(folder: Path, files: Mapping[str, bytes]) -> Path:
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder


class SmallRepository:
    """Root keys 3 of which 2 sign; one targets key and one online key, if not said otherwise."""

    def __init__(self, folder: Path, *, targets_keys: int = 1, targets_threshold: int = 1):
        self.folder = folder
        self.store = Store(folder / "repository")
        self.root = [CryptoSigner.generate_ed25519() for _ in range(3)]
        self.targets = [CryptoSigner.generate_ed25519() for _ in range(targets_keys)]
        self.online = CryptoSigner.generate_ed25519()
        keys = {"root": self.root, "targets": self.targets, "online": [self.online]}
        public = {role: [one.public_key for one in signers] for role, signers in keys.items()}
        thresholds = {"root": 2, "targets": targets_threshold, "online": 1}
        self.store.metadata.mkdir(parents=True)
        ceremony.begin(self.store, public, thresholds, ceremony.DAYS)
        self.sign(*self.root[:2], *self.targets)

    @property
    def url(self) -> str:
        return str(self.store.folder)

    @property
    def first_root(self) -> bytes:
        return (self.store.metadata / "1.root.json").read_bytes()

    def sign(self, *signers: CryptoSigner) -> None:
        """Sign what waits and say what is newest."""
        self.store.sign(signers)
        self.store.settle()
        if not self.store.missing():
            self.refresh()

    def refresh(self) -> None:
        online.refresh(self.store, [self.online])

    def publish(
        self,
        version: str,
        files: Mapping[str, bytes] = FILES,
        name: str = "crossing",
        **changes: Any,
    ) -> Terms:
        bundle = write(self.folder / "bundles" / name / version, files)
        told = terms(files, release=releases.next_release(self.store), **changes)
        releases.add(self.store, (name, version), bundle, told)
        self.sign(*self.targets)
        return told

    def client(self, fetch: "Mirror | None" = None, folder: str = "trusted") -> Repository:
        """A node's; it keeps what it trusts from one call to the next."""
        return Repository(self.url, self.first_root, self.folder / folder, fetch)

    def mirror(self) -> "Mirror":
        """All that is published now, as an attacker copies it."""
        paths = (p for p in self.store.folder.rglob("*") if p.is_file())
        return Mirror(self.url, {str(p): p.read_bytes() for p in paths})

    def timestamp_until(self, end: datetime) -> None:
        """Let the newest timestamp end at another time."""
        timestamp = self.store.timestamp()
        assert timestamp is not None
        timestamp.signed.expires = end
        timestamp.signed.version += 1
        timestamp.sign(self.online)
        self.store.publish(timestamp)


@dataclass
class Mirror:
    """Serves what it holds, by path; anybody may have changed that."""

    base: str
    files: dict[str, bytes]
    asked: list[str] = field(default_factory=list)

    def put(self, name: str, content: bytes | Metadata[Any]) -> None:
        """Let it serve something else; `name` counts from the repository's folder."""
        data = content if isinstance(content, bytes) else content.to_bytes()
        self.files[f"{self.base}/{name}"] = data

    def get(self, name: str) -> bytes:
        return self.files[f"{self.base}/{name}"]

    def snapshot_version(self) -> int:
        """Of the snapshot that its timestamp names."""
        timestamp = Metadata[Timestamp].from_bytes(self.get("metadata/timestamp.json"))
        return timestamp.signed.snapshot_meta.version

    def swap_targets(self) -> None:
        """Other content under every bundle's file, of the same length."""
        for url, content in self.files.items():
            if "/targets/bundles/" in url:
                self.files[url] = b"x" * len(content)

    def metadata(self, url: str, most_bytes: int) -> bytes:
        self.asked.append(url)
        if url not in self.files:
            raise MissingError("is missing", url)
        if len(self.files[url]) > most_bytes:
            raise WrongFileError("too long", url)
        return self.files[url]

    def file(self, url: str, file: Path, *, sha256: str, size: int) -> None:
        """Without looking at what was signed, as the worst way would."""
        self.asked.append(url)
        if url not in self.files:
            raise MissingError("is missing", url)
        file.write_bytes(self.files[url])


def names(offers: Sequence[Any]) -> list[str]:
    return [f"{offer.name}/{offer.version}" for offer in offers]
