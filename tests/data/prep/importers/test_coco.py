"""COCO JSON through the whole build."""

import json
import re
import shutil

import pytest

from dat_runtime.errors import DataError
from data.prep.importers.classes import Classes
from data.prep.importers.coco import AnnotationFile
from data.prep.importers.source_frame import Ids
from data.prep.importers.sources import Sources
from tests.data.prep.importers.building import MAPPED, SPLITS, faults_of, run, truth_of
from tests.data.prep.importers.scanning import BOX, CLASSES, SIZE, put, scan
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


CATEGORIES = [
    {"id": 1, "name": "bump"},
    {"id": "2", "name": "crash"},
    {"id": 3, "name": "car"},
    {"id": 8, "name": "no annotation has it, so it needs no meaning"},
]


def table(*annotations, images=("a", "b"), categories=CATEGORIES, **changed):
    rows = [
        {"id": n, "file_name": f"{name}.jpg", "width": 64, "height": 48} | changed
        for n, name in enumerate(images)
    ]
    return {
        "images": rows,
        "annotations": [{"id": n, "image_id": 0, **a} for n, a in enumerate(annotations)],
        "categories": categories,
    }


def scanned(root, content, *names):
    names = names or ("images/a.jpg", "images/b.jpg")
    return scan(put(root, *names, ("annotations.json", json.dumps(content))))


def told(scanned):
    return [(f.kind, f.file, f.line, f.detail) for f in scanned.faults]


BOXED = {"category_id": 2, "bbox": [16, 12, 32, 24]}


@pytest.mark.parametrize(
    ("annotation", "kind", "detail"),
    [
        ({"category_id": True}, "malformed-row", "no usable category_id: {'id': 0, 'image_id': 0, "
         "'category_id': None}"),
        ({"category_id": 9}, "unknown-class", "category 9, which `categories` does not name"),
        ({"category_id": "x" * 60}, "unknown-class", f"category '{'x' * 39}, which `categories` "
         "does not name"),
        ({"category_id": 3, "bbox": [0, 0, 9, 9]}, "ignored-class", "category 3"),
        ({**BOXED, "iscrowd": 1}, "crowd-region", "iscrowd 1"),
        ({**BOXED, "iscrowd": "yes"}, "crowd-region", "iscrowd 'yes'"),
        ({**BOXED, "bbox": [1, 2, 3]}, "malformed-row", "bbox [1, 2, 3], expected [x, y, width, "
         "height]"),
        ({**BOXED, "bbox": "wide"}, "malformed-row", "bbox 'wide', expected [x, y, width, "
         "height]"),
        ({**BOXED, "bbox": []}, "malformed-row", "bbox None, expected [x, y, width, height]"),
        ({**BOXED, "bbox": [1, 2, None, 3]}, "not-a-number", "bbox [1, 2, None, 3]"),
        ({"category_id": 2, "segmentation": [[1, 1, 30, 1]]}, "malformed-row", "bbox None, "
         "expected [x, y, width, height]"),
        ({"category_id": 2, "segmentation": [[1, 1, 30, 1, 30]]}, "malformed-row", "bbox None, "
         "expected [x, y, width, height]"),
        ({"category_id": 2, "segmentation": [[1, 1, 30, 1, 30, "x"]]}, "malformed-row", "bbox "
         "None, expected [x, y, width, height]"),
        ({"category_id": 2, "segmentation": [[16, 12, 48, 12, 48, 36]]}, "polygon-row", "3 points"),
        ({"category_id": 2, "segmentation": [[16, 12, 48, 12], [48, 36, 20, 20]]}, "polygon-row",
         "4 points"),
    ],
)  # fmt: skip
def test_an_annotation_is_told_as_it_stands(tmp_path, annotation, kind, detail):
    faults = told(scanned(tmp_path, table(annotation)))
    place = "annotation 0 of 'a.jpg'"
    assert faults[0] == (kind, "annotations.json", None, f"{place}: {detail}")


