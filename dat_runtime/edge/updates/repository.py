"""The client of an update repository: signed, fresh, non-older offers, and their files.

The checks are python-tuf's (The Update Framework 1.0.31, section 5). Trust begins at a root file
that came with the node, never at one that lies in the cache. It needs `dat-runtime[updates]`.
"""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from tuf.api import exceptions
from tuf.api.metadata import Metadata, TargetFile, Targets
from tuf.ngclient import Updater, UpdaterConfig
from tuf.ngclient.fetcher import FetcherInterface

from dat_runtime.edge.updates.disk import demand_space
from dat_runtime.edge.updates.fetching import Fetch, FolderFetcher, base_of, copy
from dat_runtime.edge.updates.offer import Offer, OfferedFile, Target, offers_in, target_path
from dat_runtime.edge.updates.refusals import (
    BadOffer,
    ExpiredMetadata,
    Unreachable,
    UntrustedMetadata,
    UpdateError,
    WrongFile,
)
from dat_runtime.edge.updates.served_file import DownloadError, MissingError, WrongFileError
from dat_runtime.errors import ConfigError
from dat_runtime.files import read_bytes, sync_folder

LIMITS = UpdaterConfig(
    max_root_rotations=256,
    max_delegations=0,
    root_max_length=65_536,
    timestamp_max_length=16_384,
    snapshot_max_length=65_536,
    targets_max_length=4_000_000,
)
"""Bytes of each kind of metadata; a release of 8 files takes 3 kB of the targets'."""

ROLES = ("root", "timestamp", "snapshot", "targets")


class Repository:
    """A repository, as far as a node trusts it.

    Args:
        url: http://, https://, file:// or a folder's path.
        root: the root of trust, a `root.json` or its content; it came with the node.
        folder: keeps the trusted metadata from one run to the next.
        fetch: the way there; `None`: it is a folder.

    Raises:
        ConfigError: the address or the root file cannot be used.
    """

    def __init__(self, url: str, root: Path | bytes, folder: Path, fetch: Fetch | None = None):
        self._base = base_of(url)
        self._fetch = fetch or FolderFetcher()
        self._folder = folder
        self.refused: tuple[BadOffer, ...] = ()
        if isinstance(root, bytes):
            self._root = root
        else:
            missing = "it came with the node's installation: the repository's first root.json"
            self._root = read_bytes(
                root, ConfigError, missing=missing, most_bytes=LIMITS.root_max_length
            )

    def refresh(self) -> list[Offer]:
        """What is offered now, the highest release first; what no offer is goes to `refused`.

        Raises:
            ExpiredMetadata: statements are past their time.
            UntrustedMetadata: signatures, versions or hashes do not fit.
            Unreachable: the repository cannot be read.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with _alone(self._folder):
                targets = self._trusted_targets()
        except OSError as error:
            raise UpdateError(f"trusted metadata cannot be kept ({error})", self._folder) from None
        offers, refused = offers_in(targets)
        self.refused = tuple(refused)
        return offers

    def _trusted_targets(self) -> dict[str, Target]:
        with _named(self._base):
            updater = Updater(
                str(self._folder),
                f"{self._base}/metadata/",
                fetcher=_MetadataFetcher(self._fetch),
                config=LIMITS,
                bootstrap=self._root,
            )
            updater.refresh()
            # What `refresh` trusted last is what it keeps.
            signed = Metadata[Targets].from_file(str(self._folder / "targets.json")).signed
            return {path: _target(file) for path, file in signed.targets.items()}

    @property
    def expires(self) -> datetime | None:
        """When the first of the trusted statements ends; `None` where there are not all four."""
        ends = []
        for role in ROLES:
            try:
                told = json.loads((self._folder / f"{role}.json").read_bytes())["signed"]["expires"]
                ends.append(datetime.fromisoformat(told))
            except (OSError, ValueError, KeyError, TypeError):
                return None
        return min(ends)

    @property
    def stale(self) -> bool:
        """Whether the trusted statements are past their time, or were never there."""
        expires = self.expires
        return expires is None or datetime.now(UTC) >= expires

    def download(self, offer: Offer, into: Path, have: Path | None = None) -> Path:
        """Make the folder `into` with an offered bundle; every file has its signed digest.

        What came lies beside `into` until all of it is there, so that a later call goes on.

        Args:
            have: a folder, such as the bundle in use, whose equal files are not fetched again.

        Returns:
            `into`.

        Raises:
            Unreachable: a file did not come.
            WrongFile: a file is not the signed one.
            UpdateError: `into` is there already, or the disk is full.
        """
        if into.exists():
            raise UpdateError("is there already", into)
        coming = into.with_name(f".{into.name}.coming")
        try:
            coming.mkdir(parents=True, exist_ok=True)
            demand_space(coming, offer.length)
            for file in offer.files:
                self._bring(offer, file, coming / file.path, have)
            _remove_others(coming, offer)
            for folder in (coming, *(p for p in coming.rglob("*") if p.is_dir())):
                sync_folder(folder)
            coming.rename(into)
            sync_folder(into.parent)
        except OSError as error:
            raise UpdateError(f"cannot be written ({error})", coming) from None
        return into

    def _bring(self, offer: Offer, file: OfferedFile, to: Path, have: Path | None) -> None:
        to.parent.mkdir(parents=True, exist_ok=True)
        if _is(to, file) or (have is not None and _copied(have, file, to)):
            return
        path = target_path(offer.name, offer.version, file.path)
        folder, _, name = path.rpartition("/")
        url = f"{self._base}/targets/{folder}/{file.sha256}.{name}"
        with _named(url):
            self._fetch.file(url, to, sha256=file.sha256, size=file.length)
            # The way may be anything: what counts is checked here.
            signed = TargetFile(file.length, {"sha256": file.sha256}, path)
            with to.open("rb") as content:
                signed.verify_length_and_hashes(content)


class _MetadataFetcher(FetcherInterface):
    """Lets python-tuf's client fetch our way; it looks for roots until one is missing."""

    def __init__(self, fetch: Fetch):
        self._way = fetch

    def _fetch(self, url: str) -> Iterator[bytes]:
        return iter([self.download_bytes(url, LIMITS.targets_max_length)])

    def download_bytes(self, url: str, max_length: int) -> bytes:
        try:
            return self._way.metadata(url, max_length)
        except MissingError as error:
            raise exceptions.DownloadHTTPError(str(error), 404) from None


