"""`node.yaml`: what a node is told, read strictly, with all that is wrong in it named.

    node: crossing-7
    bundle: /var/lib/dat/bundle
    cameras:
      - {name: north, source: "rtsp://10.0.0.5/stream1", fps: 5}
    mllm: {url: "http://127.0.0.1:8000/v1", model: dat, concurrency: 2, timeout: 20}
    uplink: {url: "https://alerts.example", token_file: token, initial_bytes_per_s: 100000}
    spool: {path: /var/lib/dat/spool.sqlite, max_bytes: 500000000, alert_reserve_bytes: 20000000}
    metrics: {listen: "127.0.0.1:9108"}

`docs/node.md` explains each key. Paths count from the file's own folder.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dat_runtime import fields
from dat_runtime.edge import node_rules
from dat_runtime.edge.cameras.settings import CameraSettings
from dat_runtime.edge.node_settings import (
    FPS,
    INITIAL_BYTES_PER_S,
    MllmSettings,
    NodeSettings,
    OffloadSettings,
    SpoolSettings,
    UpdateSettings,
)
from dat_runtime.edge.uplink.settings import UplinkSettings
from dat_runtime.errors import ConfigError
from dat_runtime.fields import Rules
from dat_runtime.files import parse, read_text

MAX_BYTES = 1 << 18
"""Of node.yaml: a hundred cameras take a twentieth of it."""


@dataclass
class _Reader:
    """Reads the parts of a document and gathers what is wrong with them."""

    folder: Path
    problems: list[str] = field(default_factory=list)

    def part(
        self, value: object, rules: Rules, where: str, optional_keys: tuple[str, ...]
    ) -> dict[str, Any] | None:
        """The part itself when nothing is wrong with it."""
        found = list(fields.problems(value, rules, where, optional_keys))
        self.problems += found
        return None if found or not isinstance(value, dict) else value

    def path(self, name: str) -> Path:
        try:
            return self.folder / Path(name).expanduser()
        except RuntimeError:  # ~name
            self.problems.append(f"{name}: there is no such user, or no home of theirs")
            return self.folder / name

    def paths(self, part: Mapping[str, Any], *names: str) -> dict[str, Any]:
        """The part with the files that it names as paths."""
        named = {name: self.path(part[name]) for name in names if part.get(name) is not None}
        return {**part, **named}


def read_node(path: Path) -> NodeSettings:
    """The settings in a `node.yaml`, or in JSON, which is YAML too.

    Raises:
        ConfigError: all that is wrong with it, a line each; or it cannot be read.
    """
    settings, problems = examine_node(path)
    if settings is None:
        lines = "".join(f"\n  {problem}" for problem in problems)
        raise ConfigError(f"{len(problems)} to mend:{lines}", path)
    return settings


def examine_node(path: Path) -> tuple[NodeSettings | None, list[str]]:
    """The settings, and what is wrong with them in words; `None` where anything is.

    Raises:
        ConfigError: the file cannot be read, or is not YAML.
    """
    value = _read(path)
    reader = _Reader(path.parent)
    optional = ("mllm", "offload", "metrics", "updates")
    top = reader.part(value, node_rules.TOP, "", optional)
    if not isinstance(value, dict):
        return None, reader.problems
    cameras = list(_cameras(reader, value.get("cameras")))
    uplinks = list(_uplinks(reader, value["uplink"])) if "uplink" in value else []
    spool = _spool(reader, value["spool"]) if "spool" in value else None
    mllm = _mllm(reader, value["mllm"]) if "mllm" in value else None
    offload = _offload(reader, value["offload"]) if "offload" in value else None
    if "mllm" in value and "offload" in value:
        reader.problems.append("mllm and offload exclude each other: a node asks, or has finished")
    metrics = _metrics(reader, value["metrics"]) if "metrics" in value else None
    updates = _updates(reader, value["updates"]) if "updates" in value else None
    if reader.problems or top is None or spool is None:
        return None, reader.problems
    settings = NodeSettings(
        node=top["node"],
        bundle=reader.path(top["bundle"]),
        cameras=tuple(cameras),
        uplinks=tuple(uplinks),
        spool=spool,
        mllm=mllm,
        offload=offload,
        metrics=metrics,
        updates=updates,
    )
    return settings, []


def _read(path: Path) -> Any:
    text = read_text(path, ConfigError, missing="name the node's settings", most_bytes=MAX_BYTES)
    try:
        return parse(text)  # JSON needs no further package
    except ValueError as cause:
        why_not = str(cause)
    try:
        import yaml
    except ImportError:
        raise ConfigError(
            f"is not JSON ({why_not}); YAML needs a package: pip install 'dat-runtime[node]'", path
        ) from None

    class Loader(yaml.SafeLoader):
        """Refuses a key that stands twice: the first one would go without a word."""

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            names = set()
            for key, _ in node.value:
                if not isinstance(key, yaml.ScalarNode):
                    continue  # no key of ours, which is told with the others that are unknown
                if key.value in names:
                    raise yaml.MarkedYAMLError(
                        problem=f"the key {key.value} stands twice", problem_mark=key.start_mark
                    )
                names.add(key.value)
            return super().construct_mapping(node, deep)

    try:
        return yaml.load(text, Loader)
    except yaml.MarkedYAMLError as cause:
        line = None if cause.problem_mark is None else cause.problem_mark.line + 1
        raise ConfigError(f"is not YAML ({cause.problem})", path, line) from None
    except (yaml.YAMLError, ValueError, RecursionError) as cause:
        words = " ".join(str(cause).split())
        raise ConfigError(f"is not YAML ({words})", path) from None


def _cameras(reader: _Reader, value: object) -> Iterator[CameraSettings]:
    names = set()
    for i, camera in enumerate(value if isinstance(value, list) else ()):
        where = f"cameras[{i}]"
        part = reader.part(camera, node_rules.CAMERA, where, ("fps", "loop"))
        if part is None:
            continue
        if part["name"] in names:
            reader.problems.append(f"{where}: the name {part['name']} is taken by another camera")
        names.add(part["name"])
        source = part["source"]
        if "://" not in source:  # a file, a folder or a device
            source = str(reader.path(source))
        try:
            yield CameraSettings(
                name=part["name"],
                source=source,
                fps=part.get("fps", FPS),
                loop=part.get("loop", False),
            )
        except ValueError as error:
            reader.problems.append(f"{where}: {error}")


def _uplinks(reader: _Reader, value: object) -> Iterator[UplinkSettings]:
    several = isinstance(value, list)
    for i, uplink in enumerate(value if isinstance(value, list) else [value]):
        where = f"uplink[{i}]" if several else "uplink"
        optional = tuple(name for name in node_rules.UPLINK if name != "url")
        part = reader.part(uplink, node_rules.UPLINK, where, optional)
        if part is None:
            continue
        part = {"token_file": None, "initial_bytes_per_s": INITIAL_BYTES_PER_S} | part
        yield UplinkSettings(**reader.paths(part, "token_file", "certificate", "authorities"))


def _spool(reader: _Reader, value: object) -> SpoolSettings | None:
    part = reader.part(value, node_rules.SPOOL, "spool", ("max_bytes", "alert_reserve_bytes"))
    if part is None:
        return None
    settings = SpoolSettings(**reader.paths(part, "path"))
    if settings.alert_reserve_bytes > settings.max_bytes // 2:
        reader.problems.append(
            f"spool: alert_reserve_bytes is {settings.alert_reserve_bytes:,}, "
            f"expected at most half of max_bytes ({settings.max_bytes:,})"
        )
    return settings


def _mllm(reader: _Reader, value: object) -> MllmSettings | None:
    part = reader.part(value, node_rules.MLLM, "mllm", tuple(node_rules.MLLM))
    if part is None:
        return None
    if "recorded" in part:
        if part.keys() & {"url", "model"}:
            reader.problems.append("mllm: recorded excludes url and model")
    elif not part.keys() >= {"url", "model"}:
        reader.problems.append("mllm: url and model are missing, or recorded")
    if "restart" in part:
        if "recorded" in part:
            reader.problems.append("mllm: recorded excludes restart")
        part = {**part, "restart": tuple(part["restart"])}
    return MllmSettings(**reader.paths(part, "recorded", "key_file"))


def _offload(reader: _Reader, value: object) -> OffloadSettings | None:
    part = reader.part(value, node_rules.OFFLOAD, "offload", ("max_latency", "min_accuracy"))
    if part is None:
        return None
    if ("max_latency" in part) == ("min_accuracy" in part):
        reader.problems.append("offload: expected one of max_latency and min_accuracy")
    return OffloadSettings(**reader.paths(part, "codec", "table"))


def _updates(reader: _Reader, value: object) -> UpdateSettings | None:
    optional = tuple(name for name in node_rules.UPDATES if name not in ("url", "root"))
    part = reader.part(value, node_rules.UPDATES, "updates", optional)
    return None if part is None else UpdateSettings(**reader.paths(part, "root", "canary"))


def _metrics(reader: _Reader, value: object) -> tuple[str, int] | None:
    part = reader.part(value, node_rules.METRICS, "metrics", ())
    if part is None:
        return None
    host, _, port = part["listen"].rpartition(":")
    return host.strip("[]"), int(port)
