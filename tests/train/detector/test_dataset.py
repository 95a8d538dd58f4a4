from pathlib import Path

import pytest

from dat_runtime.errors import DataError
from tests.train.detector.tiny_gate import write_data
from train.detector import dataset


def test_boxes_are_counted_per_image_and_a_missing_label_file_is_refused(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", frames=4)
    assert dataset.count_boxes(data)["val"] == {"0": 0, "1": 1, "2": 1, "3": 1}
    (data / "labels" / "val" / "2.txt").unlink()
    with pytest.raises(DataError, match=r"val/2\.jpg: has no label file"):
        dataset.count_boxes(data)
