"""The severity that each class of a source means: by its name, or as the user maps it.

--classes minor=moderate crash=severe car=ignore parked=none
--classes classes.yaml                              (the same as a YAML mapping)

`ignore` says nothing of the frame: one whose only boxes are ignored is left out. `none` says that
the class is no accident: a frame with nothing else is accident-free.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from dat_runtime.errors import ConfigError, DataError
from dat_runtime.types import SEVERITIES, Severity
from data.prep.importers.plain_yaml import plain_yaml

Mapped = Severity | Literal["ignore", "none"]
_MEANINGS: dict[str, Mapped] = {name: name for name in SEVERITIES}
_MEANINGS |= {"ignore": "ignore", "none": "none"}


class Classes:
    """Class names and what each means; upper and lower case are the same."""

    def __init__(self, mapping: Mapping[str, str] | None = None):
        self.mapping: dict[str, Mapped] = {name: name for name in SEVERITIES}
        for name, meaning in (mapping or {}).items():
            if meaning not in _MEANINGS:
                raise ConfigError(
                    f"class {name!r} is mapped to {meaning!r}, expected {', '.join(_MEANINGS)}"
                )
            self.mapping[_folded(name)] = _MEANINGS[meaning]

    @classmethod
    def read(cls, words: Sequence[str]) -> "Classes":
        """From words of the command line: NAME=SEVERITY each, or one YAML file.

        Raises:
            ConfigError: a word is neither, or a class is mapped to an unknown severity.
        """
        if len(words) == 1 and "=" not in words[0]:
            content = plain_yaml(Path(words[0]))
            if not isinstance(content, dict):
                raise ConfigError(f"{words[0]}: expected a mapping of class names to severities")
            return cls({str(name): str(meaning) for name, meaning in content.items()})
        mapping = {}
        for word in words:
            name, _, meaning = word.rpartition("=")  # a class name may hold a `=` itself
            if not name:
                raise ConfigError(f"--classes expects NAME=SEVERITY or one YAML file, got {word!r}")
            mapping[name] = meaning
        return cls(mapping)

    def of(self, names: Sequence[object], path: Path) -> list[Mapped]:
        """The severity of each class.

        Raises:
            DataError: a class is not mapped, or appears twice; lists the names of the set.
        """
        known_names = f"this set names {list(names)!r:.400}"
        folded = [_folded(name) for name in names]
        if len(set(folded)) != len(folded):
            raise DataError(f"a class name appears twice, {known_names}", path)
        unknown = [str(name) for name in names if _folded(name) not in self.mapping]
        if unknown:
            raise DataError(
                f"unknown class {', '.join(map(repr, unknown))}, {known_names}. "
                f"Say what each means, e.g. --classes {unknown[0]!r}=severe "
                "(or moderate, none, ignore)",
                path,
            )
        return [self.mapping[name] for name in folded]


def _folded(name: object) -> str:
    return str(name).strip().casefold()
