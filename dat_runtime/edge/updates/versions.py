"""The versions of a node's bundle on its disk, and the one place that says which is at work.

    BUNDLE.versions/
      state.json        which version is current, which was before, what is blocked (`switch.State`)
      bundles/NAME/     whole bundles, one a version
      current           a link to the current one, for servers that are told a path
      incoming/         what an installation is making; nothing in it counts

`state.json` alone decides. It is replaced by one rename, after every file of the version it names
is on the disk: a node that is killed, or loses its power, at any moment starts with the old version
or the new one, whole.
"""

import contextlib
import fcntl
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from dat_runtime import manifest
from dat_runtime.edge.updates.disk import demand_space
from dat_runtime.edge.updates.switch import State, as_json, from_json
from dat_runtime.errors import DatError, ManifestError
from dat_runtime.files import read_json, sync_folder, write_atomically

MAX_STATE_BYTES = 1 << 20
MOST_BYTES = 8 << 30
"""Of a bundle that is copied from a folder."""

Step = Callable[[State], State]


class VersionsError(DatError):
    """The versions on the disk cannot be used."""


class Versions:
    """The versions beside a node's bundle. Nothing is made before something is installed."""

    def __init__(self, bundle: Path):
        self.folder = bundle.with_name(bundle.name + ".versions")
        self._state = self.folder / "state.json"

    def state(self) -> State:
        """What is known now.

        Raises:
            VersionsError: the file is damaged, or cannot be read.
        """
        try:
            if not self._state.exists():
                return State()
        except OSError as error:  # the disk fails, or a folder above it may not be entered
            raise VersionsError(f"cannot be read ({error.strerror})", self._state) from None
        value = read_json(self._state, VersionsError, most_bytes=MAX_STATE_BYTES, strict=True)
        try:
            return from_json(value)
        except ValueError as error:
            raise VersionsError(
                f"{error}: move the folder away, and the node uses its first bundle", self._state
            ) from None

    def change(self, step: Step) -> State:
        """The state after a step, on the disk; one process at a time.

        Raises:
            VersionsError: the state is damaged, or cannot be written.
            ValueError: of the step.
        """
        with self._locked("state.lock", wait=True):
            before = self.state()
            state = step(before)
            if state != before:
                try:
                    write_atomically(self._state, json.dumps(as_json(state), indent=1) + "\n")
                    sync_folder(self.folder)
                except OSError as error:
                    raise VersionsError(
                        f"cannot be written ({error.strerror})", self._state
                    ) from None
            self._point(state)
        return state

    def folder_of(self, version: str) -> Path:
        return self.folder / "bundles" / version

    @property
    def incoming(self) -> Path:
        """Where an installation makes what is to come; downloads in it go on where they ended."""
        return self.folder / "incoming"

    @contextlib.contextmanager
    def installing(self) -> Iterator[None]:
        """Only one installation at a time; what one that was killed left is removed.

        Raises:
            VersionsError: another one is under way, or the folder cannot be written.
        """
        with self._locked("install.lock", wait=False):
            self.incoming.mkdir(exist_ok=True)
            for left in self.incoming.glob("[!.]*"):
                shutil.rmtree(left, ignore_errors=True)
            yield

    def bring(self, bundle: Path) -> Path:
        """A copy of a folder among what is coming; links in it stay links, to be refused.

        Raises:
            UpdateError: the disk has no room for it.
            VersionsError: it is larger than any bundle, holds what is no file, or cannot be copied.
        """
        made = self.incoming / "bundle"
        try:
            size = _size(bundle)
            demand_space(self.incoming, size)
            shutil.copytree(bundle, made, symlinks=True)
        except (OSError, shutil.Error) as error:
            raise VersionsError(f"cannot be copied ({error})", bundle) from None
        return made

    def add(self, coming: Path) -> str:
        """Take what lies in `incoming` among the versions, whole and durable before it has a name.

        Raises:
            ManifestError: it has no manifest.
            VersionsError: it cannot be written.
        """
        version = version_of(coming)
        place = self.folder_of(version)
        if coming == place:
            return version
        try:
            _sync(coming)
            place.parent.mkdir(exist_ok=True)
            if place.exists():
                if self.is_whole(place):
                    return version
                shutil.rmtree(place)
            coming.rename(place)
            sync_folder(place.parent)
            sync_folder(self.folder)
        except OSError as error:
            raise VersionsError(f"cannot be written ({error.strerror})", place) from None
        return version

    def is_whole(self, place: Path) -> bool:
        """Whether every file of a version is there and unchanged."""
        with contextlib.suppress(ManifestError):
            manifest.verify(place)
            return True
        return False

    def prune(self) -> None:
        """Remove every version but the current and the previous one."""
        state = self.state()
        bundles = self.folder / "bundles"
        for folder in bundles.iterdir() if bundles.is_dir() else ():
            if folder.name not in (state.current, state.previous):
                shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(self.incoming, ignore_errors=True)

    def _point(self, state: State) -> None:
        """Let the link follow the state; after a kill between the two the next step repairs it."""
        link = self.folder / "current"
        if state.current is None:
            return
        target = os.path.join("bundles", state.current)
        with contextlib.suppress(OSError):
            if os.readlink(link) == target:
                return
        beside = self.folder / ".current.new"
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
            beside.symlink_to(target)
            beside.replace(link)
            sync_folder(self.folder)

    @contextlib.contextmanager
    def _locked(self, name: str, wait: bool) -> Iterator[None]:
        """The lock ends with its process, even one that is killed."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            file = (self.folder / name).open("wb")
        except OSError as error:
            raise VersionsError(f"cannot be written ({error.strerror})", self.folder) from None
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                raise VersionsError("another installation is under way", self.folder) from None
            yield


def version_of(bundle: Path) -> str:
    """The name of a bundle's version.

    Raises:
        ManifestError: it has no manifest.
    """
    return manifest.digest(bundle / manifest.NAME)[:16]


def _size(bundle: Path) -> int:
    """Bytes of the files in a folder.

    Raises:
        VersionsError: they are more than any bundle has, or one is a device or a pipe, which may
            have no end.
    """
    size = 0
    for path in bundle.rglob("*"):
        about = path.lstat()
        if not (path.is_symlink() or path.is_dir() or stat.S_ISREG(about.st_mode)):
            raise VersionsError("is not a plain file", path)
        size += about.st_size
        if size > MOST_BYTES:
            raise VersionsError(f"more than {MOST_BYTES:,} bytes, no bundle has so many", bundle)
    return size


def _sync(folder: Path) -> None:
    """Bring a folder with all in it to the disk."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        elif path.is_dir():
            sync_folder(path)
    sync_folder(folder)
