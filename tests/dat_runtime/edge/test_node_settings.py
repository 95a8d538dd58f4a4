"""node.yaml: what is right is read, and all that is wrong is named at once."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from dat_runtime.edge.node_settings import MAX_BYTES, read_node
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
    ],
)
def test_what_is_wrong_is_named(
    path: tuple[Any, ...], value: object, named: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=named):
        read_node(written(tmp_path, changed(path, value)))


def test_all_that_is_wrong_is_named_at_once(tmp_path: Path) -> None:
    document = changed(("node",), 7)
    document["cameras"] *= 2
    document["spool"] = {}
    with pytest.raises(ConfigError, match="3 to mend") as caught:
        read_node(written(tmp_path, document))
    text = str(caught.value)
    assert "node is 7" in text
    assert "the name north is taken" in text
    assert "spool: path is missing" in text


@pytest.mark.parametrize("text", ["", "- 1", "node: [", "!!python/object:os.system {}", "a: 1\n\t"])
def test_what_is_no_node_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"node\.yaml"):
        read_node(written(tmp_path, text))


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="larger than"):
        read_node(written(tmp_path, "#" * (MAX_BYTES + 1)))
