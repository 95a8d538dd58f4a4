"""COCO JSON through the whole build."""

import json
import re
import shutil

import pytest

from tests.data.prep.importers.building import MAPPED, SPLITS, faults_of, run, truth_of
from tests.data.prep.source_builder import jpeg, picture


def coco(annotations, names=("accidents", "minor", "fatal"), images=2):
    return {
        "images": [
            {"id": i, "file_name": f"f{i}.jpg", "width": 64, "height": 48} for i in range(images)
        ],
        "annotations": [{"id": n, **a} for n, a in enumerate(annotations)],
        "categories": [{"id": i, "name": name} for i, name in enumerate(names)],
    }


ONE = {"image_id": 0, "category_id": 1, "bbox": [16, 12, 32, 24]}


@pytest.fixture
def roboflow(tmp_path):
    """A Roboflow COCO export of two frames a split; the first has a box."""
    root = tmp_path / "set"
    for number, split in enumerate(SPLITS):
        (root / split).mkdir(parents=True)
        for i in range(2):
            (root / split / f"f{i}.jpg").write_bytes(jpeg(picture(10 * number + i)))
        (root / split / "_annotations.coco.json").write_text(json.dumps(coco([ONE])))
    return root


def rewrite(root, content, split="train"):
    (root / split / "_annotations.coco.json").write_text(json.dumps(content))


def test_a_coco_export_gives_boxes_and_accident_free_frames(roboflow, tmp_path):
    assert run(roboflow, tmp_path / "data", *MAPPED, "--strict") == 0
    truth = truth_of(tmp_path / "data", "train")
    assert truth["f0"]["accidents"] == [{"bbox": [16, 12, 48, 36], "severity": "moderate"}]
    assert truth["f1"]["accidents"] == []
    assert not (tmp_path / "data/bandwidth.csv").exists()


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_no_fault(roboflow, tmp_path, encoding):
    for split in SPLITS:
        path = roboflow / split / "_annotations.coco.json"
        path.write_text(path.read_text(), encoding=encoding)
    assert run(roboflow, tmp_path / "data", *MAPPED, "--strict") == 0


def test_an_unknown_class_lists_what_is_there(roboflow, tmp_path, capsys):
    assert run(roboflow, tmp_path / "data", "--classes", "fatal=severe") == 1
    message = capsys.readouterr().err
    assert "unknown class 'minor'" in message
    assert "--classes 'minor'=severe" in message
    assert "['minor']" in message  # `accidents` is named by no annotation


def test_a_frame_of_ignored_boxes_only_is_no_accident_free_frame(roboflow, tmp_path):
    assert run(roboflow, tmp_path / "data", "--classes", "minor=ignore", "--strict") == 0
    assert set(truth_of(tmp_path / "data", "train")) == {"f1"}
    assert faults_of(tmp_path / "data") == {"ignored-class": 3, "only-ignored": 3}


def test_a_class_that_means_no_accident_leaves_an_accident_free_frame(roboflow, tmp_path):
    assert run(roboflow, tmp_path / "data", "--classes", "minor=none", "--strict") == 0
    assert truth_of(tmp_path / "data", "val")["f0-2"]["accidents"] == []
    assert faults_of(tmp_path / "data") == {"none-class": 3}


def test_coco_faults_are_counted_by_kind(roboflow, tmp_path):
    polygon = {"image_id": 0, "category_id": 2, "segmentation": [[1, 1, 30, 1, 30, 20]]}
    outside = {"image_id": 1, "category_id": 2, "bbox": [50, 10, 20, 10]}
    tiny = {"image_id": 1, "category_id": 2, "bbox": [5, 5, 0, 0]}
    lost = {"image_id": 7, "category_id": 2, "bbox": [5, 5, 9, 9]}
    content = coco([ONE, ONE, polygon, outside, tiny, lost], images=3)
    rewrite(roboflow, content)
    (roboflow / "train" / "more.jpg").write_bytes(jpeg(picture(60)))
    assert run(roboflow, tmp_path / "data", *MAPPED) == 0
    assert faults_of(tmp_path / "data") == {
        "polygon-row": 1,
        "outside-frame": 1,
        "near-zero-box": 1,
        "duplicate-row": 1,
        "orphan-image": 1,
        "orphan-label": 2,
    }


