"""The one place that reads and writes JSON, JSON lines and YAML, with errors that name the file.

What cannot be read raises a `DatError` that also names the line, where there are lines. The caller
chooses its class: a broken configuration is a `ConfigError`, a broken gate a `ModelError`. What is
written is written whole or not at all.
"""

import json
import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from dat_runtime.errors import ConfigError, DataError, DatError


def read_bytes(
    path: Path,
    error: type[DatError] = DataError,
    *,
    missing: str = "",
    most_bytes: int | None = None,
) -> bytes:
    """The content of a file, for formats that state their encoding themselves.

    Args:
        error: what is raised.
        missing: what to do about a file that is not there, for its message.
        most_bytes: a larger file is refused before it is read whole.

    Raises:
        DatError: of the kind `error`: the file is missing, cannot be read, is a pipe or a device,
            or is too large.
    """
    try:
        # Where a folder above it may not be entered, already this says so.
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise error(
                "is not a plain file, and might never end: write its content into one", path
            )
        with path.open("rb") as file:
            # One byte over the limit is enough to see that the file is too large.
            content = file.read() if most_bytes is None else file.read(most_bytes + 1)
    except OSError as cause:
        if missing and isinstance(cause, FileNotFoundError):
            raise error(f"is missing: {missing}", path) from None
        raise error(f"cannot be read ({cause.strerror})", path) from None
    if most_bytes is not None and len(content) > most_bytes:
        raise error(f"larger than {most_bytes:,} bytes", path)
    return content


def read_text(
    path: Path,
    error: type[DatError] = DataError,
    *,
    missing: str = "",
    broken: str = "",
    most_bytes: int | None = None,
) -> str:
    """The text of a UTF-8 file.

    Args:
        error, missing, most_bytes: as in `read_bytes`.
        broken: what to do about a file that is not UTF-8, for its message.

    Raises:
        DatError: of the kind `error`: as `read_bytes`, or not UTF-8; then with the line.
    """
    content = read_bytes(path, error, missing=missing, most_bytes=most_bytes)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as cause:
        line = content.count(b"\n", 0, cause.start) + 1
        raise error("is not UTF-8" + _advice(broken), path, line) from None


def _advice(text: str) -> str:
    return f": {text}" if text else ""


def read_json(
    path: Path,
    error: type[DatError] = DataError,
    *,
    missing: str = "",
    broken: str = "",
    most_bytes: int | None = None,
    strict: bool = False,
) -> Any:
    """The value in a JSON file.

    Args:
        error, missing, most_bytes: as in `read_text`.
        broken: what to do about a file that is not JSON or not UTF-8, for its message.
        strict: as `parse` reads it: no duplicate key, NaN or Infinity.

    Raises:
        DatError: of the kind `error`: as `read_text`, or the text is not JSON.
    """
    text = read_text(path, error, missing=missing, broken=broken, most_bytes=most_bytes)
    try:
        return parse(text) if strict else json.loads(text)
    except (ValueError, RecursionError) as cause:
        raise error(f"is not JSON ({cause}){_advice(broken)}", path) from None


def read_json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    r"""The objects of a file of JSON lines, numbered from 1. Only `\n` ends a line.

    Raises:
        DataError: the file cannot be read or is not UTF-8, or a line is not a JSON object.
    """
    lines = read_text(path).split("\n")
    if not lines[-1]:  # the last line ends with \n, as it should
        lines.pop()
    for number, line in enumerate(lines, 1):
        try:
            record = _value(line)
        except (ValueError, RecursionError) as cause:
            raise DataError(f"is not JSON ({cause})", path, number) from None
        if not isinstance(record, dict):
            raise DataError("is not a JSON object", path, number)
        yield number, record


_decode = json.JSONDecoder().raw_decode


def _value(line: str) -> Any:
    """`json.loads` of a line, quicker for one without white space around its value."""
    try:
        value, end = _decode(line)
    except ValueError:
        end = -1
    if end == len(line):
        return value
    return json.loads(line)


def read_yaml(path: Path, error: type[DatError] = ConfigError) -> Any:
    """The value in a YAML file; its tags never run anything.

    Raises:
        DatError: of the kind `error`: as `read_text`, or the text is not YAML.
    """
    import yaml  # no requirement of the wheel: nodes read JSON only

    text = read_text(path, error)
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as cause:  # a ValueError: no such date
        raise error(f"is not YAML ({cause})", path) from None


def parse(text: str) -> Any:
    """The one JSON value that the text is, read strictly.

    Raises:
        ValueError: it is not one, has duplicate keys, NaN or Infinity, or is nested too deeply.
    """
    try:
        return json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=_refuse_constant,
            parse_float=_finite,
        )
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("duplicate key")
    return value


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"number out of range: {digits[:20]}")
    return number


def write_json(path: Path, value: Any, *, sort_keys: bool = False) -> None:
    """Write a JSON file for people and programs: indented, one newline at its end."""
    write_atomically(path, json.dumps(value, indent=1, sort_keys=sort_keys) + "\n")


def write_json_lines(path: Path, records: Iterable[Any]) -> None:
    """Write a file of JSON lines, one record each."""
    write_atomically(path, "".join(f"{json.dumps(record)}\n" for record in records))


def write_yaml(path: Path, value: Any) -> None:
    """Write a YAML file, its keys in the order that they have."""
    import yaml

    write_atomically(path, yaml.safe_dump(value, sort_keys=False))


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


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    file = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)
