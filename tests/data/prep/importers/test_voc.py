"""Pascal VOC through the whole build."""

import shutil

import pytest

from tests.data.prep.importers.building import MAPPED, SPLITS, run, truth_of
from tests.data.prep.source_builder import jpeg, picture


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
    ("text", "message"),
    [
        (voc(extra="<x>"), "train0.xml:5: unreadable-label: not XML"),
        (
            '<!DOCTYPE a [<!ENTITY b "c">]>' + voc(),
            "train0.xml:1: unreadable-label: a document type is not allowed",
        ),
        (voc(name="bus"), "unknown class 'bus', this set names ['bus', 'minor']"),
        (voc(corners=("nan", 1, 2, 3)), "train0.xml:3: not-a-number"),
        (voc(corners=(30, 1, 2, 3)), "train0.xml:3: malformed-row"),
        (voc(corners=(1, 1, 2000, 3000)), "train0.xml:3: not-normalised"),
    ],
)
def test_voc_that_cannot_be_read_is_refused_by_file_and_line(
    devkit, tmp_path, capsys, text, message
):
    (devkit / "Annotations" / "train0.xml").write_text(text)
    assert run(devkit, tmp_path / "data", *MAPPED) == 1
    assert message in capsys.readouterr().err
