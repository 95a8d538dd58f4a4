"""YAML files of untrusted origin: a source's data.yaml, and class mappings."""

from pathlib import Path
from typing import Any

import yaml

from dat_runtime import files
from dat_runtime.errors import DataError

_MAX_BYTES = 64 * 1024
_MAX_DEPTH = 16


def plain_yaml(path: Path) -> Any:
    """The value of a YAML file.

    It refuses more than `files.read_yaml` does: a file over 64 KiB; aliases, because a few lines of
    them expand to billions of values; and more than 16 levels of nesting, because building the
    value recurses.

    Raises:
        DataError: it is refused, or cannot be read; names the line.
    """
    # Bytes, not `files.read_text`: a YAML file may be UTF-16, which PyYAML detects.
    data = files.read_bytes(path, DataError, most_bytes=_MAX_BYTES)
    try:
        _demand_plain(data, path)
        return yaml.safe_load(data)
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error)
        line = mark.line + 1 if mark else None
        raise DataError(f"not plain YAML: {' '.join(problem.split())}", path, line) from None


def _demand_plain(data: bytes, path: Path) -> None:
    """Refuse aliases and deep nesting, by the parser's events, before any value is built."""
    depth = 0
    for event in yaml.parse(data, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if isinstance(event, yaml.AliasEvent) or depth > _MAX_DEPTH:
            line = event.start_mark.line + 1 if event.start_mark else None
            raise DataError("aliases and deep nesting are not allowed", path, line)
