"""Output folders: written under another name, moved into place when whole, with a manifest.

Every command that makes something makes one folder, through `Stage`. The folder's manifest
(`manifest`) states what decided its content, the source code included: the command's own module and
all that it imports from this repository.
"""

import ast
import hashlib
import json
import os
import resource
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from dat_runtime import manifest
from dat_runtime.errors import ConfigError, DataError, DatError, ManifestError, is_disk_full
from dat_runtime.manifest import NAME, VERSIONS, Manifest, digest, file_digests

try:
    import fcntl
except ImportError:  # not on this system: two runs at once are not noticed
    fcntl = None  # type: ignore[assignment]

ROOT = Path(__file__).resolve().parents[1]
"""The folder that holds this package and those of the stages."""

_APART = frozenset(
    Path(__file__).resolve().with_name(name)
    for name in ("stage.py", "manifest.py", "errors.py", "command.py")
)
"""Modules that decide how a folder is written and how a command is called, not what is in it."""

BAD_INPUT = (ConfigError, DataError, ManifestError)
"""What a stage raises about its input: with the same input it would fail the same way again."""


def peak_memory_bytes() -> int:
    """The largest resident set so far, of this process or of one that it waited for."""
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    peak = max(resource.getrusage(one).ru_maxrss for one in who)
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, Linux KiB


def sources(entries: Iterable[Path], root: Path = ROOT) -> list[Path]:
    """The given Python files and all of this repository that they import, at whatever depth.

    Imports are read, not run, those inside functions too. `__init__.py` of packages, which are
    empty, and the modules `_APART` do not count.
    """
    read: set[Path] = set()
    ahead = [Path(entry).resolve() for entry in entries]
    while ahead:
        path = ahead.pop()
        if path in read:
            continue
        read.add(path)
        for name in _imports(path):
            module = _module(name, root)
            if module is not None:
                ahead.append(module)
    return sorted(read)


def _imports(path: Path) -> Iterator[str]:
    """Dotted names that a file imports; of `from a import b` both a and a.b: b may be a module."""
    ahead: list[ast.AST] = [ast.parse(path.read_bytes(), str(path))]
    while ahead:
        node = ahead.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        # Only blocks of statements hold imports; expressions, most of the tree, are left out.
        for block in ("body", "orelse", "finalbody", "handlers", "cases"):
            inner = getattr(node, block, None)
            if isinstance(inner, list):  # the body of a lambda is an expression
                ahead += inner


def _module(name: str, root: Path) -> Path | None:
    """The file of a module of this repository; None for any other name."""
    path = (root / name.replace(".", "/")).with_suffix(".py").resolve()
    if path in _APART or not path.is_file():
        return None
    return path


def _code_digest(files: Iterable[str | Path]) -> str:
    """sha256 over Python files with all that they import, and over other files alone."""
    modules: list[Path] = []
    others: list[Path] = []
    for file in map(Path, files):
        if file.suffix == ".py":
            modules.append(file)
        else:
            others.append(file)
    digests = [digest(path) for path in sources(modules, ROOT) + others]
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def _versions(own: Iterable[str], inputs: Iterable[Path]) -> dict[str, int]:
    """This library's versions of what a stage or one of its inputs depends on."""
    names = set(own)
    for path in inputs:
        if (path / NAME).is_file():
            names |= manifest.read(path).versions.keys()
    return {name: version for name, version in VERSIONS.items() if name in names}