@pytest.mark.parametrize("iscrowd", [None, 0, False, "0"])
def test_what_is_no_crowd_is_a_box(tmp_path, iscrowd):
    found = scanned(tmp_path, table({**BOXED, "iscrowd": iscrowd}))
    assert (found.frames["images/a.jpg"], told(found)) == ((None, [BOX]), [])


def test_every_picture_and_entry_of_a_set_is_a_frame_or_a_fault_of_its_own(tmp_path):
    content = table(
        BOXED,
        {**BOXED, "image_id": 5},
        {**BOXED, "image_id": "5", "id": "y"},
        {**BOXED, "image_id": 2},
        {**BOXED, "image_id": 3, "bbox": [0, 0, 99, 99]},
        images=("a", "gone", "small", "far"),
    )
    content["images"][2] |= {"width": 0}
    names = (f"images/{name}.jpg" for name in ("a", "small", "far", "unlisted"))
    found = scanned(tmp_path, content, *names)
    assert {file: len(boxes) for file, (_, boxes) in found.frames.items()} == {
        "images/a.jpg": 1, "images/small.jpg": 1,
    }  # fmt: skip
    faults = told(found)
    assert faults[:2] == [
        ("orphan-label", "annotations.json", None, "image 'gone.jpg' does not exist"),
        ("orphan-label", "annotations.json", None, "2 annotations of image id 5, not listed"),
    ]
    assert faults[2][:3] == ("no-size", "images/small.jpg", None)
    assert faults[3:] == [
        ("not-normalised", "annotations.json", None, "annotation 4 of 'far.jpg': x 0..1.54688, "
         "y 0..2.0625"),
        ("bad-label", "images/far.jpg", None, "its label has: not-normalised"),
        ("orphan-image", "images/unlisted.jpg", None, "is listed in no annotation file"),
    ]  # fmt: skip


def test_entries_that_leave_open_whose_boxes_are_whose_are_told_by_name(tmp_path):
    two = table(BOXED)
    two["images"][1]["id"] = 0
    assert told(scanned(tmp_path, two))[:2] == [
        ("same-id", "annotations.json", None, "id 0 is that of ['a.jpg', 'b.jpg']"),
        ("bad-label", "images/a.jpg", None, "its label has: same-id"),
    ]
    one_file = table(BOXED, images=("a", "images/a"))
    assert told(scanned(tmp_path, one_file))[0] == (
        "same-id", "annotations.json", None, "['a.jpg', 'images/a.jpg'] are one picture",
    )  # fmt: skip
    sizes = table(BOXED, images=("a", "a"))
    sizes["images"][1]["height"] = 96
    assert told(scanned(tmp_path, sizes))[0] == (
        "same-id", "annotations.json", None,
        "'a.jpg' is listed with the sizes ['(64, 48)', '(64, 96)']",
    )  # fmt: skip
    twice = table(BOXED, {**BOXED, "image_id": 1}, images=("a", "a"))
    found = scanned(tmp_path, twice)
    assert told(found)[:2] == [
        ("listed-twice", "annotations.json", None, "'a.jpg': 2 entries"),
        ("duplicate-row", "annotations.json", None, "annotation 1 of 'a.jpg': equals an earlier "
         "row"),
    ]  # fmt: skip
    assert found.frames["images/a.jpg"] == (None, [BOX])


