"""node.yaml: what is right is read, and all that is wrong is named at once."""

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from dat_runtime.edge.cameras.settings import CameraSettings
from dat_runtime.edge.node_file import MAX_BYTES, examine_node, read_node
from dat_runtime.edge.node_settings import (
    MllmSettings,
    NodeSettings,
    OffloadSettings,
    SpoolSettings,
    UpdateSettings,
)
from dat_runtime.edge.uplink.settings import UplinkSettings
from dat_runtime.errors import ConfigError

ROOT = Path(__file__).resolve().parents[3]
SMALLEST: dict[str, Any] = {
    "node": "n1",
    "bundle": "bundle",
    "cameras": [{"name": "north", "source": "frames"}],
    "uplink": {"url": "http://127.0.0.1:8080"},
    "spool": {"path": "spool.sqlite"},
}


def written(folder: Path, value: object) -> Path:
    path = folder / "node.yaml"
    path.write_text(value if isinstance(value, str) else yaml.safe_dump(value))
    return path


def changed(path: tuple[Any, ...], value: object) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(yaml.safe_dump(SMALLEST))
    place: Any = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return document


def test_the_example_is_read_whole() -> None:
    settings = read_node(ROOT / "configs" / "field" / "node.yaml")
    assert [camera.name for camera in settings.cameras] == ["north", "south"]
    assert settings.mllm is not None
    assert settings.mllm.model == "dat"
    assert settings.metrics == ("127.0.0.1", 9108)
    assert settings.uplinks[0].initial_bytes_per_s == 100_000


def test_paths_count_from_the_files_own_folder(tmp_path: Path) -> None:
    document = changed(("uplink", "token_file"), "secrets/token")
    document["cameras"].append({"name": "south", "source": "rtsp://10.0.0.5/1"})
    settings = read_node(written(tmp_path, document))
    assert settings.bundle == tmp_path / "bundle"
    assert settings.uplinks[0].token_file == tmp_path / "secrets" / "token"
    assert settings.spool.path == tmp_path / "spool.sqlite"
    sources = [camera.source for camera in settings.cameras]
    assert sources == [str(tmp_path / "frames"), "rtsp://10.0.0.5/1"]


def test_uplinks_stand_in_order_of_preference(tmp_path: Path) -> None:
    uplinks = [{"url": "https://a.example"}, {"url": "mqtts://b.example", "metered": True}]
    settings = read_node(written(tmp_path, changed(("uplink",), uplinks)))
    ways = [(uplink.url, uplink.metered) for uplink in settings.uplinks]
    assert ways == [("https://a.example", False), ("mqtts://b.example", True)]


def test_json_is_read_too(tmp_path: Path) -> None:
    import json

    assert read_node(written(tmp_path, json.dumps(SMALLEST))).node == "n1"


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        (("node",), "a/b", "node is 'a/b'"),
        (("cameras",), [], "cameras"),
        (("cameras", 0, "fps"), 0, "cameras\\[0\\]: fps"),
        (("cameras", 0, "name"), "../x", "cameras\\[0\\]: name"),
        (("cameras", 0, "frames"), 1, "unknown key 'frames'"),
        (("uplink", "url"), "ftp://x", "uplink: url"),
        (("uplink", "url"), "http://", "uplink: url"),
        (("uplink", "url"), "http://x:99999", "uplink: url"),
        (("uplink",), [], "uplink"),
        (("spool", "max_bytes"), 5, "max_bytes is 5, expected a whole number from [0-9,]{7,}$"),
        (("spool", "max_bytes"), 10_000_000, "at most half of max_bytes"),
        (("mllm",), {"url": "http://127.0.0.1:8000/v1"}, "url and model are missing"),
        (("mllm",), {"recorded": "a", "model": "b"}, "recorded excludes"),
        (("mllm",), {"url": "http://x", "model": "m", "concurrency": 0}, "concurrency"),
        (("metrics",), {"listen": "9108"}, "host:port"),
        (("updates",), {"url": "http://x"}, "root is missing"),
        (("updates",), {"url": "file:///x", "root": "r"}, "updates: url"),
        (("updates",), {"url": "http://x", "root": "r", "probation_minutes": -1}, "probation"),
        (("updates",), {"url": "http://x", "root": "r", "bundle": "a/b"}, "updates: bundle"),
        (("mllm",), {"url": "http://x", "model": "m", "restart": "reboot"}, "restart is 'reboot'"),
        (("mllm",), {"recorded": "a", "restart": ["x"]}, "recorded excludes restart"),
        (("offload",), {"codec": "c", "table": "t"}, "one of max_latency and min_accuracy"),
        (
            ("offload",),
            {"codec": "c", "table": "t", "max_latency": 1, "min_accuracy": 0.5},
            "one of max_latency and min_accuracy",
        ),
        (("offload",), {"table": "t", "max_latency": 0}, "offload: codec is missing"),
        (("offload",), {"codec": "c", "table": "t", "max_latency": 0}, "offload: max_latency is 0"),
        (("metrics",), {"listen": "127.0.0.1:" + "9" * 5000}, "host:port"),
        (("metrics",), {"listen": "::1:9108"}, "host:port"),
        (("spool", "path"), "a\0b", "spool: path"),
        (("spool", "path"), "~nobody-of-this-name/s", "no such user"),
        (("bundle",), "a\nb", "bundle is"),
        (("uplink", "url"), "http://x/\n", "uplink: url"),
        (("uplink", "url"), "http://" + "ü" * 70, "uplink: url"),
        (("mllm",), {"url": "http://x", "model": "m" * 201}, "at most 200"),
    ],
)
def test_what_is_wrong_is_named(
    path: tuple[Any, ...], value: object, named: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=named):
        read_node(written(tmp_path, changed(path, value)))


