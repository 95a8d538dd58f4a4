"""What a node is told, as values; `node_file` reads them from `node.yaml`."""

from dataclasses import dataclass
from pathlib import Path

from dat_runtime.edge.cameras.settings import CameraSettings
from dat_runtime.edge.uplink.settings import UplinkSettings

FPS = 5.0
"""Frames a second that the gate looks at, where nothing is stated."""

INITIAL_BYTES_PER_S = 100_000.0
"""What a link is taken to carry until it was measured, where nothing is stated."""

PROBATION_MINUTES = 10.0
PROBATION_FRAMES = 500
"""Of a new version, before it is kept, where nothing is stated."""


@dataclass(frozen=True)
class MllmSettings:
    """The MLLM beside the node.

    Attributes:
        url: of an OpenAI-compatible server; or `recorded`: a file that holds the one answer.
        model: its name there.
        concurrency: questions at a time; further frames are told by the gate alone.
        timeout: seconds after which an answer is no longer waited for.
        key_file: holds the server's key, where it asks for one.
        restart: a command that starts the server again with the current adapter, for servers that
            take none while they run.
    """

    url: str | None = None
    model: str | None = None
    concurrency: int = 1
    timeout: float = 20.0
    recorded: Path | None = None
    key_file: Path | None = None
    restart: tuple[str, ...] | None = None


@dataclass(frozen=True)
class OffloadSettings:
    """How a node that is too weak for the MLLM has its answers finished by the receiver.

    Attributes:
        codec: folder of `train.offload`.
        table: the look-up table, `eval.offload`'s table.json.
        max_latency, min_accuracy: one of both: seconds, or a share in the table's measure.
    """

    codec: Path
    table: Path
    max_latency: float | None = None
    min_accuracy: float | None = None


@dataclass(frozen=True)
class SpoolSettings:
    """Where events wait, in bytes at most, and how many of those are kept for alerts alone."""

    path: Path
    max_bytes: int = 500_000_000
    alert_reserve_bytes: int = 20_000_000


@dataclass(frozen=True)
class UpdateSettings:
    """Where signed bundles come from, and how they are tried.

    Attributes:
        root: the root of trust, a `root.json`.
        bundle: the name among the bundles that are offered; `None`: the one that there is.
        canary: a folder of pictures on which a new version is tried; `None`: a shipped one.
        bytes_per_s: what a download may take.
        probation_minutes, probation_frames: both have to pass before a version is kept.
    """

    url: str
    root: Path
    bundle: str | None = None
    canary: Path | None = None
    bytes_per_s: float = 1_000_000.0
    probation_minutes: float = PROBATION_MINUTES
    probation_frames: int = PROBATION_FRAMES


@dataclass(frozen=True)
class NodeSettings:
    """A whole `node.yaml`.

    Attributes:
        uplinks: in order of preference.
        metrics: host and port of the metrics, health and status; `None`: they are not served.
    """

    node: str
    bundle: Path
    cameras: tuple[CameraSettings, ...]
    uplinks: tuple[UplinkSettings, ...]
    spool: SpoolSettings
    mllm: MllmSettings | None = None
    offload: OffloadSettings | None = None
    metrics: tuple[str, int] | None = None
    updates: UpdateSettings | None = None
