"""Named errors, and the one place that turns them into an exit status."""

import errno
import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec


class DatError(Exception):
    """Something expected went wrong; the message says what, where, and what to do about it.

    It begins with `file:line:` where they are given.
    """

    def __init__(self, message: str, file: Path | str | None = None, line: int | None = None):
        if file is None:
            place = ""
        elif line is None:
            place = f"{file}: "
        else:
            place = f"{file}:{line}: "
        super().__init__(place + message)


class ConfigError(DatError):
    """A configuration or a command line asks for something that cannot be done."""


class DataError(DatError):
    """Input data is missing, broken, or contradicts itself."""


class ModelError(DatError):
    """A model file is broken, or is not what its description says."""


class OffloadError(DatError):
    """A code unit is broken or of another codec, or cannot be made."""


class ManifestError(DatError):
    """A folder does not hold what its manifest says."""


def is_disk_full(error: BaseException | None) -> bool:
    """Whether the system had no room for what was written."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


P = ParamSpec("P")


def reports_errors(main: Callable[P, int]) -> Callable[P, int]:
    """Let an entry point print a `DatError` as one line on stderr and return 1.

    So does a full disk. Ctrl-C ends it with 130, as a shell has it, and output that nobody reads
    any more with 1. Any other exception is a defect and keeps its traceback.
    """

    @functools.wraps(main)
    def reporting(*args: P.args, **kwargs: P.kwargs) -> int:
        try:
            return main(*args, **kwargs)
        except DatError as error:
            print(f"error: {printable(str(error))}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("stopped (Ctrl-C): run the same command again", file=sys.stderr)
            return 130
        except BrokenPipeError:  # the reader of our output went away, as `head` does
            forget_output()
            return 1
        except OSError as error:
            if not is_disk_full(error):
                raise
            place = f"{error.filename}: " if error.filename else ""
            message = f"{place}{error.strerror}: free some space and run the same command again"
            print(f"error: {printable(message)}", file=sys.stderr)
            return 1

    return reporting


def printable(text: str) -> str:
    """The text as it may go to a terminal, which obeys escapes: they move, colour, rename, hide.

    Answers, file names and messages of servers come from elsewhere. Whatever is not printable
    stands as Python writes it, such as `\\x1b`; lines stay lines.
    """
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)


def forget_output() -> None:
    """Print to nobody from now on: Python flushes stdout at its end, which would fail once more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