def test_a_node_asks_or_has_it_finished_and_not_both(tmp_path: Path) -> None:
    document = changed(("offload",), {"codec": "c", "table": "/t", "min_accuracy": 0.5})
    settings = read_node(written(tmp_path, document))
    assert settings.offload == OffloadSettings(tmp_path / "c", Path("/t"), min_accuracy=0.5)
    document["mllm"] = {"recorded": "answer.json"}
    with pytest.raises(ConfigError, match="mllm and offload exclude each other"):
        read_node(written(tmp_path, document))


def test_all_that_is_wrong_is_named_at_once(tmp_path: Path) -> None:
    document = changed(("node",), 7)
    document["cameras"] *= 2
    document["spool"] = {}
    del document["uplink"]
    with pytest.raises(ConfigError, match="4 to mend") as caught:
        read_node(written(tmp_path, document))
    text = str(caught.value)
    assert "uplink is missing" in text
    assert "node is 7" in text
    assert "the name north is taken" in text
    assert "spool: path is missing" in text


@pytest.mark.parametrize("text", ["", "- 1", "node: [", "!!python/object:os.system {}", "a: 1\n\t"])
def test_what_is_no_node_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"node\.yaml"):
        read_node(written(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("node: a\nspool: {}\nnode: b\n", r"node\.yaml:3: .*the key node stands twice"),
        ('{"node": 1,\n "node": 2}', r"node\.yaml:2: .*the key node stands twice"),
        ("cameras:\n  - {name: a, name: b}\n", r"node\.yaml:2: .*the key name stands twice"),
        ("node: a\n\tb: c\n", r"node\.yaml:2: is not YAML \([^\n]*\)$"),
        ("? [a]\n: b\n", r"node\.yaml:1: is not YAML \(found unhashable key\)$"),
        ("a: \0", r"is not YAML \([^\n]*\)$"),
    ],
)
def test_what_is_no_yaml_is_told_in_one_line_with_its_number(
    text: str, named: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=named):
        read_node(written(tmp_path, text))


@pytest.mark.parametrize(
    ("listen", "address"),
    [("[::1]:9108", ("::1", 9108)), ("localhost:0", ("localhost", 0))],
)
def test_metrics_listen_on_a_name_or_an_address(
    listen: str, address: tuple[str, int], tmp_path: Path
) -> None:
    settings = read_node(written(tmp_path, changed(("metrics",), {"listen": listen})))
    assert settings.metrics == address


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="larger than"):
        read_node(written(tmp_path, "#" * (MAX_BYTES + 1)))


WHOLE: dict[str, Any] = {
    "node": "n1",
    "bundle": "~/bundle",
    "cameras": [
        {"name": "a", "source": "frames", "fps": 7.5, "loop": True},
        {"name": "b", "source": "/dev/video0"},
    ],
    "mllm": {
        "url": "http://m/v1",
        "model": "dat",
        "concurrency": 3,
        "timeout": 7,
        "key_file": "key",
        "restart": ["run", "it"],
    },
    "uplink": [
        {
            "url": "https://a.example",
            "token_file": "token",
            "initial_bytes_per_s": 5,
            "metered": True,
            "certificate": "c.pem",
            "authorities": "/a.pem",
        },
        {"url": "mqtts://b.example"},
    ],
    "spool": {"path": "s.sqlite", "max_bytes": 5_000_001, "alert_reserve_bytes": 2_500_000},
    "metrics": {"listen": "[::1]:9108"},
    "updates": {
        "url": "http://u",
        "root": "root.json",
        "bundle": "x",
        "canary": "canary",
        "bytes_per_s": 9,
        "probation_minutes": 1,
        "probation_frames": 2,
    },
}


