"""Which way an answer takes, by the bytes that wait and what the link carried."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dat_runtime.edge.node_settings import OffloadSettings
from dat_runtime.edge.offloading import node_codec
from dat_runtime.edge.offloading.controller import ALERT_BYTES, Controller, usable_rows
from dat_runtime.edge.offloading.node_codec import open_codec
from dat_runtime.edge.uplink.settings import UplinkState
from dat_runtime.errors import ConfigError, ModelError
from dat_runtime.files import write_json
from dat_runtime.offload_table import Row, Table
from dat_runtime.types import Size
from tests.dat_runtime.edge.offloading.small_codec import MEAN, STD, write_codec

EDGE = Row("gate", "edge", 0, 0.2)
JPEG = Row("jpeg", "jpeg", 1_500, 0.6, quality=50)
WEBP = Row("webp", "webp", 900, 0.5, quality=5)
CODE = Row("code", "code", 60, 0.8, offload_point=1, channels=2)
LINK = UplinkState("http://x", True, 1_000.0, None, 0, 0, None)


def controller(**settings: Any) -> tuple[Controller, dict[str, Any]]:
    """A controller of these rows, and what it sees: the link's state and what waits."""
    seen = {"state": LINK, "ahead": 0}
    offload = OffloadSettings(Path("c"), Path("t"), **settings)
    rows = (EDGE, JPEG, WEBP, CODE)
    return Controller(rows, offload, 500.0, lambda: seen["state"], lambda: seen["ahead"]), seen


def test_an_alert_goes_before_and_what_waits_before_that() -> None:
    # 960 bytes in 2 s take 480 bytes/s, with all else as fast as can be.
    made, seen = controller(max_latency=2.0)
    assert ALERT_BYTES == 900
    assert made.choose() == CODE
    seen["ahead"] = 40
    assert made.choose() == CODE
    seen["ahead"] = 41
    assert made.choose() == EDGE


def test_without_codes_and_in_a_codes_place_the_best_picture_goes() -> None:
    made, seen = controller(max_latency=4.8)  # 2,400 bytes at 500 bytes/s
    assert made.choose() == CODE
    assert made.choose(with_codes=False) == JPEG
    assert made.choose_picture() == JPEG
    seen["ahead"] = 1
    assert made.choose(with_codes=False) == WEBP
    assert made.choose_picture() == WEBP


def test_of_those_that_are_accurate_enough_the_quickest_goes() -> None:
    made, _ = controller(min_accuracy=0.45)
    assert made.choose() == CODE
    assert made.choose(with_codes=False) == WEBP
    made, _ = controller(min_accuracy=0.55)
    assert made.choose_picture() == JPEG


@pytest.mark.parametrize(
    ("state", "bandwidth"),
    [
        ({}, "1000"),
        ({"metered": True}, "0"),
        ({"connected": False, "problem": "away"}, "0"),
        ({"connected": False}, "500"),  # nothing was tried yet
        ({"problem": "late"}, "1000"),
    ],
)
def test_what_is_counted_on_is_what_questions_may_use_of_the_link(
    state: dict[str, Any], bandwidth: str
) -> None:
    made, seen = controller(max_latency=2.0)
    assert made.bandwidth == 500
    seen["state"] = replace(LINK, **state)
    for _ in range(100):
        made.look()
    assert made.bandwidth == pytest.approx(float(bandwidth))


def test_a_table_of_this_codec_gives_its_rows(tmp_path: Path) -> None:
    codec = open_codec(write_codec(tmp_path / "codec", b"graph"))
    path = tmp_path / "table.json"

    def written(*rows: Row, of: str = codec.description.id) -> Path:
        write_json(path, Table("count_em", "nothing", rows, of).as_json())
        return path

    rows = (EDGE, WEBP, CODE, replace(CODE, name="wide", channels=8))
    assert usable_rows(written(*rows), codec) == rows
    with pytest.raises(ConfigError) as caught:
        usable_rows(written(*rows, of="0" * 16), codec)
    mine = codec.description.id
    words = f"is of codec {'0' * 16}, the node has {mine}: make it with this codec"
    assert str(caught.value) == f"{path}: {words}"
    with pytest.raises(ConfigError) as caught:
        usable_rows(written(EDGE, WEBP, replace(CODE, channels=3)), codec)
    assert str(caught.value) == f"{path}: row code has 3 channels, the codec 2, 8"


def test_an_opened_codec_names_its_graphs_by_the_pictures_that_they_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_codec(tmp_path / "codec", b"graph", grids=[[4, 6]], images=[[84, 56]])
    codec = open_codec(folder)
    assert codec.encoders == {Size(84, 56): folder / "encoder-4x6.onnx"}
    assert codec.bytes == 5
    mean, std = codec.colours
    assert (mean.dtype, std.dtype) == (np.float32, np.float32)
    assert np.array_equal(mean, np.array(MEAN, np.float32))
    assert np.array_equal(std, np.array(STD, np.float32))
    monkeypatch.setattr(node_codec, "MAX_ENCODER_BYTES", 5)
    assert open_codec(folder).bytes == 5
    monkeypatch.setattr(node_codec, "MAX_ENCODER_BYTES", 4)
    with pytest.raises(ModelError) as caught:
        open_codec(folder)
    file = folder / "encoder-4x6.onnx"
    assert str(caught.value) == f"{file}: has 5 bytes, at most 4 are opened"


def test_the_bytes_of_all_graphs_are_summed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grids = [[4, 4], [4, 6]]
    folder = write_codec(tmp_path / "codec", b"graph", grids=grids, images=[[56, 56], [84, 56]])
    with pytest.raises(ModelError) as caught:
        open_codec(folder)
    file = folder / "encoder-4x6.onnx"
    assert str(caught.value) == f"{file}: is missing: codec.json states its grid"
    file.write_bytes(b"other graph")
    asked: list[tuple[Path, str]] = []
    monkeypatch.setattr(node_codec.manifest, "verify", lambda *about: asked.append(about))
    codec = open_codec(folder)
    assert (len(codec.encoders), codec.bytes) == (2, 16)
    assert asked == [(folder, "codec")]


@pytest.mark.parametrize(("prompt", "patch"), [(7, 14), (None, 16)])
def test_a_codec_of_another_release_is_named(
    tmp_path: Path, prompt: int | None, patch: int
) -> None:
    from dat_runtime.prompt import PROMPT_VERSION

    changes: dict[str, Any] = {"patch": patch} | ({} if prompt is None else {"prompt": prompt})
    folder = write_codec(tmp_path / "codec", b"graph", **changes)
    with pytest.raises((ConfigError, ModelError)) as caught:
        open_codec(folder)
    if prompt is not None:
        assert str(caught.value) == (
            f"{folder}: was trained with prompt 7 and patches of 14 pixels, "
            f"this release has {PROMPT_VERSION} and 14: train a codec for it"
        )