@contextlib.contextmanager
def _named(where: str) -> Iterator[None]:
    """What python-tuf and the fetchers raise, as the kinds of `refusals`."""
    try:
        yield
    except exceptions.ExpiredMetadataError as error:
        raise ExpiredMetadata(
            f"{error}: nothing is installed until the repository is refreshed", where
        ) from None
    except (WrongFileError, exceptions.LengthOrHashMismatchError) as error:
        raise WrongFile(str(error), where) from None
    except exceptions.RepositoryError as error:
        raise UntrustedMetadata(f"{error}: not what the trusted keys signed", where) from None
    except (DownloadError, exceptions.DownloadError) as error:
        raise Unreachable(str(error), where) from None


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """python-tuf's cache serves one process at a time."""
    with (folder / ".lock").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _target(file: TargetFile) -> Target:
    return Target(file.length, file.hashes.get("sha256", ""), file.custom)


def _is(path: Path, file: OfferedFile) -> bool:
    """Whether a plain file is the offered one."""
    if path.is_symlink() or not path.is_file() or path.stat().st_size != file.length:
        return False
    with path.open("rb") as content:
        return copy(content, len, file.length) == file.sha256


def _copied(have: Path, file: OfferedFile, to: Path) -> bool:
    """Whether a folder had the file, wherever in it, and it is at `to` now."""
    for path in sorted(have.rglob("*")):
        if path.is_symlink() or not path.is_file() or path.stat().st_size != file.length:
            continue
        with path.open("rb") as source, to.open("wb") as out:
            digest = copy(source, out.write, file.length)
            out.flush()
            os.fsync(out.fileno())
        if digest == file.sha256:
            return True
        to.unlink()
    return False


def _remove_others(folder: Path, offer: Offer) -> None:
    """What an earlier, other offer of the same version had left here."""
    wanted = {folder / file.path for file in offer.files}
    for path in folder.rglob("*"):
        if path not in wanted and (path.is_symlink() or not path.is_dir()):
            path.unlink()
