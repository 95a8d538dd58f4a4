"""The end of a training's log, for the message of one that failed."""

from pathlib import Path

MOST_BYTES = 20_000
"""What is read of a log, from its end; progress bars make it long."""


def last_lines(log: Path, most: int) -> list[str]:
    r"""At most so many lines of a log's end, none of them empty.

    Of a progress bar, which returns to the line's beginning by `\r`, the last state alone.
    """
    end = log.read_bytes()[-MOST_BYTES:].decode("utf-8", "replace")
    lines = [line.rstrip().rsplit("\r", 1)[-1] for line in end.split("\n")]
    return [line for line in lines if line][-most:]
