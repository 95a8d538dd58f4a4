from pathlib import Path

import pytest
import yaml

from dat_runtime.errors import ConfigError, DataError, ManifestError
from dat_runtime.stage import Stage
from tests.train.detector.tiny_gate import write_data
from train.detector import dataset


def test_boxes_are_counted_per_image_and_a_missing_label_file_is_refused(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", frames=4)
    assert dataset.count_boxes(data)["val"] == {"0": 0, "1": 1, "2": 1, "3": 1}
    (data / "labels" / "val" / "2.txt").unlink()
    with pytest.raises(DataError, match=r"val/2\.jpg: has no label file"):
        dataset.count_boxes(data)


def test_what_is_no_set_is_named_by_its_folder(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", frames=2)
    for image in (data / "images" / "test").iterdir():
        image.unlink()
    with pytest.raises(DataError) as refused:
        dataset.count_boxes(data)
    told = f"{data / 'images' / 'test'}: holds no image of the split 'test'"
    assert str(refused.value) == told


@pytest.mark.parametrize(("single", "one_class"), [(False, False), (False, True), (True, True)])
def test_a_gate_is_trained_on_labels_of_its_classes_or_more(
    tmp_path: Path, single: bool, one_class: bool
) -> None:
    with Stage(tmp_path / "data", kind="data", inputs={}, config={"single_class": single}):
        pass
    dataset.demand_classes(tmp_path / "data", {"single_cls": one_class})


def test_severity_is_not_learnt_from_labels_without_it(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with Stage(data, kind="data", inputs={}, config={"single_class": True}):
        pass
    with pytest.raises(ConfigError) as refused:
        dataset.demand_classes(data, {})
    assert str(refused.value) == (
        f"{data} has labels of a single class, a two-class gate needs moderate and severe: build "
        "it without --single-class, or train a one-class gate (single_cls=true)"
    )
    with Stage(tmp_path / "other", kind="gate", inputs={}, config={}):
        pass
    with pytest.raises(ManifestError):
        dataset.demand_classes(tmp_path / "other", {})


def test_the_frames_that_are_named_are_linked_in_a_tree_of_its_own(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", frames=3)
    images = {"train": {"0": 0, "2": 1}, "val": {"1": 1}, "test": {}}
    work = tmp_path / "a" / "work"
    (work / "left").mkdir(parents=True)
    path = dataset.link_data(data, work, images)
    assert path == work / "data.yaml"
    assert yaml.safe_load(path.read_text()) == {
        "path": str(work),
        "names": {0: "moderate", 1: "severe"},
        "train": "images/train",
        "val": "images/val",
        "test": "images/test",
    }
    links = {file.relative_to(work).as_posix() for file in work.rglob("*") if file.is_symlink()}
    assert links == {
        *("images/train/0.jpg", "images/train/2.jpg", "labels/train/0.txt", "labels/train/2.txt"),
        *("images/val/1.jpg", "labels/val/1.txt"),
    }
    assert (work / "labels" / "val" / "1.txt").resolve() == data / "labels" / "val" / "1.txt"
    assert (work / "images" / "test").is_dir()
    assert not (work / "left").exists()
