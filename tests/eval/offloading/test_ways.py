"""Ways in which a picture comes: their bytes, and what is seen at the other end."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import pytest

from dat_runtime.draw import encode_png
from dat_runtime.prompt import task_prompt
from dat_runtime.types import Box, Detection, Size
from eval.answers.asks import Ask
from eval.offloading import ways

CAMERA, SEEN = Size(400, 300), Size(112, 84)
BOX = Box(100, 80, 220, 200, CAMERA)


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    """A grey frame with an accident, asked about at the model's size."""
    seen = np.full((SEEN.height, SEEN.width, 3), 90, np.uint8)
    (tmp_path / "seen.png").write_bytes(encode_png(seen))
    raw = np.full((CAMERA.height, CAMERA.width, 3), 90, np.uint8)
    (tmp_path / "raw.png").write_bytes(encode_png(raw))
    prompt = task_prompt(SEEN, [Detection(BOX, "severe", 0.9)])
    return Ask("a", tmp_path / "seen.png", "system", prompt, SEEN, CAMERA)


def seen_by(way: ways.Way, ask: Ask, folder: Path) -> np.ndarray:
    (asked,) = way.asks([ask], folder)
    assert asked == replace(ask, image=asked.image)
    picture = cv2.imread(str(asked.image))
    assert picture is not None
    return picture


def test_a_jpeg_counts_its_bytes_and_its_damage_is_seen(ask: Ask, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (84, 112, 1), dtype=np.uint8).repeat(3, 2)
    ask.image.write_bytes(encode_png(noise))
    errors = []
    for quality in (5, 90):
        way = ways.model_picture("jpeg", quality)
        seen = seen_by(way, ask, tmp_path)
        encoded = cv2.imencode(".jpg", noise, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        assert way.sizes == [len(encoded)]
        errors.append(np.abs(seen.astype(int) - noise).mean())
    assert errors[0] > 2 * errors[1] > 0


def test_a_picture_at_the_cameras_size_is_boxed_there_and_made_smaller(
    ask: Ask, tmp_path: Path
) -> None:
    way = ways.frame_picture("png", None, {"a": tmp_path / "raw.png"})
    seen = seen_by(way, ask, tmp_path)
    assert seen.shape == (84, 112, 3)
    red = (seen[..., 2] > 150) & (seen[..., 0] < 80)
    rows, columns = red.nonzero()
    x1, y1, x2, y2 = BOX.to(SEEN).pixels()
    edges = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    np.testing.assert_allclose(edges, [x1, y1, x2, y2], atol=1)
    assert not red[y1 + 4 : y2 - 4, x1 + 4 : x2 - 4].any()


@pytest.mark.parametrize("kind", ["jpeg", "webp"])
def test_quality_decides_the_bytes_of_a_cameras_picture(
    kind: Literal["jpeg", "webp"], ask: Ask, tmp_path: Path
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    (tmp_path / "raw.png").write_bytes(encode_png(noise))
    sizes = []
    for quality in (5, 50, 95):
        way = ways.frame_picture(kind, quality, {"a": tmp_path / "raw.png"})
        assert (way.name, way.kind) == (f"{kind} q{quality}, camera's size", kind)
        assert way.quality == quality
        seen_by(way, ask, tmp_path)
        sizes += way.sizes
    assert 0 < 2 * sizes[0] < sizes[1] < 0.8 * sizes[2]
    lossless = ways.frame_picture("png", None, {})
    assert (lossless.name, lossless.quality) == ("png, camera's size", None)


def test_ways_are_named_by_what_is_sent() -> None:
    model = ways.model_picture("webp", 30)
    assert (model.name, model.kind, model.quality) == ("webp q30, model's size", "webp", 30)
    grey = ways.nothing()
    assert (grey.name, grey.kind) == ("boxes alone, grey picture", "boxes")


def test_a_picture_that_cannot_be_sent_is_named_by_its_shape() -> None:
    with pytest.raises(ValueError, match=r"shape \(1, 20000, 3\) cannot be sent as webp"):
        ways.through_codec(np.zeros((1, 20_000, 3), np.uint8), "webp", 5)


def test_without_a_picture_there_are_no_bytes(ask: Ask, tmp_path: Path) -> None:
    way = ways.nothing()
    assert len(np.unique(seen_by(way, ask, tmp_path))) == 1
    assert way.sizes == [0]
