"""The one reader of predictions. What eval.score says about faulty files: test_score.py."""

import json
from pathlib import Path
from typing import Any

import pytest

from dat_runtime.errors import DataError
from dat_runtime.truth import Frame
from dat_runtime.types import Size
from eval.understanding.records import read_predictions, read_texts


def written(folder: Path, *records: Any) -> Path:
    path = folder / "predictions.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    return path


def answered(image_id: str, text: str) -> dict[str, Any]:
    return {"image_id": image_id, "text": text, "latency_s": 0.1}


def test_texts_come_with_their_lines_in_the_order_of_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, answered("b", "second"), answered("a", "first"))
    assert list(read_texts(path)) == [(1, "b", "second"), (2, "a", "first")]


def test_predictions_are_put_in_the_order_of_the_frames(tmp_path: Path) -> None:
    frames = [Frame(image_id, "", Size(10, 10), ()) for image_id in ("a", "missing", "b")]
    path = written(tmp_path, answered("b", "second"), answered("a", ""))
    assert read_predictions(path, frames) == ["", None, "second"]


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (answered("a", "again"), "a second prediction for image 'a'"),
        ({"image_id": "b", "text": 3}, "needs image_id and text, both strings"),
        ({"text": "who?"}, "needs image_id and text, both strings"),
        ([], "is not a JSON object"),
    ],
)
def test_a_faulty_line_is_named_where_it_is_read(tmp_path: Path, record: Any, reason: str) -> None:
    texts = read_texts(written(tmp_path, answered("a", "{}"), record))
    assert next(texts) == (1, "a", "{}")
    with pytest.raises(DataError, match=f"predictions.jsonl:2: {reason}"):
        next(texts)
