"""Which class of a source is which severity: by its name, or as the user maps it.

--classes minor=moderate crash=severe car=ignore
--classes classes.yaml                              (the same as a YAML mapping)
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from dat_runtime.errors import ConfigError, DataError
from dat_runtime.types import SEVERITIES, Severity

IGNORE = "ignore"
Mapped = Severity | None
"""None: rows of this class are left out."""

_MAX_YAML_BYTES = 64 * 1024
_MAX_YAML_DEPTH = 16


class Classes:
    """Class names, compared without regard to case, and what each means."""

    def __init__(self, mapping: Mapping[str, str] | None = None):
        self.mapping: dict[str, str] = {name: name for name in SEVERITIES}
        for name, meaning in (mapping or {}).items():
            if meaning not in (*SEVERITIES, IGNORE):
                raise ConfigError(
                    f"class {name!r} is mapped to {meaning!r}, "
                    f"expected {', '.join(SEVERITIES)} or {IGNORE}"
                )
            self.mapping[_folded(name)] = meaning

    @classmethod
    def read(cls, words: Sequence[str]) -> "Classes":
        """Of the command line: NAME=SEVERITY each, or one YAML file.

        Raises:
            ConfigError: a word is neither, or a class is mapped to no severity.
        """
        if len(words) == 1 and "=" not in words[0]:
            content = plain_yaml(Path(words[0]))
            if not isinstance(content, dict):
                raise ConfigError(f"{words[0]}: expected a mapping of class names to severities")
            return cls({str(name): str(meaning) for name, meaning in content.items()})
        pairs = [word.rpartition("=") for word in words]
        if bad := [word for word, (name, _, _) in zip(words, pairs, strict=True) if not name]:
            raise ConfigError(f"--classes expects NAME=SEVERITY or one YAML file, got {bad[0]!r}")
        return cls({name: meaning for name, _, meaning in pairs})

    def of(self, names: Sequence[object], path: Path) -> list[Mapped]:
        """The severity of each class.

        Raises:
            DataError: a class is not mapped, or there twice; lists the names that are there.
        """
        there = f"this set names {list(names)!r:.400}"
        folded = [_folded(name) for name in names]
        if len(set(folded)) != len(folded):
            raise DataError(f"a class name is there twice, {there}", path)
        unknown = [str(n) for n, f in zip(names, folded, strict=True) if f not in self.mapping]
        if unknown:
            raise DataError(
                f"unknown class {', '.join(map(repr, unknown))}, {there}. Say what each means, "
                f"e.g. --classes {unknown[0]!r}=severe (or moderate, ignore)",
                path,
            )
        return [self._meaning(name) for name in folded]

    def _meaning(self, folded: str) -> Mapped:
        meaning = self.mapping[folded]
        return None if meaning == IGNORE else SEVERITIES[SEVERITIES.index(meaning)]


def _folded(name: object) -> str:
    return str(name).strip().casefold()


def plain_yaml(path: Path) -> Any:
    """YAML without aliases (they can multiply), tags, or deep nesting.

    Raises:
        DataError: it is more than that, or cannot be read; names the line.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", path) from None
    if len(data) > _MAX_YAML_BYTES:
        raise DataError(f"{len(data)} bytes, at most {_MAX_YAML_BYTES} are read", path)
    try:
        depth = 0
        for event in yaml.parse(data, Loader=yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if isinstance(event, yaml.AliasEvent) or depth > _MAX_YAML_DEPTH:
                line = event.start_mark.line + 1 if event.start_mark else None
                raise DataError("aliases and deep nesting are refused", path, line)
        return yaml.safe_load(data)
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error)
        line = mark.line + 1 if mark else None
        raise DataError(f"not plain YAML: {problem}", path, line) from None
