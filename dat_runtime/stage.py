"""Output folders: written under another name, moved into place when whole, with a manifest.

Every command that makes something makes one folder, through `Stage`. The folder's manifest
(`manifest`) states what decided its content, the source code included: the command's own module and
all that it imports from this repository.
"""

import hashlib
import json
import resource
import shutil
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from dat_runtime import manifest
from dat_runtime.errors import ConfigError, DataError, DatError, ManifestError, is_disk_full
from dat_runtime.manifest import KNOWN, NAME, Manifest, digest, file_digests
from dat_runtime.output_folder import Lock, replace_folder, took_time, written
from dat_runtime.sources import sources

ROOT = Path(__file__).resolve().parents[1]
"""The folder that holds this package and those of the stages."""

LENGTH = "length"
"""Of a manifest's configuration: `Stage`'s argument of that name."""

MOST_DIFFERENCES = 6
"""That a refusal names."""

CODE_CHANGED = "code is that of DAT itself, which an update changes"

BAD_INPUT = (ConfigError, DataError, ManifestError)
"""What a stage raises about its input: with the same input it would fail the same way again."""


def peak_memory_bytes() -> int:
    """The largest resident set so far, of this process or of one that it waited for."""
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    peak = max(resource.getrusage(one).ru_maxrss for one in who)
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, Linux KiB


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
    return {name: version for name, version in KNOWN.items() if name in names}


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

    What took time is not lost by itself. A command that takes time has the option `--restart`;
    without it a folder with the work of another recipe, finished or begun, is refused, and the
    refusal says what differs. What takes seconds is made again, and so is what a training left that
    ended before its first checkpoint (`output_folder.took_time`).

    Input folders are verified before the work begins. A second run that writes the same folder is
    refused, and a folder that no stage made is never replaced. The end is printed, with the time
    taken and the peak memory.

    Args:
        code: the module that does the work; all that it imports from this repository counts too.
            A file that is not Python counts alone.
        versions: names of those that the work itself depends on (`manifest.KNOWN`). Those of its
            inputs count too: an adapter belongs to the prompts that it was tuned with.
        restart: whether to replace the work of another recipe; None for what takes seconds.
        length: how long the work goes on, of which less is the beginning of more: steps of a
            training. The folder of a shorter one is gone on with, and is no other recipe's.
        reasons: why a difference matters, in words, by the dotted name of a part of the recipe.
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
        restart: bool | None = None,
        length: Mapping[str, float] | None = None,
        reasons: Mapping[str, str] | None = None,
    ):
        if length:
            config = {**config, LENGTH: length}
        self.out = out
        self.resumable = resumable
        self.partial = out.with_name(out.name + ".partial")
        self._restart = restart
        self._reasons = {"code": CODE_CHANGED, **(reasons or {})}
        self._inputs = list(inputs.values())
        self._lock = Lock(out)
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
        """Whether `out` was made by this very recipe and is unchanged since.

        Raises:
            ConfigError: it is not, and holds work that this recipe would replace.
        """
        self._finish_cut_off_move()
        if self._holds_outputs(self.out):
            print(f"[{self.out.name}] up to date: {self.out}", flush=True)
            return True
        self._demand_no_other_work()
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
                    replace_folder(self.partial, self.out)

    @property
    def resumes(self) -> bool:
        """Whether an unfinished folder of this very recipe is there to go on with."""
        if not self.resumable:
            return False
        with suppress(ManifestError):
            return self._goes_on_from(manifest.read(self.partial))
        return False

    @property
    def prolongs(self) -> bool:
        """Whether `out` holds the shorter work of this very recipe, to go on with."""
        with suppress(ManifestError):
            return self._goes_on_from(manifest.verify(self.out))
        return False

    def _goes_on_from(self, earlier: Manifest) -> bool:
        """Whether the earlier work is this recipe's, or its beginning."""
        before, now = (one.config.get(LENGTH, {}) for one in (earlier, self._manifest))
        bare = {**earlier.recipe, "config": {**earlier.config, LENGTH: now}}
        wanted = {**self._manifest.recipe, "config": {**self._manifest.config, LENGTH: now}}
        same = bare == wanted and before.keys() == now.keys()
        return same and all(before[name] <= now[name] for name in now)

    def _demand_no_other_work(self) -> None:
        """Refuse to replace what took time, unless that was asked for."""
        # What this recipe began was asked for when it began.
        if self._restart is not False or self.resumes:
            return
        if self.resumable and took_time(self.partial):
            raise ConfigError(self._other_work(self.partial, "unfinished work"))
        if (self.out / NAME).is_file() and not self.prolongs:
            raise ConfigError(self._other_work(self.out, "the work"))

    def _other_work(self, folder: Path, work: str) -> str:
        """Why the folder is not replaced: what differs, and what to do."""
        try:
            found = manifest.read(folder).differences(self._manifest)
            if not found:
                manifest.verify(folder)  # the recipe is this one, so what differs are the files
        except ManifestError as error:
            told = f"{folder} is not what was made there: {error}"
        else:
            changes = [f"{name}: {change}" for name, change in found.items()]
            more = len(changes) - MOST_DIFFERENCES
            changes[MOST_DIFFERENCES:] = [f"and {more} more"] if more > 0 else []
            # Two names may have one reason.
            changes += dict.fromkeys(why for name, why in self._reasons.items() if name in found)
            told = f"{folder} holds {work} of another recipe: {'; '.join(changes)}"
        return (
            f"{told}. --restart (of make: RESTART=1) replaces it, another --out (of make: OUT) "
            "keeps it"
        )

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
            manifest.write(self.partial, self._manifest)
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
                replace_folder(self.partial, self.out)
                seconds = time.monotonic() - self._started
                peak = peak_memory_bytes() >> 20
                print(
                    f"[{self.out.name}] done in {seconds:.0f} s, peak memory {peak} MB: {self.out}",
                    flush=True,
                )
            elif not written(self.partial) or (
                not self._resumed and self._is_worthless_after(error)
            ):
                shutil.rmtree(self.partial, ignore_errors=True)
        finally:
            self._lock.release()

    def _is_worthless_after(self, error: BaseException) -> bool:
        """Whether the unfinished folder holds nothing that the next start could use."""
        if isinstance(error, BAD_INPUT):
            return True
        return (isinstance(error, DatError) or is_disk_full(error)) and not self.resumable
