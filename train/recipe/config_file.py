"""Configurations of trainings: YAML in the upstream's own keys, and `key=value` overrides."""

import contextlib
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from dat_runtime.errors import ConfigError

_NOT_YAML = (yaml.YAMLError, ValueError, RecursionError)  # a ValueError: not UTF-8, no such date


def read_config(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The keys of a YAML file, with `key=value` overrides.

    Raises:
        ConfigError: no file that can be read, not a mapping, or an override that is not
            `key=value`.
    """
    try:
        config = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    except _NOT_YAML as error:
        raise ConfigError(f"{path}: not YAML ({error})") from None
    if not isinstance(config, dict):
        raise ConfigError(f"{path}: expected a mapping of keys to values")
    for override in overrides:
        key, separator, value = override.partition("=")
        if not separator or not key.isidentifier():
            raise ConfigError(f"expected key=value, got {override!r}")
        try:
            config[key] = _value(value)
        except _NOT_YAML:
            raise ConfigError(f"expected key=value, got {override!r}: not YAML") from None
    return config


def _value(text: str) -> Any:
    """A value of the command line: a number in any notation, else what YAML reads."""
    for number in (int, float):
        with contextlib.suppress(ValueError):
            return number(text)
    return yaml.safe_load(text)


def versions(*tools: str) -> dict[str, str]:
    """The installed versions of the packages that decide a training, for a manifest."""
    return {tool: version(tool) for tool in tools}
