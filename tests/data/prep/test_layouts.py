"""COCO JSON, Pascal VOC, class mapping and archives, through the whole build."""

import json
import re
import shutil
import zipfile

import pytest

from dat_runtime.errors import ConfigError, DataError
from data.prep.build import main
from data.prep.importers.classes import Classes
from tests.data.prep.source_builder import jpeg, picture

SPLITS = {"train": "train", "valid": "val", "test": "test"}


def truth_of(out, split):
    lines = (out / f"truth_{split}.jsonl").read_text().splitlines()
    return {t["image_id"]: t for t in map(json.loads, lines)}


def faults_of(out):
    return json.loads((out / "report.json").read_text())["faults"]["counts"]


def run(root, out, *options):
    alone = ["--without", "negatives", "trace"]
    return main(["--source", str(root), "--out", str(out), *alone, *options])


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


MAPPED = ("--classes", "minor=moderate", "fatal=severe")


def test_a_coco_export_gives_boxes_and_accident_free_frames(roboflow, tmp_path):
    assert run(roboflow, tmp_path / "data", *MAPPED, "--strict") == 0
    truth = truth_of(tmp_path / "data", "train")
    assert truth["f0"]["accidents"] == [{"bbox": [16, 12, 48, 36], "severity": "moderate"}]
    assert truth["f1"]["accidents"] == []
    assert not (tmp_path / "data/bandwidth.csv").exists()


def test_an_unknown_class_lists_what_is_there(roboflow, tmp_path, capsys):
    assert run(roboflow, tmp_path / "data", "--classes", "fatal=severe") == 1
    told = capsys.readouterr().err
    assert "unknown class 'minor'" in told
    assert "--classes 'minor'=severe" in told
    assert "['minor']" in told  # `accidents` is named by no annotation


def test_an_ignored_class_leaves_a_frame_without_accident(roboflow, tmp_path):
    assert run(roboflow, tmp_path / "data", "--classes", "minor=ignore", "--strict") == 0
    assert truth_of(tmp_path / "data", "val")["f0-2"]["accidents"] == []
    assert faults_of(tmp_path / "data") == {"ignored-class": 3}


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
    ("content", "told"),
    [
        ("[1, 2", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "expected a list `images`"),
        ({**coco([]), "images": [{"id": 0}]}, r"images\[0\] has no usable `file_name`"),
        (
            coco([{"image_id": 0, "category_id": 1, "bbox": [1, 2, float("nan"), 3]}]),
            "not-a-number",
        ),
        (coco([{"image_id": 0, "category_id": 9, "bbox": [1, 2, 3, 3]}]), "unknown-class"),
        (coco([{"image_id": 0, "category_id": 1, "bbox": [1, 2]}]), "malformed-row"),
        (coco([{"image_id": 0, "category_id": 1, "bbox": [1, 2, -3, 3]}]), "malformed-row"),
    ],
)
def test_coco_that_cannot_be_read_is_refused_by_name(roboflow, tmp_path, capsys, content, told):
    text = content if isinstance(content, str) else json.dumps(content)
    (roboflow / "train" / "_annotations.coco.json").write_text(text)
    assert run(roboflow, tmp_path / "data", *MAPPED) == 1
    err = capsys.readouterr().err
    assert "train/_annotations.coco.json" in err
    assert re.search(told, err)


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
    assert "no usable frame in the split val (--leak-free" in capsys.readouterr().err
    assert run(roboflow, tmp_path / "data", *MAPPED, "--leak-free") == 0


def voc(name="minor", corners=(16, 12, 48, 36), size=(64, 48), extra=""):
    keys = ("xmin", "ymin", "xmax", "ymax")
    box = "".join(f"<{k}>{v}</{k}>" for k, v in zip(keys, corners, strict=True))
    return (
        f"<annotation>\n<size><width>{size[0]}</width><height>{size[1]}</height></size>\n{extra}"
        f"<object>\n<name>{name}</name><bndbox>{box}</bndbox></object>\n</annotation>\n"
    )


