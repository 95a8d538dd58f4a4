"""What is wrong with a node's settings, without starting it (`dat-runtime edge check`)."""

import importlib.util
import os
import queue
import shutil
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from dat_runtime import manifest
from dat_runtime.codec_folder import read_description
from dat_runtime.edge.bundle import KIND as BUNDLE
from dat_runtime.edge.bundle import open_bundle
from dat_runtime.edge.cameras.settings import CameraSettings
from dat_runtime.edge.counts import Counts
from dat_runtime.edge.node_file import examine_node
from dat_runtime.edge.node_settings import (
    MllmSettings,
    NodeSettings,
    OffloadSettings,
    SpoolSettings,
)
from dat_runtime.edge.offloading.controller import usable_rows
from dat_runtime.edge.offloading.encoder import Encoder, patience
from dat_runtime.edge.offloading.node_codec import open_codec
from dat_runtime.edge.updates.at_work import assessor, demand_family
from dat_runtime.edge.updates.fetching import base_of
from dat_runtime.edge.updates.trial import canary_frames
from dat_runtime.edge.updates.versions import Versions
from dat_runtime.edge.uplink.settings import UplinkSettings
from dat_runtime.edge.uplink.uplink import sender_of
from dat_runtime.errors import ConfigError, DatError, printable
from dat_runtime.files import read_bytes

SECONDS = 3.0
"""For a server to accept a connection."""

PATIENCE = 6.0
"""For a server's name to be found as well. Where no name server answers the system takes half a
minute to say so for each name, and the unit, which checks first, would not start in its 90 s."""

Verdict = Literal["ok", "note", "WRONG"]
"""A note is nothing that keeps the node from starting: a server may come later."""


@dataclass(frozen=True)
class Finding:
    """What was looked at, and what was found, in words."""

    verdict: Verdict
    about: str
    words: str


def check(path: Path) -> int:
    """Print what the settings lead to and what is wrong with them; 1 where anything is.

    Raises:
        ConfigError: the file cannot be read.
    """
    settings, problems = examine_node(path)
    findings = [Finding("WRONG", "settings", problem) for problem in problems]
    if settings is not None:
        findings += examine(settings)
    for finding in findings:
        print(printable(f"{finding.verdict:<6}{finding.about}: {finding.words}"))
    wrong = sum(finding.verdict == "WRONG" for finding in findings)
    print(f"{path}: {f'{wrong} to mend' if wrong else 'the node can start'}")
    return 1 if wrong else 0


def examine(settings: NodeSettings) -> Iterator[Finding]:
    """What can be seen of each part from outside."""
    yield _tried("bundle", lambda: _bundle(settings))
    for camera in settings.cameras:
        yield _tried(f"camera {camera.name}", lambda: _camera(camera))  # noqa: B023 (asked at once)
    for uplink in settings.uplinks:
        yield _tried("uplink", lambda: _uplink(uplink, settings.node))  # noqa: B023
        yield _reachable("uplink", uplink.url)
    yield _tried("spool", lambda: _spool(settings.spool))
    if settings.metrics is not None:
        yield _tried("metrics", _metrics)
    if settings.updates is not None:
        yield _tried("updates", lambda: _updates(settings))
        yield _reachable("updates", settings.updates.url)
    mllm, offload = settings.mllm, settings.offload
    if offload is not None:
        yield _tried("offload", lambda: _offload(offload))
        yield from _unlike_bundle(settings, offload)
        yield from _metered(settings.uplinks)
        return
    if mllm is None:
        yield Finding("note", "mllm", "none: every alert is made from the gate alone")
        return
    yield _tried("mllm", lambda: _mllm(mllm))
    if mllm.url is not None:
        yield _reachable("mllm", mllm.url)


def _tried(about: str, look: Callable[[], str | Finding]) -> Finding:
    try:
        found = look()
        return found if isinstance(found, Finding) else Finding("ok", about, found)
    except (DatError, OSError) as error:
        return Finding("WRONG", about, str(error))


def _current(settings: NodeSettings) -> tuple[Path, str | None]:
    """The folder of the bundle that the node would run, and its version where one is installed."""
    versions = Versions(settings.bundle)
    current = versions.state().current
    return (settings.bundle if current is None else versions.folder_of(current)), current


def _bundle(settings: NodeSettings) -> Finding:
    folder, current = _current(settings)
    bundle = open_bundle(folder)
    demand_family(bundle, settings)
    gate = bundle.detector.settings
    words = f"{' and '.join(gate.names)} at {gate.imgsz} px, adapter for {bundle.adapter.base}"
    if current is not None:
        words += f"; installed as {current}"
    if bundle.not_fit is None:
        return Finding("ok", "bundle", words)
    return Finding("note", "bundle", f"{words}. NOT FIT FOR USE: {bundle.not_fit}")


def _updates(settings: NodeSettings) -> str:
    updates = settings.updates
    assert updates is not None
    if importlib.util.find_spec("tuf") is None:
        raise ConfigError("they need packages: pip install 'dat-runtime[updates]'")
    base_of(updates.url)
    read_bytes(updates.root, ConfigError, missing="it came with the repository's first keys")
    folder = Versions(settings.bundle).folder
    place = folder if folder.is_dir() else settings.bundle.parent
    if not os.access(place, os.W_OK | os.X_OK):
        raise ConfigError("this user cannot write there, where versions are kept", place)
    return f"tried on {len(canary_frames(settings))} canary frames, kept in {folder}"


