"""What a check says of each part, word for word; the parts themselves are made up."""

import importlib.util
import os
import shutil
import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dat_runtime.edge import checkup as module
from dat_runtime.edge.cameras.settings import CameraSettings
from dat_runtime.edge.checkup import Finding, check, examine
from dat_runtime.edge.counts import Counts
from dat_runtime.edge.node_settings import (
    MllmSettings,
    NodeSettings,
    OffloadSettings,
    SpoolSettings,
    UpdateSettings,
)
from dat_runtime.edge.uplink.settings import UplinkSettings
from dat_runtime.errors import ConfigError, ManifestError
from dat_runtime.types import Size

HERE = UplinkSettings("http://a.example", None, 1e5)


def settings(tmp_path: Path, **parts: Any) -> NodeSettings:
    cameras = tuple(CameraSettings(name, str(tmp_path), 5) for name in ("north", "south"))
    spool = SpoolSettings(tmp_path / "s.sqlite", 5_000_000, 100_000)
    return replace(NodeSettings("n1", tmp_path / "bundle", cameras, (HERE,), spool), **parts)


def missing(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    """These packages are not installed, all others are."""
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in packages else name
    )


def error_of(work: Callable[[], Any]) -> str:
    with pytest.raises((ConfigError, OSError)) as caught:
        work()
    return str(caught.value)


