"""Output folders: written beside, moved into place when whole, with a manifest that readers verify.

`manifest.json` of a folder:
    kind      what the folder is ("data", "gate", ...)
    inputs    name -> sha256 of each input's content
    config    the resolved configuration
    code      sha256 of the source that wrote it
    versions  of prompt, schema and drawing
    outputs   relative path -> sha256

It holds no time and no path of the machine, so the same work gives the same manifest.
"""

import hashlib
import json
import os
import resource
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from dat_runtime.draw import DRAWING_VERSION
from dat_runtime.errors import ConfigError, DataError, DatError, ManifestError
from dat_runtime.prompt import PROMPT_VERSION
from dat_runtime.schema import SCHEMA_VERSION

NAME = "manifest.json"
VERSIONS = {"prompt": PROMPT_VERSION, "schema": SCHEMA_VERSION, "drawing": DRAWING_VERSION}

_TABLES = ("inputs", "config", "versions", "outputs")

BAD_INPUT = (ConfigError, DataError, ManifestError)
"""What a stage raises about its input: starting again with it would fail the same way."""


@dataclass(frozen=True)
class Manifest:
    """What a folder holds and where it came from."""

    kind: str
    inputs: dict[str, str]
    config: dict[str, Any]
    code: str
    versions: dict[str, int]
    outputs: dict[str, str]

    @property
    def recipe(self) -> dict[str, Any]:
        """All that decides the outputs."""
        return {k: v for k, v in vars(self).items() if k != "outputs"}


def digest(path: Path) -> str:
    """sha256 of a file; of a folder, over its manifest's outputs if it has one, else its files."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    if not path.is_dir():
        raise ManifestError(f"{path}: no such file or folder")
    outputs = read(path).outputs if (path / NAME).is_file() else _digests(path)
    return hashlib.sha256(json.dumps(outputs, sort_keys=True).encode()).hexdigest()


def read(folder: Path, kind: str | None = None) -> Manifest:
    """The manifest of a folder.

    Raises:
        ManifestError: there is none, it cannot be read, or it is of another kind.
    """
    path = folder / NAME
    try:
        manifest = Manifest(**json.loads(path.read_text("utf-8")))
        if not isinstance(manifest.kind, str) or not isinstance(manifest.code, str):
            raise TypeError("kind and code are no text")
        if not all(isinstance(vars(manifest)[k], dict) for k in _TABLES):
            raise TypeError(f"{', '.join(_TABLES)} are no objects")
    except FileNotFoundError:
        raise ManifestError(f"{path} is missing: run the stage that makes {folder}") from None
    except (ValueError, TypeError, RecursionError) as error:
        raise ManifestError(f"{path} is not a manifest ({error}): make {folder} again") from None
    if kind is not None and manifest.kind != kind:
        raise ManifestError(f"{folder} holds {manifest.kind!r}, expected {kind!r}")
    return manifest


def verify(folder: Path, kind: str | None = None) -> Manifest:
    """The manifest, after every file was compared with it.

    Raises:
        ManifestError: names the first file that is missing, changed or not listed, or the version
            (of prompt, schema, drawing) that differs from this library's.
    """
    manifest = read(folder, kind)
    if manifest.versions != VERSIONS:
        raise ManifestError(
            f"{folder} was made with versions {manifest.versions}, this library has {VERSIONS}: "
            "make it again, or use the library it was made with"
        )
    found = _digests(folder)
    for name, sha in manifest.outputs.items():
        if name not in found:
            raise ManifestError(f"{folder / name} is missing, {NAME} lists it")
        if found[name] != sha:
            raise ManifestError(f"{folder / name} changed since it was written (sha256 differs)")
    if extra := sorted(found.keys() - manifest.outputs.keys()):
        raise ManifestError(f"{folder / extra[0]} is not listed in {NAME}")
    return manifest


class Stage:
    """One output folder in the making.

        stage = Stage(out, kind="gate", inputs={"data": data}, config=config, code=[__file__])
        if stage.up_to_date():
            return
        with stage as folder:
            ...write into folder...

    The work happens in `<out>.partial`, which becomes `out` when the block ends well and is removed
    when it raises an error about its input. When the block is cut off, or a training in it fails,
    it stays: a `resumable` stage finds its checkpoints there at the next start with the same
    recipe, any other starts clean.
    A folder that no stage made is never replaced. Either outcome is told on stdout, with the time
    taken and the peak memory.
    """

    def __init__(
        self,
        out: Path,
        *,
        kind: str,
        inputs: Mapping[str, Path],
        config: Mapping[str, Any],
        code: Sequence[str | Path] = (),
        resumable: bool = False,
    ):
        self.out = out
        self.resumable = resumable
        self.partial = out.with_name(out.name + ".partial")
        self._manifest = Manifest(
            kind=kind,
            inputs={name: digest(path) for name, path in sorted(inputs.items())},
            config=json.loads(json.dumps(config)),
            code=hashlib.sha256("".join(digest(Path(f)) for f in code).encode()).hexdigest(),
            versions=VERSIONS,
            outputs={},
        )

    def up_to_date(self) -> bool:
        """Whether `out` was made by this very recipe and is unchanged since."""
        with suppress(ManifestError):
            if verify(self.out).recipe == self._manifest.recipe:
                print(f"[{self.out.name}] up to date: {self.out}", flush=True)
                return True
        return False

    @property
    def resumes(self) -> bool:
        """Whether an unfinished folder of this very recipe is there to go on with."""
        if not self.resumable:
            return False
        with suppress(ManifestError):
            return read(self.partial).recipe == self._manifest.recipe
        return False

    def __enter__(self) -> Path:
        self._started = time.monotonic()
        if self.out.exists() and not (self.out / NAME).is_file():
            raise ManifestError(
                f"{self.out} is there and was not made by a stage (no {NAME}): "
                "it would be replaced whole; name another folder or remove it"
            )
        if not self.resumes:
            shutil.rmtree(self.partial, ignore_errors=True)
            self.partial.mkdir(parents=True)
            self._write({})
        return self.partial

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self._write(_digests(self.partial))
            _replace_folder(self.partial, self.out)
            seconds = time.monotonic() - self._started
            print(
                f"[{self.out.name}] done in {seconds:.0f} s, peak memory {_peak_memory_mb()} MB: "
                f"{self.out}",
                flush=True,
            )
        elif isinstance(error, BAD_INPUT) or (isinstance(error, DatError) and not self.resumable):
            shutil.rmtree(self.partial, ignore_errors=True)

    def _write(self, outputs: dict[str, str]) -> None:
        manifest = {**vars(self._manifest), "outputs": outputs}
        write_atomically(self.partial / NAME, json.dumps(manifest, indent=1, sort_keys=True) + "\n")


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file so that readers see the old content or the new, never a part."""
    data = content.encode("utf-8") if isinstance(content, str) else content
    beside = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _replace_folder(new: Path, old: Path) -> None:
    """Put `new` where `old` is; a crash between the two renames leaves `old` absent, not mixed."""
    retired = old.with_name(old.name + ".old")
    shutil.rmtree(retired, ignore_errors=True)
    if old.exists():
        old.rename(retired)
    new.rename(old)
    shutil.rmtree(retired, ignore_errors=True)


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p != folder / NAME)
    return {p.relative_to(folder).as_posix(): digest(p) for p in files}


def _peak_memory_mb() -> int:
    """The largest resident set so far, of this process or of one that it waited for."""
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    peak = max(resource.getrusage(w).ru_maxrss for w in who)
    return peak // (1024 * 1024 if sys.platform == "darwin" else 1024)
