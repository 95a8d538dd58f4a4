"""Configurations of trainings: YAML in the upstream's own keys, and `key=value` overrides."""

import argparse
import contextlib
import shlex
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from dat_runtime.errors import ConfigError
from dat_runtime.files import read_yaml


def read_config(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The keys of a YAML file, with `key=value` overrides.

    Raises:
        ConfigError: the file cannot be read, is not YAML or not a mapping, or an override is not
            `key=value`.
    """
    config = read_yaml(path)
    if not isinstance(config, dict):
        raise ConfigError("expected a mapping of keys to values", path)
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator or not key.isidentifier():
            raise ConfigError(f"expected key=value, got {override!r}")
        try:
            config[key] = _value(text)
        except (yaml.YAMLError, ValueError, RecursionError):  # a ValueError: no such date
            raise ConfigError(f"expected key=value, got {override!r}: not YAML") from None
    return config


def _value(text: str) -> Any:
    """A value of the command line: a number in any notation, else what YAML reads.

    YAML 1.1 takes `5e-5` for a text.
    """
    for number in (int, float):
        with contextlib.suppress(ValueError):
            return number(text)
    return yaml.safe_load(text)


def words(text: str) -> list[str]:
    """A configuration and its overrides that come in one word: the type of such an option."""
    found = shlex.split(text)
    if not found:
        raise argparse.ArgumentTypeError("names no configuration")
    return found


def versions(*tools: str) -> dict[str, str]:
    """The installed versions of the packages that decide a training, for a manifest."""
    return {tool: version(tool) for tool in tools}