def test_every_key_finds_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/n")
    assert read_node(written(tmp_path, WHOLE)) == NodeSettings(
        "n1",
        Path("/home/n/bundle"),
        (
            CameraSettings("a", str(tmp_path / "frames"), 7.5, True),
            CameraSettings("b", "/dev/video0", 5.0, False),
        ),
        (
            UplinkSettings(
                "https://a.example",
                tmp_path / "token",
                5,
                True,
                tmp_path / "c.pem",
                Path("/a.pem"),
            ),
            UplinkSettings("mqtts://b.example", None, 100_000.0),
        ),
        SpoolSettings(tmp_path / "s.sqlite", 5_000_001, 2_500_000),
        MllmSettings("http://m/v1", "dat", 3, 7, None, tmp_path / "key", ("run", "it")),
        None,
        ("::1", 9108),
        UpdateSettings("http://u", tmp_path / "root.json", "x", tmp_path / "canary", 9, 1, 2),
    )


def test_a_recorded_answer_has_its_path(tmp_path: Path) -> None:
    settings = read_node(written(tmp_path, changed(("mllm",), {"recorded": "a.json"})))
    assert settings.mllm == MllmSettings(recorded=tmp_path / "a.json")
    assert settings.metrics is None
    assert settings.updates is None
    assert settings.offload is None


def problems(tmp_path: Path, document: object) -> list[str]:
    settings, found = examine_node(written(tmp_path, document))
    assert (settings is None) == bool(found)
    return found


@pytest.mark.parametrize(
    ("path", "value", "found"),
    [
        (("mllm",), {}, "mllm: url and model are missing, or recorded"),
        (("mllm",), {"model": "m"}, "mllm: url and model are missing, or recorded"),
        (
            ("mllm",),
            {"recorded": "a", "url": "http://x"},
            "mllm: recorded excludes url and model",
        ),
        (("mllm",), {"recorded": "a", "restart": ["x"]}, "mllm: recorded excludes restart"),
        (
            ("offload",),
            {"codec": "c", "table": "t"},
            "offload: expected one of max_latency and min_accuracy",
        ),
        (
            ("spool",),
            {"path": "s", "max_bytes": 5_000_001, "alert_reserve_bytes": 2_500_001},
            "spool: alert_reserve_bytes is 2,500,001, expected at most half of max_bytes "
            "(5,000,001)",
        ),
        (("metrics",), {}, "metrics: listen is missing"),
        (("updates",), {"root": "r"}, "updates: url is missing"),
        (("spool",), {}, "spool: path is missing"),
        (("uplink",), [{"url": "http://a"}, {}], "uplink[1]: url is missing"),
        (("uplink",), {"metered": True}, "uplink: url is missing"),
        (("cameras", 0), {"name": "a"}, "cameras[0]: source is missing"),
        (
            ("cameras", 0),
            {"name": "a", "source": "ftp://u:p@h"},
            "cameras[0]: no source begins with ftp: (known: rtsp://, rtsps://, http://, https://)",
        ),
        (
            ("spool", "path"),
            "~nobody-of-this-name/s",
            "~nobody-of-this-name/s: there is no such user, or no home of theirs",
        ),
    ],
)
def test_what_is_wrong_is_told_word_for_word(
    tmp_path: Path, path: tuple[Any, ...], value: object, found: str
) -> None:
    assert problems(tmp_path, changed(path, value)) == [found]


def test_more_than_one_thing_may_be_wrong(tmp_path: Path) -> None:
    document = changed(("cameras",), [{"name": "a", "source": "x"}] * 2)
    document["mllm"] = {"recorded": "a"}
    document["offload"] = {"codec": "c", "table": "t", "max_latency": 1}
    assert problems(tmp_path, document) == [
        "cameras[1]: the name a is taken by another camera",
        "mllm and offload exclude each other: a node asks, or has finished",
    ]
    with pytest.raises(ConfigError) as caught:
        read_node(tmp_path / "node.yaml")
    assert str(caught.value) == (
        f"{tmp_path / 'node.yaml'}: 2 to mend:\n"
        "  cameras[1]: the name a is taken by another camera\n"
        "  mllm and offload exclude each other: a node asks, or has finished"
    )
    assert len(problems(tmp_path, [])) == 1


def test_what_cannot_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"node\.yaml: .*name the node's settings"):
        read_node(tmp_path / "node.yaml")
    path = written(tmp_path, "a: \x01")
    with pytest.raises(ConfigError) as caught:
        read_node(path)
    assert str(caught.value).startswith(f"{path}: is not YAML (unacceptable character")
    assert "\n" not in str(caught.value)
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(ConfigError) as caught:
        read_node(path)
    assert str(caught.value).startswith(f"{path}: is not JSON (")
    assert str(caught.value).endswith("YAML needs a package: pip install 'dat-runtime[node]'")