def test_a_picture_of_two_splits_counts_for_the_first_and_is_told(tmp_path):
    both = json.dumps(table(BOXED))
    put(tmp_path, "images/a.jpg", "images/b.jpg", "images/deep/c.jpg", "d.jpg")
    put(tmp_path, ("annotations/train.json", both))
    put(tmp_path, ("annotations/val.json", json.dumps(table(BOXED, images=("b", "a")))))
    put(tmp_path, ("annotations/captions.json", both))
    found = scan(tmp_path)
    assert {file: split for file, (split, _) in found.frames.items()} == {
        "images/a.jpg": "train", "images/b.jpg": "train",
    }  # fmt: skip
    assert found.published == {"train": 2, "val": 0}
    belongs = "belongs to train by annotations/train.json, to val by annotations/val.json"
    assert told(found) == [
        ("same-split", "images/b.jpg", None, belongs),
        ("same-split", "images/a.jpg", None, belongs),
        ("other-annotations", "annotations/captions.json", None, "its pictures come from the other "
         "annotation files"),
        ("orphan-image", "images/deep/c.jpg", None, "is listed in no annotation file"),
    ]  # fmt: skip


def annotation_file(root, classes=CLASSES):
    sources = Sources((root,), "coco", root, None, None, ())
    return AnnotationFile(root / "annotations.json", None, sources, classes)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({}, "not COCO JSON: expected a list `images`"),
        ([], "not COCO JSON: expected a list `images`"),
        (table() | {"annotations": {}}, "not COCO JSON: expected a list `annotations`"),
        (table() | {"categories": None}, "not COCO JSON: expected a list `categories`"),
        (table() | {"images": ["a"]}, "images[0] has no usable `id`: 'a'"),
        (table() | {"images": [{"id": 0, "file_name": ["a"]}]}, "images[0] has no usable "
         "`file_name`: {'id': 0, 'file_name': ['a']}"),
        (table() | {"images": [{"id": 0.5, "file_name": "a"}]}, "images[0] has no usable `id`: "
         "{'id': 0.5, 'file_name': 'a'}"),
        (table() | {"images": [{"id": True, "file_name": "a"}]}, "images[0] has no usable `id`: "
         "{'id': True, 'file_name': 'a'}"),
        (table({"image_id": None}), "annotations[0] has no usable `image_id`: {'id': 0, "
         "'image_id': None}"),
        (table() | {"annotations": [7]}, "annotations[0] has no usable `image_id`: 7"),
        (table(categories=[{"id": 1}]), "categories[0] has no usable `name`: {'id': 1}"),
        (table(categories=[{"id": 1, "name": "bump"}, {"id": "1", "name": "crash"}]), "two "
         "categories have the id 1"),
    ],
)  # fmt: skip
def test_tables_that_cannot_be_read_are_refused_by_file_and_entry(tmp_path, content, words):
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    with pytest.raises(DataError) as refused:
        annotation_file(tmp_path)
    assert str(refused.value) == f"{tmp_path}/annotations.json: {words}"


def test_what_is_no_json_is_refused_by_its_line(tmp_path):
    (tmp_path / "annotations.json").write_text('{"images": [],\n\n"annotations"}')
    with pytest.raises(DataError, match=r"annotations\.json:3: not JSON: Expecting ':'"):
        annotation_file(tmp_path)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (1, "1", True),
        (1, 1.0, True),
        (7, " 7 ", True),
        ("a", " a", True),
        (10**17, "1" + "0" * 17, True),
        (10**18, "1" + "0" * 18, False),  # of so many digits text stays text
        (1, "²", False),
    ],
)
def test_ids_are_one_however_an_exporter_writes_them(tmp_path, one, other, same):
    content = table({**BOXED, "image_id": other}, images=("a",))
    content["images"][0]["id"] = one
    found = scanned(tmp_path, content)
    assert found.frames["images/a.jpg"] == (None, [BOX] if same else [])


def test_names_of_pictures_and_classes_may_be_numbers(tmp_path):
    content = table(BOXED, categories=[{"id": 2, "name": 7}])
    content["images"][0]["file_name"] = 12
    put(tmp_path, "images/12", ("annotations.json", json.dumps(content)))
    read = annotation_file(tmp_path, Classes({"7": "severe"}))
    (frame,) = [f for f in read.frames(Ids(), {}) if f.path.name == "12"]
    assert [a.severity for a in frame.accidents] == ["severe"]
    assert frame.declared == SIZE