@pytest.mark.parametrize(
    ("findings", "problems", "code", "end"),
    [
        ([Finding("ok", "spool", "up to\x1b[2J 5 bytes")], [], 0, "the node can start"),
        ([Finding("note", "mllm", "none")], [], 0, "the node can start"),
        ([Finding("WRONG", "spool", "is a folder"), Finding("ok", "a", "b")], [], 1, "1 to mend"),
        (None, ["node is missing", "spool is missing"], 1, "2 to mend"),
        ([], ["mllm: recorded excludes url"], 1, "1 to mend"),
    ],
)
def test_each_finding_is_a_line_and_the_last_says_how_many_are_to_mend(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    findings: list[Finding] | None,
    problems: list[str],
    code: int,
    end: str,
) -> None:
    path = Path("node.yaml")
    read = None if findings is None else "settings"
    monkeypatch.setattr(module, "examine_node", {path: (read, problems)}.__getitem__)
    monkeypatch.setattr(module, "examine", {"settings": findings}.__getitem__)
    assert check(path) == code
    words = [f"WRONG settings: {problem}" for problem in problems]
    for finding in findings or ():
        shown = finding.words.replace("\x1b", "\\x1b")
        words.append(f"{finding.verdict}{' ' * (6 - len(finding.verdict))}{finding.about}: {shown}")
    assert capsys.readouterr().out.splitlines() == [*words, f"node.yaml: {end}"]


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is looked at, in order; all of it is well."""
    calls: list[Any] = []

    def look(name: str) -> Callable[..., str]:
        def found(*about: Any) -> str:
            calls.append((name, *about))
            return f"{name} is well"

        return found

    for name in ("_bundle", "_camera", "_uplink", "_spool", "_metrics", "_updates", "_offload",
                 "_mllm"):  # fmt: skip
        monkeypatch.setattr(module, name, look(name))
    monkeypatch.setattr(
        module, "_reachable", lambda about, url: Finding("ok", about, f"{url} is there")
    )
    monkeypatch.setattr(module, "_unlike_bundle", lambda *about: [calls.append(about)])
    monkeypatch.setattr(module, "_metered", lambda uplinks: [f"of {len(uplinks)}"])
    return calls


def test_each_part_is_looked_at_in_the_order_of_the_file(tmp_path: Path, looked: list[Any]) -> None:
    mllm = MllmSettings("http://m.example/v1", "dat")
    updates = UpdateSettings("http://u.example", tmp_path / "root.json")
    all_of = settings(tmp_path, mllm=mllm, updates=updates, metrics=("127.0.0.1", 0))
    found = [(finding.verdict, finding.about, finding.words) for finding in examine(all_of)]
    assert found == [
        ("ok", "bundle", "_bundle is well"),
        ("ok", "camera north", "_camera is well"),
        ("ok", "camera south", "_camera is well"),
        ("ok", "uplink", "_uplink is well"),
        ("ok", "uplink", "http://a.example is there"),
        ("ok", "spool", "_spool is well"),
        ("ok", "metrics", "_metrics is well"),
        ("ok", "updates", "_updates is well"),
        ("ok", "updates", "http://u.example is there"),
        ("ok", "mllm", "_mllm is well"),
        ("ok", "mllm", "http://m.example/v1 is there"),
    ]
    assert looked == [
        ("_bundle", all_of),
        ("_camera", all_of.cameras[0]),
        ("_camera", all_of.cameras[1]),
        ("_uplink", HERE, "n1"),
        ("_spool", all_of.spool),
        ("_metrics",),
        ("_updates", all_of),
        ("_mllm", mllm),
    ]


def test_a_node_without_an_mllm_or_with_one_elsewhere(tmp_path: Path, looked: list[Any]) -> None:
    alone = list(examine(settings(tmp_path)))
    assert alone[-1] == Finding("note", "mllm", "none: every alert is made from the gate alone")
    recorded = settings(tmp_path, mllm=MllmSettings(recorded=tmp_path / "a.json"))
    assert [one.about for one in examine(recorded)][-2:] == ["spool", "mllm"]
    offload = OffloadSettings(tmp_path, tmp_path / "t.json")
    weak = settings(tmp_path, offload=offload)
    looked.clear()
    found = list(examine(weak))
    assert found[-3:] == [Finding("ok", "offload", "_offload is well"), None, "of 1"]
    assert looked[-2:] == [("_offload", offload), (weak, offload)]


@pytest.mark.parametrize("error", [ConfigError("is none"), OSError("is none")])
def test_what_cannot_be_used_is_wrong_and_the_rest_is_looked_at(
    tmp_path: Path, looked: list[Any], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(spool: SpoolSettings) -> str:
        raise error

    monkeypatch.setattr(module, "_spool", fail)
    found = list(examine(settings(tmp_path)))
    assert found[-2] == Finding("WRONG", "spool", "is none")
    assert found[-1].about == "mllm"


class Versions:
    """In the place of those of a bundle."""

    current: str | None = None

    def __init__(self, bundle: Path):
        self.folder = bundle.with_name("bundle.versions")

    def state(self) -> Any:
        return SimpleNamespace(current=self.current)

    def folder_of(self, version: str) -> Path:
        return self.folder / version


@pytest.fixture
def versions(monkeypatch: pytest.MonkeyPatch) -> type[Versions]:
    class Own(Versions):
        """Of this test."""

    monkeypatch.setattr(module, "Versions", Own)
    return Own


@pytest.mark.parametrize(
    ("current", "not_fit", "verdict", "words"),
    [
        (None, None, "ok", ""),
        ("a" * 16, None, "ok", f"; installed as {'a' * 16}"),
        (None, "never trained", "note", ". NOT FIT FOR USE: never trained"),
    ],
)
def test_a_bundle_is_told_by_its_gate_and_its_adapter(
    tmp_path: Path,
    versions: type[Versions],
    monkeypatch: pytest.MonkeyPatch,
    current: str | None,
    not_fit: str | None,
    verdict: str,
    words: str,
) -> None:
    versions.current = current
    bundle = SimpleNamespace(
        detector=SimpleNamespace(settings=SimpleNamespace(names=("moderate", "severe"), imgsz=640)),
        adapter=SimpleNamespace(base="Qwen/X"),
        not_fit=not_fit,
    )
    of = settings(tmp_path)
    opened: list[Any] = []
    monkeypatch.setattr(module, "open_bundle", lambda folder: opened.append(folder) or bundle)
    monkeypatch.setattr(module, "demand_family", lambda *about: opened.append(about))
    told = f"moderate and severe at 640 px, adapter for Qwen/X{words}"
    assert module._bundle(of) == Finding(verdict, "bundle", told)  # type: ignore[arg-type]
    folder = tmp_path / "bundle" if current is None else tmp_path / "bundle.versions" / current
    assert opened == [folder, (bundle, of)]


def test_updates_say_where_they_are_kept_and_what_keeps_them_from_it(
    tmp_path: Path, versions: type[Versions], monkeypatch: pytest.MonkeyPatch
) -> None:
    updates = UpdateSettings("http://u.example", tmp_path / "root.json")
    of = settings(tmp_path, updates=updates)
    missing(monkeypatch, "tuf")
    packages = "they need packages: pip install 'dat-runtime[updates]'"
    assert error_of(lambda: module._updates(of)) == packages
    missing(monkeypatch)
    words = error_of(lambda: module._updates(of))
    why = "it came with the repository's first keys"
    assert words == f"{tmp_path / 'root.json'}: is missing: {why}"
    (tmp_path / "root.json").write_text("{}")
    asked: list[Any] = []
    may = [False]
    monkeypatch.setattr(module, "base_of", lambda url: asked.append(url))
    monkeypatch.setattr(module.os, "access", lambda *about: asked.append(about) or may[0])
    monkeypatch.setattr(module, "canary_frames", {of: "abc"}.get)
    folder = tmp_path / "bundle.versions"
    place = "this user cannot write there, where versions are kept"
    assert error_of(lambda: module._updates(of)) == f"{tmp_path}: {place}"
    folder.mkdir()
    assert error_of(lambda: module._updates(of)) == f"{folder}: {place}"
    writes = os.W_OK | os.X_OK
    assert asked == ["http://u.example", (tmp_path, writes), "http://u.example", (folder, writes)]
    may[0] = True
    assert module._updates(of) == f"tried on 3 canary frames, kept in {folder}"


def test_a_camera_is_told_by_its_kind_and_its_rate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "road.mp4").touch()
    folder, file = CameraSettings("a", str(tmp_path), 2.5), tmp_path / "road.mp4"
    missing(monkeypatch, "av")
    assert module._camera(folder) == "folder, 2.5 frames a second at most"
    package = "video needs a package: pip install 'dat-runtime[video]'"
    for source in (str(file), "rtsp://h/1"):
        assert error_of(lambda s=source: module._camera(CameraSettings("a", s, 5))) == package  # type: ignore[misc]
    missing(monkeypatch)
    assert module._camera(CameraSettings("a", str(file), 5)) == "file, 5 frames a second at most"
    stream = CameraSettings("a", "rtsp://h/1", 5)
    assert module._camera(stream) == "stream, 5 frames a second at most"
    none = tmp_path / "none.mp4"
    words = f"{none}: there is no such file, folder or device"
    assert error_of(lambda: module._camera(CameraSettings("a", str(none), 5))) == words


def test_an_uplink_is_told_without_its_path_and_a_token_is_the_nodes_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(module, "sender_of", lambda *about: asked.append(about))
    assert module._uplink(HERE, "n1") == "http://a.example"
    assert asked == [(HERE, "n1")]
    metered = UplinkSettings("mqtts://b.example:8883/x", None, 1e5, metered=True)
    assert module._uplink(metered, "n1") == "mqtts://b.example, alerts only (metered)"
    token = tmp_path / "token"
    token.touch()
    with_token = replace(metered, token_file=token)
    for mode, may in ((0o600, True), (0o700, True), (0o640, False), (0o604, False), (0o601, False)):
        token.chmod(mode)
        if may:
            told = "mqtts://b.example, with a token, alerts only (metered)"
            assert module._uplink(with_token, "n1") == told
        else:
            words = f"{token}: others may read the token: chmod 600"
            assert error_of(lambda: module._uplink(with_token, "n1")) == words


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("http://h", ("h", 80)),
        ("https://h/x", ("h", 443)),
        ("mqtt://h", ("h", 1883)),
        ("mqtts://h", ("h", 8883)),
        ("https://h:9", ("h", 9)),
    ],
)
def test_whether_anything_listens_is_a_note_where_not(
    monkeypatch: pytest.MonkeyPatch, url: str, place: tuple[str, int]
) -> None:
    asked: list[Any] = []
    closed: list[int] = []

    class Line:
        def __enter__(self) -> "Line":
            return self

        def __exit__(self, *_: object) -> None:
            closed.append(1)

    def connect(address: tuple[str, int], seconds: float) -> Line:
        asked.append((address, seconds))
        if len(asked) > 1:
            raise OSError("refused")
        return Line()

    monkeypatch.setattr(socket, "create_connection", connect)
    name = f"{place[0]}:{place[1]}"
    assert module._reachable("uplink", url) == Finding(
        "ok", "uplink", f"{name} accepts connections"
    )
    assert closed == [1]
    words = f"{name} does not accept connections now (refused)"
    assert module._reachable("mllm", url) == Finding("note", "mllm", words)
    assert asked == [(place, 3.0)] * 2


def test_a_name_server_that_is_silent_does_not_hold_up_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    end, daemons = threading.Event(), []

    def connect(address: tuple[str, int], seconds: float) -> None:
        daemons.append(threading.current_thread().daemon)
        end.wait(20)
        raise OSError("Temporary failure in name resolution")

    monkeypatch.setattr(socket, "create_connection", connect)
    monkeypatch.setattr(module, "PATIENCE", 0.05)
    words = "h:443 does not accept connections now (no answer in 0.05 s)"
    assert module._reachable("uplink", "https://h") == Finding("note", "uplink", words)
    end.set()
    assert daemons == [True]  # the process may end meanwhile


def test_a_name_that_cannot_be_one_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(address: tuple[str, int], seconds: float) -> None:
        raise UnicodeError("label empty or too long")

    monkeypatch.setattr(socket, "create_connection", connect)
    words = "h:443 does not accept connections now (label empty or too long)"
    assert module._reachable("uplink", "https://h") == Finding("note", "uplink", words)


def test_a_spool_is_told_with_its_size_and_what_it_would_lack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a" / "b" / "s.sqlite"
    spool = SpoolSettings(path, 5_000_000, 100_000)
    free, may = [5_000_000], [True]
    asked: list[Any] = []

    def usage(folder: Path) -> Any:
        asked.append(folder)
        return SimpleNamespace(free=free[0])

    def access(folder: Path, how: int) -> bool:
        asked.append((folder, how))
        return may[0]

    monkeypatch.setattr(shutil, "disk_usage", usage)
    monkeypatch.setattr(module.os, "access", access)
    told = f"up to 5,000,000 bytes in {tmp_path / 'a' / 'b'}"
    assert module._spool(spool) == told
    assert asked == [(tmp_path, os.W_OK | os.X_OK), tmp_path]
    may[0] = False
    assert error_of(lambda: module._spool(spool)) == f"{tmp_path}: this user cannot write there"
    may[0], free[0] = True, 4_999_999
    words = f"{tmp_path}: max_bytes is 5,000,000, the disk has 4,999,999 free"
    assert error_of(lambda: module._spool(spool)) == words
    # What an earlier run left is written over.
    path.parent.mkdir(parents=True)
    free[0] = 4_999_994
    for number, end in enumerate(("", "-wal", ".reserve", "-shm")):
        path.with_name(path.name + end).write_bytes(b"x" * (number + 1))
    assert module._spool(spool) == told
    free[0] -= 1
    assert "has 4,999,999 free" in error_of(lambda: module._spool(spool))


def test_a_spool_that_is_a_folder_or_lies_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    words = f"{tmp_path}: is a folder: name a file in it, such as spool.sqlite"
    assert error_of(lambda: module._spool(SpoolSettings(tmp_path))) == words
    inside = SpoolSettings(tmp_path / "file" / "s.sqlite")
    assert error_of(lambda: module._spool(inside)) == f"{tmp_path / 'file'}: is no folder"


def test_metrics_need_their_package(monkeypatch: pytest.MonkeyPatch) -> None:
    missing(monkeypatch)
    assert module._metrics() == "served while the node runs"
    missing(monkeypatch, "prometheus_client")
    words = "they need a package: pip install 'dat-runtime[node]', or leave them out"
    assert error_of(module._metrics) == words


@pytest.mark.parametrize("fails", [False, True])
def test_a_weak_nodes_codec_is_told_once_its_graphs_were_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    steps: list[Any] = []
    codec = SimpleNamespace(
        encoders={Size(56, 28): "a", Size(84, 56): "b"},
        description=SimpleNamespace(id="0123", fields={"base": "tiny"}),
    )

    class Encoder:
        def __init__(self, *about: Any):
            steps.append(about[:3])
            assert isinstance(about[3], Counts)

        def start(self) -> None:
            steps.append("start")
            if fails:
                raise ConfigError("no graph")

        def stop(self) -> None:
            steps.append("stop")

    monkeypatch.setattr(module, "open_codec", {tmp_path: codec}.__getitem__)
    monkeypatch.setattr(module, "usable_rows", lambda table, of: [table, of is codec, 3])
    monkeypatch.setattr(module, "patience", lambda rows: 5.0 + len(rows))
    monkeypatch.setattr(module, "Encoder", Encoder)
    offload = OffloadSettings(tmp_path, tmp_path / "t.json")
    if fails:
        assert error_of(lambda: module._offload(offload)) == "no graph"
    else:
        told = "codec 0123 for tiny, pictures of 56 x 28, 84 x 56; 3 ways to answer"
        assert module._offload(offload) == told
    assert steps == [(tmp_path, codec, 8.0), "start", "stop"]


@pytest.mark.parametrize(
    ("stated", "names"),
    [
        ({}, []),
        ({"base": "other"}, ["base other@r1, the bundle has b@r1"]),
        ({"revision": "r2"}, ["base b@r2, the bundle has b@r1"]),
        ({"adapter": "a2"}, ["adapter a2, the bundle has a1"]),
        (
            {"base": "other", "adapter": None},
            ["base other@r1, the bundle has b@r1", "adapter None, the bundle has a1"],
        ),
    ],
)
def test_a_codec_of_another_model_than_the_bundle_is_a_note(
    tmp_path: Path,
    versions: type[Versions],
    monkeypatch: pytest.MonkeyPatch,
    stated: dict[str, Any],
    names: list[str],
) -> None:
    versions.current = "v1"
    fields = {"base": "b", "revision": "r1", "adapter": "a1"} | stated
    bundle = SimpleNamespace(config={"base": "b", "revision": "r1"}, inputs={"adapter": "a1"})
    of, offload = settings(tmp_path), OffloadSettings(tmp_path / "c", tmp_path)
    described = {tmp_path / "c": SimpleNamespace(fields=fields)}
    monkeypatch.setattr(module, "read_description", described.__getitem__)
    manifests = {(tmp_path / "bundle.versions" / "v1", "bundle"): bundle}
    monkeypatch.setattr(module.manifest, "read", lambda *about: manifests[about])
    end = "codes are answered by the codec's; train a codec for the bundle's (train.offload)"
    found = list(module._unlike_bundle(of, offload))
    assert found == [Finding("note", "offload", f"the codec is for {one}: {end}") for one in names]


@pytest.mark.parametrize("error", [ManifestError("is none"), OSError("is none")])
def test_a_bundle_that_cannot_be_read_is_not_told_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(folder: Path) -> None:
        raise error

    monkeypatch.setattr(module, "read_description", fail)
    offload = OffloadSettings(tmp_path, tmp_path)
    assert list(module._unlike_bundle(settings(tmp_path), offload)) == []


def test_metered_ways_are_a_note_where_questions_wait() -> None:
    metered = replace(HERE, metered=True)
    assert list(module._metered((HERE, HERE))) == []
    words = "2 of 3 ways metered: no question goes there, and one that waits ten minutes is dropped"
    assert list(module._metered((metered, HERE, metered))) == [Finding("note", "offload", words)]


def test_an_mllm_is_told_by_how_it_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(module, "assessor", lambda *about: asked.append(about))
    mllm = MllmSettings("http://m/v1", "dat", 3, 17.5)
    assert module._mllm(mllm) == "dat, 3 at a time, 17.5 s"
    recorded = MllmSettings(recorded=tmp_path / "a.json")
    assert module._mllm(recorded) == f"one recorded answer, {tmp_path / 'a.json'}"
    assert asked == [(mllm, "dat"), (recorded, None)]
