"""The parts of a row are put together, and refused where they make no whole."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dat_runtime import manifest
from dat_runtime.errors import ConfigError, DataError, ManifestError
from dat_runtime.files import read_json_lines, write_json_lines
from eval.answers import shards, usage

PARTS = [Path("p1"), Path("p2"), Path("p3")]


@pytest.mark.parametrize(("text", "shard"), [("2/4", (2, 4)), ("1/1", (1, 1)), ("4/4", (4, 4))])
def test_a_shard_is_a_part_of_parts(text: str, shard: tuple[int, int]) -> None:
    assert shards.parse_shard(text) == shard


@pytest.mark.parametrize(
    "text", ["", "1", "/4", "1/", "a/4", "1/a", "\u0661/4", "1/\u0664", "1/2/4"]
)
def test_another_form_is_refused(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        shards.parse_shard(text)
    assert str(caught.value) == f"--shard {text!r}: expected PART/PARTS, such as 1/4"


@pytest.mark.parametrize("text", ["0/4", "5/4"])
def test_a_part_beyond_the_parts_is_refused(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        shards.parse_shard(text)
    assert str(caught.value) == f"--shard {text!r}: the part is not between 1 and 4"


@pytest.fixture
def stated(monkeypatch: pytest.MonkeyPatch) -> dict[Path, Any]:
    """What the manifests of three parts state, by folder."""

    def verify(part: Path, kind: str) -> Any:
        assert kind == "predictions"
        return found[part]

    found = {
        part: SimpleNamespace(
            config={"shard": (number, 3), "inputs": "full"},
            inputs={"instructions": "digest of asks"},
            code="c0de",
        )
        for number, part in enumerate(PARTS, 1)
    }
    monkeypatch.setattr(manifest, "verify", verify)
    monkeypatch.setattr(manifest, "digest", lambda path: f"digest of {path}")
    return found


def refused(parts: list[Path]) -> str:
    with pytest.raises(ManifestError) as caught:
        shards.whole_recipe(parts, Path("asks"))
    return str(caught.value)


def test_all_parts_in_any_order_are_a_whole(stated: dict[Path, Any]) -> None:
    whole = shards.whole_recipe(PARTS[::-1], Path("asks"))
    assert whole == {"inputs": "full", "shards": 3}
    assert stated[PARTS[0]].config["shard"] == (1, 3)  # what was stated is left as it is
    del stated[PARTS[0]].config["shard"]
    assert shards.whole_recipe(PARTS[:1], Path("asks")) == {"inputs": "full", "shards": 1}


def test_parts_that_make_no_whole_are_refused(stated: dict[Path, Any]) -> None:
    assert refused([]) == "no parts"
    assert refused(PARTS[1:2]) == "parts 1, 3 of 3 are missing"
    assert refused([PARTS[0], PARTS[0]]) == "p1: part 1 of 3 is there twice"
    for name, other in [("code", "other"), ("config", {"shard": (2, 4), "inputs": "full"})]:
        was = getattr(stated[PARTS[1]], name)
        setattr(stated[PARTS[1]], name, other)
        assert refused(PARTS) == (
            "p2 was not made as p1 was: ask again with the same options and code"
        )
        setattr(stated[PARTS[1]], name, was)
    stated[PARTS[1]].inputs = {"instructions": "digest of others"}
    assert refused(PARTS) == "p2 answers other instructions than asks"


def part(folder: Path, answered: list[str], missing: list[str]) -> Path:
    """A part in which those frames were answered, and those not."""
    folder.mkdir()
    write_json_lines(folder / "predictions.jsonl", [{"image_id": name} for name in answered])
    reasons = dict.fromkeys(missing, "gone")
    usage.write(folder, usage.Usage(len(answered), reasons, 10, 1, 0, None, None, {}))
    return folder


def test_a_row_of_parts_is_in_the_order_of_its_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_asks(*given: Any) -> list[Any]:
        assert given == (Path("asks"), "full", "val")
        return [SimpleNamespace(id=name) for name in names]

    names = ["b", "c", "a"]
    monkeypatch.setattr(shards, "read_asks", read_asks)
    parts = [part(tmp_path / "1", ["a"], ["c"]), part(tmp_path / "2", ["b"], [])]
    config = {"inputs": "full", "part": "val"}
    shards.merge(parts, Path("asks"), config, tmp_path)
    rows = [row for _, row in read_json_lines(tmp_path / "predictions.jsonl")]
    assert rows == [{"image_id": "b"}, {"image_id": "a"}]
    assert usage.read(tmp_path) == usage.Usage(2, {"c": "gone"}, 20, 2, 0, None, None, {})
    names += ["z", "x"]
    with pytest.raises(DataError) as caught:
        shards.merge(parts, Path("asks"), config, tmp_path)
    assert str(caught.value) == "2 frames were not asked about, such as 'x'"