class Stage:
    """One output folder in the making.

        stage = Stage(out, kind="gate", inputs={"data": data}, config=config, code=[__file__])
        if stage.up_to_date():
            return
        with stage as folder:
            ...write into folder...

    The work is done in `<out>.partial`. When the block ends well, that becomes `out`. When the
    block raises an error about its input, it is removed, unless the run had resumed what was there;
    and so it is while there is nothing in it.
    When the block is cut off, or a training in it fails, it stays: a `resumable` stage finds its
    checkpoints there at the next start with the same recipe, any other stage starts clean. A whole
    folder whose move was cut off is moved at the next start.

    Input folders are verified before the work begins. A second run that writes the same folder is
    refused, and a folder that no stage made is never replaced. The end is printed, with the time
    taken and the peak memory.

    Args:
        code: the module that does the work; all that it imports from this repository counts too.
            A file that is not Python counts alone.
        versions: names of those that the work itself depends on (`manifest.VERSIONS`). Those of its
            inputs count too: an adapter belongs to the prompts that it was tuned with.
    """

    def __init__(
        self,
        out: Path,
        *,
        kind: str,
        inputs: Mapping[str, Path],
        config: Mapping[str, Any],
        code: Sequence[str | Path] = (),
        versions: Iterable[str] = (),
        resumable: bool = False,
    ):
        self.out = out
        self.resumable = resumable
        self.partial = out.with_name(out.name + ".partial")
        self._inputs = list(inputs.values())
        self._lock = _Lock(out)
        self._resumed = False
        self._manifest = Manifest(
            kind=kind,
            inputs={name: digest(path, name) for name, path in sorted(inputs.items())},
            config=json.loads(json.dumps(config)),  # as it will be read: tuples become lists
            code=_code_digest(code),
            versions=_versions(versions, inputs.values()),
            outputs={},
        )

    def up_to_date(self) -> bool:
        """Whether `out` was made by this very recipe and is unchanged since."""
        self._finish_cut_off_move()
        if self._holds_outputs(self.out):
            print(f"[{self.out.name}] up to date: {self.out}", flush=True)
            return True
        return False

    def _holds_outputs(self, folder: Path) -> bool:
        with suppress(ManifestError):
            return manifest.verify(folder).recipe == self._manifest.recipe
        return False

    def _finish_cut_off_move(self) -> None:
        """Move the unfinished folder if it is whole: only then does its manifest list outputs."""
        with suppress(ManifestError):
            if not manifest.read(self.partial).outputs:
                return
            with self._lock:
                self._demand_replaceable()
                if self._holds_outputs(self.partial):
                    _replace_folder(self.partial, self.out)

    @property
    def resumes(self) -> bool:
        """Whether an unfinished folder of this very recipe is there to go on with."""
        if not self.resumable:
            return False
        with suppress(ManifestError):
            return manifest.read(self.partial).recipe == self._manifest.recipe
        return False

    def __enter__(self) -> Path:
        self._started = time.monotonic()
        self._demand_replaceable()
        for path in self._inputs:
            if (path / NAME).is_file():
                manifest.verify(path)
        with self._lock.kept_unless_raised():
            self._resumed = self.resumes
            if not self._resumed:
                self._start_clean()
        return self.partial

    def _demand_replaceable(self) -> None:
        if self.out.exists() and not (self.out / NAME).is_file():
            raise ManifestError(
                f"{self.out} is there and was not made by a stage (no {NAME}): "
                "it would be replaced whole; name another folder or remove it"
            )

    def _start_clean(self) -> None:
        shutil.rmtree(self.partial, ignore_errors=True)
        try:
            self.partial.mkdir(parents=True)
        except OSError as error:
            raise ManifestError(f"{self.partial}: no folder can be made ({error})") from None
        manifest.write(self.partial, self._manifest)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                outputs = file_digests(self.partial)
                manifest.write(self.partial, replace(self._manifest, outputs=outputs))
                _replace_folder(self.partial, self.out)
                seconds = time.monotonic() - self._started
                peak = peak_memory_bytes() >> 20
                print(
                    f"[{self.out.name}] done in {seconds:.0f} s, peak memory {peak} MB: {self.out}",
                    flush=True,
                )
            elif self._holds_nothing() or (not self._resumed and self._is_worthless_after(error)):
                shutil.rmtree(self.partial, ignore_errors=True)
        finally:
            self._lock.release()

    def _holds_nothing(self) -> bool:
        """Whether not a byte was written beside the manifest."""
        files = [path for path in self.partial.rglob("*") if path.is_file()]
        return not any(path.stat().st_size for path in files if path.name != NAME)

    def _is_worthless_after(self, error: BaseException) -> bool:
        """Whether the unfinished folder holds nothing that the next start could use."""
        if isinstance(error, BAD_INPUT):
            return True
        return (isinstance(error, DatError) or is_disk_full(error)) and not self.resumable


class _Lock:
    """Lets one process at a time write an output folder: a lock on a file beside it.

    The lock ends with its process, even one that is killed. Where the system or the file system
    has no locks, two runs at once are not noticed.
    """

    def __init__(self, out: Path):
        self._out = out
        self._path = out.with_name(f".{out.name}.lock")
        self._file: IO[bytes] | None = None

    def __enter__(self) -> None:
        if fcntl is None:
            return
        while self._file is None:
            self._file = self._open()

    def _open(self) -> IO[bytes] | None:
        """The locked file; `None` when its last holder removed it before the lock was taken."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            file = self._path.open("wb")
        except OSError as error:
            raise ManifestError(f"{self._out} cannot be written ({error})") from None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise ManifestError(f"another run is writing {self._out}: wait for its end") from None
        except OSError:  # a file system without locks
            return file
        if os.fstat(file.fileno()).st_nlink:
            return file
        file.close()  # unlinked between open and lock: another process may hold a new file
        return None

    def __exit__(self, *_: object) -> None:
        self.release()

    @contextmanager
    def kept_unless_raised(self) -> Iterator[None]:
        """Hold the lock beyond the block, or give it back when the block raises."""
        self.__enter__()
        try:
            yield
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        if self._file is not None:
            self._path.unlink(missing_ok=True)
            self._file.close()
            self._file = None


def _replace_folder(new: Path, old: Path) -> None:
    """Put `new` where `old` is; a crash between the two renames leaves `old` absent, not mixed."""
    retired = old.with_name(old.name + ".old")
    shutil.rmtree(retired, ignore_errors=True)
    if old.exists():
        old.rename(retired)
    new.rename(old)
    shutil.rmtree(retired, ignore_errors=True)