def test_a_picture_of_another_size_than_its_labels_say_is_left_out(roboflow, tmp_path):
    (roboflow / "train" / "f0.jpg").write_bytes(jpeg(picture(1, 128, 96)))
    assert run(roboflow, tmp_path / "data", *MAPPED) == 0
    assert faults_of(tmp_path / "data") == {"size-mismatch": 1}
    assert set(truth_of(tmp_path / "data", "train")) == {"f1"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1, 2", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "expected a list `images`"),
        ({**coco([]), "images": [{"id": 0}]}, r"images\[0\] has no usable `file_name`"),
        (
            coco([{"image_id": 0, "category_id": 1, "bbox": [1, 2, float("nan"), 3]}]),
            "not-a-number",
        ),
        (
            coco([{"image_id": 0, "category_id": 1, "bbox": [1, 2, 10**400, 3]}]),
            "not-a-number",
        ),
        (coco([{"image_id": 0, "category_id": 9, "bbox": [1, 2, 3, 3]}]), "unknown-class"),
        (coco([{"image_id": 0, "category_id": 1, "bbox": [1, 2]}]), "malformed-row"),
        (coco([{"image_id": 0, "category_id": 1, "bbox": [1, 2, -3, 3]}]), "malformed-row"),
    ],
)
def test_coco_that_cannot_be_read_is_refused_by_name(roboflow, tmp_path, capsys, content, message):
    text = content if isinstance(content, str) else json.dumps(content)
    (roboflow / "train" / "_annotations.coco.json").write_text(text)
    assert run(roboflow, tmp_path / "data", *MAPPED) == 1
    err = capsys.readouterr().err
    assert "train/_annotations.coco.json" in err
    assert re.search(message, err)


def test_a_file_name_may_not_lead_out_of_the_set(roboflow, tmp_path):
    (tmp_path / "secret.jpg").write_bytes(jpeg(picture(5)))
    content = coco([ONE])
    content["images"][0]["file_name"] = "../../secret.jpg"
    rewrite(roboflow, content)
    assert run(roboflow, tmp_path / "data", *MAPPED) == 0
    assert faults_of(tmp_path / "data") == {"orphan-label": 1, "orphan-image": 1}


def test_one_annotation_file_without_splits_needs_the_leak_free_split(tmp_path, capsys):
    root = tmp_path / "mine"
    (root / "images").mkdir(parents=True)
    for i in range(30):
        (root / "images" / f"f{i}.jpg").write_bytes(jpeg(picture(i)))
    boxes = [{**ONE, "image_id": i, "category_id": 1 + i % 2} for i in range(30)]
    (root / "annotations.json").write_text(json.dumps(coco(boxes, images=30)))
    assert run(root, tmp_path / "data", *MAPPED) == 1
    assert "--leak-free" in capsys.readouterr().err
    assert run(root, tmp_path / "data", *MAPPED, "--leak-free") == 0
    report = json.loads((tmp_path / "data/report.json").read_text())
    assert [s["frames"] for s in report["splits"].values()] == [22, 4, 4]
    assert report["split"] == "leak-free"


def test_a_set_with_one_split_only_is_refused_until_it_is_split_anew(roboflow, tmp_path, capsys):
    for i in range(2, 20):
        (roboflow / "train" / f"f{i}.jpg").write_bytes(jpeg(picture(50 + i)))
    boxes = [{**ONE, "image_id": i} for i in range(20)]
    rewrite(roboflow, coco(boxes, images=20))
    for split in ("valid", "test"):
        shutil.rmtree(roboflow / split)
    assert run(roboflow, tmp_path / "data", *MAPPED) == 1
    assert "no usable frame in the split val and test of" in capsys.readouterr().err
    assert run(roboflow, tmp_path / "data", *MAPPED, "--leak-free") == 0
