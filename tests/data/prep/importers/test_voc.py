"""Pascal VOC through the whole build."""

import shutil

import pytest

from dat_runtime.types import Size
from data.prep.importers.source_frame import Ids
from data.prep.importers.sources import find_sources
from data.prep.importers.voc import scan as voc_scan
from tests.data.prep.importers.building import MAPPED, SPLITS, run, truth_of
from tests.data.prep.importers.scanning import BOX, CLASSES, put, scan
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


def told(scanned):
    return [(f.kind, f.file, f.line, f.detail) for f in scanned.faults]


def scanned(root, xml):
    put(root, "a.jpg")
    (root / "a.xml").write_bytes(xml if isinstance(xml, bytes) else xml.encode())
    return scan(root)


@pytest.mark.parametrize(
    ("xml", "line", "detail"),
    [
        ("<kml></kml>", 1, "not VOC: <kml>, expected <annotation>"),
        (f"<{'k' * 50}/>", 1, f"not VOC: <{'k' * 40}>, expected <annotation>"),
        ("<annotation>\n<x></annotation>", 2, "not XML: mismatched tag"),
        ("", 1, "not XML: no element found"),
        ("<!DOCTYPE annotation>\n<annotation/>", 1, "a document type is not allowed"),
        (b'<?xml version="1.0" encoding="gb2312"?>\n<annotation/>' + b"\xff\xff", 1,
         "is not gb2312, the encoding that it states"),
        ("<annotation>\n" + "<a>" * 17, 2, "nested too deeply"),
    ],
)  # fmt: skip
def test_what_is_no_voc_is_told_by_its_line(tmp_path, xml, line, detail):
    assert told(scanned(tmp_path, xml)) == [
        ("unreadable-label", "a.xml", line, detail),
        ("bad-label", "a.jpg", None, "its label has: unreadable-label"),
    ]


def test_an_encoding_that_nobody_knows_is_told(tmp_path):
    xml = '<?xml version="1.0" encoding="rot13"?>\n' + voc("crash")
    kind, _, line, detail = told(scanned(tmp_path, xml))[0]
    assert (kind, line) == ("unreadable-label", 1)
    assert detail.startswith("in an encoding that cannot be read: ")


def test_levels_are_read_to_the_seventeenth(tmp_path):
    deep = "<a>" * 16 + "</a>" * 16
    found = scanned(tmp_path, voc("crash", extra=deep))
    assert (found.frames, told(found)) == ({"a.jpg": (None, [BOX])}, [])


def test_a_file_of_a_mebibyte_is_read_and_none_above_it(tmp_path):
    xml = voc("crash")
    found = scanned(tmp_path, xml + " " * (2**20 - len(xml)))
    assert (found.frames, told(found)) == ({"a.jpg": (None, [BOX])}, [])
    found = scanned(tmp_path, xml + " " * (2**20 + 1 - len(xml)))
    assert (found.frames, found.counts) == ({}, {"unreadable-label": 1, "bad-label": 1})
    assert str(tmp_path) not in told(found)[0][3]


@pytest.mark.parametrize(
    ("xml", "kind", "detail"),
    [
        (voc("car"), "ignored-class", "'car'"),
        (voc("crash", ("x", 1, 2, 3)), "not-a-number", "bndbox {'xmin': 'x', 'ymin': '1', 'xmax': "
         "'2', 'ymax': '3'}"),
        (voc("crash", (1, 1, "inf", 3)), "not-a-number", "bndbox {'xmin': '1', 'ymin': '1', "
         "'xmax': 'inf', 'ymax': '3'}"),
        (voc("crash", (1, 1, "", " ")), "malformed-row", "bndbox {'xmin': '1', 'ymin': '1', "
         "'ymax': ''} lacks xmax, ymax"),
    ],
)  # fmt: skip
def test_an_object_is_told_as_it_stands(tmp_path, xml, kind, detail):
    assert told(scanned(tmp_path, xml))[0] == (kind, "a.xml", 3, detail)


def test_text_that_comes_in_parts_is_one_text(tmp_path):
    xml = voc("cr&#97;sh", ("1&#54;", "12", "4&#56;", "36"), size=("6&#52;", "48"))
    assert scanned(tmp_path, xml).frames == {"a.jpg": (None, [BOX])}


def test_only_the_names_and_corners_of_objects_count(tmp_path):
    part = "<part><name>wheel</name><bndbox><xmin>1</xmin></bndbox></part>"
    extra = "<name>bus</name><owner><size><width>9</width></size></owner>"
    xml = voc("crash", extra=extra).replace("</object>", f"{part}</object>")
    more = voc("bump", (0, 0, 32, 24))
    xml = xml.replace("</annotation>", more[more.index("<object>") :])
    found = scanned(tmp_path, xml)
    assert (found.frames, told(found)) == (
        {"a.jpg": (None, [BOX, ("moderate", 0, 0, 32, 24)])},
        [],
    )


def test_every_file_of_a_set_is_a_frame_or_a_fault_of_its_own(tmp_path):
    frames = ("a", "b", "unlisted", "lost", "free")
    put(tmp_path, *(f"JPEGImages/{name}.jpg" for name in frames), "JPEGImages/clip.mov")
    labels = {"a": voc("crash"), "b": voc("crash", size=(0, 0)), "unlisted": voc("crash"),
              "gone": voc("crash"), "free": "<annotation/>"}  # fmt: skip
    put(tmp_path, *((f"Annotations/{name}.xml", xml) for name, xml in labels.items()))
    put(tmp_path, ("Annotations/notes.csv", "x"))
    put(tmp_path, ("ImageSets/Main/train.txt", "a\nlost\nnever\nfree\n"))
    put(tmp_path, ("ImageSets/Main/val.txt", "b\n"))
    found = scan(tmp_path)
    assert {file: (split, len(boxes)) for file, (split, boxes) in found.frames.items()} == {
        "JPEGImages/a.jpg": ("train", 1),
        "JPEGImages/b.jpg": ("val", 1),
        "JPEGImages/free.jpg": ("train", 0),
    }
    assert found.published == {"train": 2, "val": 1}
    states = "states '0' x '0', the picture is 64 x 48"
    free = "states None x None, the picture is 64 x 48"
    suffixes = "not one of .bmp .jpeg .jpg .png .tif .tiff .webp"
    assert told(found) == [
        ("stray-file", "JPEGImages/clip.mov", None, suffixes),
        ("stray-file", "Annotations/notes.csv", None, "not one of .xml"),
        ("orphan-label", "ImageSets/Main/train.txt", None, "names 'never', which is not there"),
        ("orphan-label", "Annotations/gone.xml", None, "has no image"),
        ("orphan-image", "JPEGImages/lost.jpg", None, "has no XML file"),
        ("orphan-image", "JPEGImages/unlisted.jpg", None, "is in no list of ImageSets"),
        ("no-size", "Annotations/b.xml", None, states),
        ("no-size", "Annotations/free.xml", None, free),
    ]


def test_a_frame_is_of_the_size_that_its_label_states(tmp_path):
    put(tmp_path, "a.jpg", ("a.xml", voc("crash", size=(128, 96))))
    sources = find_sources(tmp_path, without=("negatives", "trace"))
    (frame,) = voc_scan(sources, CLASSES, Ids()).frames
    assert (frame.declared, frame.id, frame.split) == (Size(128, 96), "a", None)
    assert frame.accidents[0].box[:4] == (0.125, 0.125, 0.375, 0.375)
