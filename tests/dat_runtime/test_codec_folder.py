"""codec.json: its identity, and what is no codec's description."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from dat_runtime.codec_folder import FILE, WEIGHTS, codec_id, encoder_file, read_description
from dat_runtime.errors import ModelError

STATED: dict[str, Any] = {
    "version": 1,
    "base": "tiny",
    "revision": "0" * 40,
    "adapter": None,
    "prompt": 3,
    "block": 2,
    "channels": [2, 8],
    "spatial": True,
    "features": 96,
    "width": 8,
    "grids": [[4, 6], [2, 3]],
    "images": [[84, 56], [42, 28]],
    "patch": 14,
    "mean": [0.5, 0.5, 0.25],
    "std": [0.25, 0.25, 0.5],
}


def write(folder: Path, **changes: Any) -> Path:
    """A codec's folder with the identity that its fields and weights have."""
    (folder / WEIGHTS).write_bytes(b"weights")
    fields = STATED | changes
    fields = {"id": codec_id(fields, folder / WEIGHTS)} | fields
    (folder / FILE).write_text(json.dumps(fields))
    return folder


def test_a_description_says_what_its_file_states(tmp_path: Path) -> None:
    codec = read_description(write(tmp_path))
    assert codec.fields == STATED | {"id": codec.id}
    assert (codec.block, codec.channels, codec.spatial) == (2, (2, 8), True)
    assert codec.grids == [(4, 6), (2, 3)]
    assert encoder_file(codec.grids[0]) == "encoder-4x6.onnx"


def test_an_identity_is_of_the_fields_in_any_order_and_of_the_weights(tmp_path: Path) -> None:
    weights = tmp_path / WEIGHTS
    weights.write_bytes(b"weights")
    sha = hashlib.sha256(b"weights").hexdigest()
    content = f'[{{"a": 1, "b": null}}, "{sha}"]'
    expected = hashlib.sha256(content.encode()).hexdigest()[:16]
    assert codec_id({"b": None, "id": "any", "a": 1}, weights) == expected
    weights.write_bytes(b"weight")
    assert codec_id({"a": 1, "b": None}, weights) != expected


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("version", 2),
        ("id", "0" * 15),
        ("revision", "main"),
        ("adapter", "0" * 63),
        ("prompt", -1),
        ("block", 1025),
        ("channels", [8, 2]),
        ("channels", [2, 2]),
        ("channels", []),
        ("channels", [0]),
        ("spatial", 1),
        ("features", 0),
        ("width", 7),
        ("grids", [[4, 1]]),
        ("grids", [[4, 6, 8]]),
        ("grids", []),
        ("images", [[84, 0]]),
        ("patch", 0),
        ("mean", [0.5, 0.5]),
        ("std", [0.25, 0.25, 0]),
    ],
)
def test_a_field_that_no_codec_has_is_named(tmp_path: Path, field: str, value: object) -> None:
    with pytest.raises(ModelError, match=rf"/codec\.json: {field}\b"):
        read_description(write(tmp_path, **{field: value}))


def test_the_largest_and_smallest_that_a_codec_may_have(tmp_path: Path) -> None:
    for changes in (
        {"block": 0, "channels": [1], "features": 1, "patch": 1, "adapter": "a" * 64},
        {"block": 1024, "channels": [1, 65_535], "features": 65_536, "width": 16_384},
    ):
        assert read_description(write(tmp_path, **changes)).fields.items() >= changes.items()


def test_a_description_of_other_fields_or_weights_is_refused(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / WEIGHTS).write_bytes(b"others")
    words = rf"^{tmp_path}/codec\.json: its id is not that of these fields and weights$"
    with pytest.raises(ModelError, match=words):
        read_description(tmp_path)
    write(tmp_path, id="0123456789abcdef")
    with pytest.raises(ModelError, match=words):
        read_description(tmp_path)


def test_a_description_that_is_missing_or_names_a_field_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"/codec\.json: .*: train\.offload makes it$"):
        read_description(tmp_path)
    path = write(tmp_path) / FILE
    path.write_text('{"block": 1, ' + path.read_text()[1:])
    with pytest.raises(ModelError, match=r"/codec\.json: .*duplicate key"):
        read_description(tmp_path)