@pytest.fixture
def devkit(tmp_path):
    """The classic VOC layout, two frames a split."""
    root = tmp_path / "VOC"
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    for number, split in enumerate(("train", "val", "test")):
        names = [f"{split}{i}" for i in range(2)]
        (root / "ImageSets/Main" / f"{split}.txt").write_text("\n".join(names))
        for i, name in enumerate(names):
            (root / "JPEGImages" / f"{name}.jpg").write_bytes(jpeg(picture(10 * number + i)))
            (root / "Annotations" / f"{name}.xml").write_text(voc())
    return root


def test_a_voc_devkit_gives_its_boxes_and_splits(devkit, tmp_path):
    assert run(devkit, tmp_path / "data", *MAPPED, "--strict") == 0
    assert truth_of(tmp_path / "data", "val")["val1"]["accidents"] == [
        {"bbox": [16, 12, 48, 36], "severity": "moderate"}
    ]


def test_a_roboflow_voc_export_has_labels_beside_images(devkit, tmp_path):
    root = tmp_path / "export"
    for split, ours in SPLITS.items():
        (root / split).mkdir(parents=True)
        for i in range(2):
            for folder, suffix in (("JPEGImages", "jpg"), ("Annotations", "xml")):
                shutil.copy(devkit / folder / f"{ours}{i}.{suffix}", root / split)
    assert run(root, tmp_path / "data", *MAPPED, "--strict") == 0
    assert set(truth_of(tmp_path / "data", "val")) == {"val0", "val1"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (voc(extra="<x>"), "train0.xml:5: not XML"),
        ('<!DOCTYPE a [<!ENTITY b "c">]>' + voc(), "train0.xml:1: a document type is refused"),
        (voc(size=(0, 0)), "no usable <size>"),
        (voc(name="bus"), "unknown class 'bus', this set names ['bus', 'minor']"),
        (voc(corners=("nan", 1, 2, 3)), "train0.xml:3: not-a-number"),
        (voc(corners=(30, 1, 2, 3)), "train0.xml:3: malformed-row"),
        (voc(corners=(1, 1, 2000, 3000)), "train0.xml:3: not-normalised"),
    ],
)
def test_voc_that_cannot_be_read_is_refused_by_file_and_line(devkit, tmp_path, capsys, text, told):
    (devkit / "Annotations" / "train0.xml").write_text(text)
    assert run(devkit, tmp_path / "data", *MAPPED) == 1
    assert told in capsys.readouterr().err


def test_a_mapping_can_be_a_file(tmp_path):
    (tmp_path / "map.yaml").write_text("Minor: moderate\nbus: ignore\n")
    classes = Classes.read([str(tmp_path / "map.yaml")])
    assert classes.of(["bus", "MINOR ", "severe"], tmp_path) == [None, "moderate", "severe"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["minor=mild"], "expected moderate, severe or ignore"),
        (["a=severe", "b"], "NAME=SEVERITY"),
        (["nowhere.yaml"], "cannot be read"),
    ],
)
def test_a_mapping_that_says_nothing_is_refused(words, told):
    with pytest.raises((ConfigError, DataError), match=told):
        Classes.read(words)


def test_zip_files_are_sources_like_folders(source, tmp_path):
    archives = []
    for part in ("accidents-detection", "cctv", "5g"):
        archives.append(shutil.make_archive(str(tmp_path / part), "zip", source.root / part))
    one, two = tmp_path / "one" / "data", tmp_path / "two" / "data"
    assert main(["--source", *archives, "--out", str(one)]) == 0
    assert main(["--source", str(source.root), "--out", str(two)]) == 0
    for split in SPLITS.values():
        assert (one / f"truth_{split}.jsonl").read_bytes() == (
            two / f"truth_{split}.jsonl"
        ).read_bytes()


def test_a_zip_that_cannot_be_trusted_leaves_nothing(tmp_path, capsys):
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as file:
        file.writestr("../owned", "x")
    assert main(["--source", str(tmp_path / "bad.zip"), "--out", str(tmp_path / "a/data")]) == 1
    assert "bad.zip: entry '../owned'" in capsys.readouterr().err
    assert [p for p in (tmp_path / "a").rglob("*") if p.is_file()] == []