def _camera(camera: CameraSettings) -> str:
    kind = camera.kind
    if kind != "stream" and not Path(camera.source).exists():
        raise ConfigError("there is no such file, folder or device", camera.source)
    if kind != "folder" and importlib.util.find_spec("av") is None:
        raise ConfigError("video needs a package: pip install 'dat-runtime[video]'")
    return f"{kind}, {camera.fps:g} frames a second at most"


def _uplink(uplink: UplinkSettings, node: str) -> str:
    parts = urlsplit(uplink.url)
    sender_of(uplink, node)  # reads the token and the certificates, as the node will
    words = f"{parts.scheme}://{parts.hostname}"
    if uplink.token_file is not None:
        if uplink.token_file.stat().st_mode & 0o077:
            raise ConfigError("others may read the token: chmod 600", uplink.token_file)
        words += ", with a token"
    return words + (", alerts only (metered)" if uplink.metered else "")


def _reachable(about: str, url: str) -> Finding:
    """Whether anything listens there now; a note where not."""
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443, "mqtt": 1883, "mqtts": 8883}[parts.scheme]
    place = f"{parts.hostname}:{port}"
    answers: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def connect() -> None:
        try:
            with socket.create_connection((parts.hostname or "", port), SECONDS):
                answers.put(None)
        except (OSError, UnicodeError) as error:
            answers.put(str(error))

    # Nobody waits for it at the end: a look-up cannot be broken off.
    threading.Thread(target=connect, name="look-up", daemon=True).start()
    problem: str | None
    try:
        problem = answers.get(timeout=PATIENCE)
    except queue.Empty:
        problem = f"no answer in {PATIENCE:g} s"
    if problem is None:
        return Finding("ok", about, f"{place} accepts connections")
    return Finding("note", about, f"{place} does not accept connections now ({problem})")


def _spool(spool: SpoolSettings) -> str:
    if spool.path.is_dir():
        raise ConfigError("is a folder: name a file in it, such as spool.sqlite", spool.path)
    folder = spool.path.parent
    while not folder.exists():  # it is made at the first start
        folder = folder.parent
    if not folder.is_dir():
        raise ConfigError("is no folder", folder)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigError("this user cannot write there", folder)
    # What an earlier run left counts as free: it is written over.
    beside = [spool.path.with_name(spool.path.name + end) for end in ("", "-wal", ".reserve")]
    there = sum(file.stat().st_size for file in beside if file.exists())
    free = shutil.disk_usage(folder).free + there
    if free < spool.max_bytes:
        raise ConfigError(f"max_bytes is {spool.max_bytes:,}, the disk has {free:,} free", folder)
    return f"up to {spool.max_bytes:,} bytes in {spool.path.parent}"


def _metrics() -> str:
    if importlib.util.find_spec("prometheus_client") is None:
        raise ConfigError("they need a package: pip install 'dat-runtime[node]', or leave them out")
    return "served while the node runs"


def _offload(offload: OffloadSettings) -> str:
    codec = open_codec(offload.codec)
    rows = usable_rows(offload.table, codec)
    encoder = Encoder(offload.codec, codec, patience(rows), Counts())
    try:
        encoder.start()  # loads every graph, in a process of its own
    finally:
        encoder.stop()
    sizes = ", ".join(f"{size.width} x {size.height}" for size in codec.encoders)
    stated = codec.description.fields
    return (
        f"codec {codec.description.id} for {stated['base']}, pictures of {sizes}; "
        f"{len(rows)} ways to answer"
    )


def _unlike_bundle(settings: NodeSettings, offload: OffloadSettings) -> Iterator[Finding]:
    """A note where the codec belongs to another base or adapter than the bundle.

    Its codes are answered by the model of the codec, which a newer bundle may have replaced.
    """
    try:
        stated = read_description(offload.codec).fields
        bundle = manifest.read(_current(settings)[0], BUNDLE)
    except (DatError, OSError):
        return  # said already
    of_bundle = {
        "base": f"{bundle.config.get('base')}@{bundle.config.get('revision')}",
        "adapter": bundle.inputs.get("adapter"),
    }
    of_codec = {"base": f"{stated['base']}@{stated['revision']}", "adapter": stated["adapter"]}
    for name, value in of_codec.items():
        if value != of_bundle[name]:
            yield Finding(
                "note",
                "offload",
                f"the codec is for {name} {value}, the bundle has {of_bundle[name]}: codes are "
                "answered by the codec's; train a codec for the bundle's (train.offload)",
            )


def _metered(uplinks: Sequence[UplinkSettings]) -> Iterator[Finding]:
    """A note where questions wait, and in the end expire."""
    metered = sum(uplink.metered for uplink in uplinks)
    if metered:
        words = (
            f"{metered} of {len(uplinks)} ways metered: no question goes there, and one that waits "
            "ten minutes is dropped"
        )
        yield Finding("note", "offload", words)


def _mllm(mllm: MllmSettings) -> str:
    assessor(mllm, mllm.model)
    if mllm.recorded is not None:
        return f"one recorded answer, {mllm.recorded}"
    return f"{mllm.model}, {mllm.concurrency} at a time, {mllm.timeout:g} s"
