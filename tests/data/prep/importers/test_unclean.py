"""Annotations that are not clean: each gives the right boxes, or is refused or left out by name."""

import json
import random

import pytest

from dat_runtime.errors import DataError
from data.prep.build import main
from data.prep.importers.classes import Classes
from data.prep.importers.faults import REFUSED
from data.prep.importers.masks import box_of_mask
from tests.data.prep.importers.scanning import BOX, put, scan
from tests.data.prep.importers.test_voc import voc
from tests.data.prep.source_builder import BOX as SOUND_ROW
from tests.data.prep.source_builder import jpeg, picture

ONE = {"image_id": 1, "category_id": 2, "bbox": [16, 12, 32, 24]}
OTHER = {"image_id": 2, "category_id": 2, "bbox": [0, 0, 32, 24]}


def coco(annotations, images=(1, 2), **changed):
    rows = [
        {"id": i, "file_name": f"f{n}.jpg", "width": 64, "height": 48, **changed}
        for n, i in enumerate(images, 1)
    ]
    annotations = [{"id": n, **a} for n, a in enumerate(annotations)]
    categories = [{"id": 1, "name": "car"}, {"id": 2, "name": "crash"}]
    return {"images": rows, "annotations": annotations, "categories": categories}


def scan_coco(tmp_path, content, **more):
    put(tmp_path, "images/f1.jpg", "images/f2.jpg", ("annotations.json", json.dumps(content)))
    for name, text in more.items():
        put(tmp_path, (f"annotations/{name}.json", json.dumps(text)))
    return scan(tmp_path)


def boxes_of(scanned):
    return {file.removeprefix("images/"): boxes for file, (_, boxes) in scanned.frames.items()}


SOUND = {"f1.jpg": [BOX], "f2.jpg": [("severe", 0, 0, 32, 24)]}


@pytest.mark.parametrize(
    ("images", "rows"),
    [((1, 2), ("1", "2")), (("1", "2"), (1, 2)), ((1.0, 2.0), ("1", 2)), (("a", "b"), ("a", "b"))],
)
def test_ids_as_text_or_number_are_the_same_ids(tmp_path, images, rows):
    content = coco([{**ONE, "image_id": rows[0]}, {**OTHER, "image_id": rows[1]}], images)
    content["annotations"][0]["category_id"] = "2"
    scanned = scan_coco(tmp_path, content)
    assert (boxes_of(scanned), scanned.faults) == (SOUND, [])


def test_two_pictures_under_one_id_are_refused_by_name(tmp_path):
    scanned = scan_coco(tmp_path, coco([ONE, OTHER], images=(1, "1")))
    assert scanned.frames == {}
    assert scanned.counts == {"same-id": 2, "bad-label": 2, "orphan-label": 1}
    assert "same-id" in REFUSED
    assert "['f1.jpg', 'f2.jpg']" in scanned.faults[1].detail


def test_a_crowd_is_no_accident_and_its_frame_not_accident_free(tmp_path):
    crowd = {**ONE, "iscrowd": 1, "bbox": [0, 0, 64, 48], "segmentation": {"counts": [0, 3072]}}
    scanned = scan_coco(tmp_path, coco([crowd, OTHER, {**crowd, "image_id": 2}]))
    assert boxes_of(scanned) == {"f2.jpg": SOUND["f2.jpg"]}
    assert scanned.counts == {"crowd-region": 2, "no-usable-box": 1}


def test_further_json_files_of_one_set_are_left_out_by_name(tmp_path):
    keypoints = coco([{**ONE, "keypoints": [1, 1, 2], "num_keypoints": 1}, OTHER])
    captions = {**coco([]), "annotations": [{"id": 1, "image_id": 1, "caption": "two cars"}]}
    put(tmp_path, "images/f1.jpg", "images/f2.jpg")
    for name, content in (
        ("instances_train2017", coco([ONE, OTHER])),
        ("person_keypoints_train2017", keypoints),
        ("captions_train2017", captions),
    ):
        put(tmp_path, (f"annotations/{name}.json", json.dumps(content)))
    scanned = scan(tmp_path)
    assert boxes_of(scanned) == SOUND
    assert scanned.counts == {"other-annotations": 2}


def test_two_files_of_one_split_with_the_same_pictures_are_refused(tmp_path):
    put(tmp_path, "images/f1.jpg", "images/f2.jpg")
    for name in ("train_a", "train_b"):
        put(tmp_path, (f"annotations/{name}.json", json.dumps(coco([ONE, OTHER]))))
    with pytest.raises(DataError, match=r"train_b.json: lists images/f1.jpg, as .*train_a"):
        scan(tmp_path)


def test_a_picture_listed_twice_keeps_the_boxes_of_both_entries(tmp_path):
    content = coco([ONE, {**OTHER, "image_id": 3}])
    content["images"].append({**content["images"][0], "id": 3})
    scanned = scan_coco(tmp_path, content)
    assert boxes_of(scanned) == {"f1.jpg": [*SOUND["f1.jpg"], *SOUND["f2.jpg"]], "f2.jpg": []}
    assert scanned.counts == {"listed-twice": 1}
    content["images"][-1]["width"] = 128
    assert scan_coco(tmp_path, content).counts["same-id"] == 1


def test_a_picture_listed_twice_with_one_id_has_its_boxes_once(tmp_path):
    content = coco([ONE])
    content["images"].append(content["images"][0])
    scanned = scan_coco(tmp_path, content)
    assert boxes_of(scanned)["f1.jpg"] == SOUND["f1.jpg"]
    assert scanned.counts == {"listed-twice": 1}


def test_a_frame_of_ignored_boxes_only_is_left_out(tmp_path):
    scanned = scan_coco(
        tmp_path, coco([{**ONE, "category_id": 1}, {**OTHER, "category_id": 1}, OTHER])
    )
    assert boxes_of(scanned) == {"f2.jpg": SOUND["f2.jpg"]}
    assert scanned.counts == {"ignored-class": 2, "only-ignored": 1}


@pytest.mark.parametrize(
    ("segmentation", "kinds"),
    [
        ([[16, 12, 48, 12, 48, 36]], {"polygon-row": 1}),
        ([16.0, 12.0, 48.0, 12.0, 48.0, 36.0], {"polygon-row": 1}),
        ([[16, 12, 30, 12, 30, 36], [48, 20, 40, 20, 40, 30]], {"polygon-row": 1}),
        ({"size": [48, 64], "counts": [16 * 48 + 12, *[24, 24] * 31, 24, 780]}, {"polygon-row": 1}),
        ([[16, 12]], {"malformed-row": 1, "bad-label": 1}),
        ({"size": [48, 64], "counts": "broken"}, {"malformed-row": 1, "bad-label": 1}),
        (None, {"malformed-row": 1, "bad-label": 1}),
    ],
)
def test_a_segmentation_without_a_box_gives_the_box_around_it(tmp_path, segmentation, kinds):
    row = {"image_id": 1, "category_id": 2, "segmentation": segmentation, "iscrowd": 0}
    scanned = scan_coco(tmp_path, coco([row, OTHER]))
    assert scanned.counts == kinds
    assert boxes_of(scanned).get("f1.jpg", [BOX]) == [BOX]


def packed(runs):
    """Runs as the COCO tool packs them (`rleToString` of its maskApi.c)."""
    text = ""
    for place, run in enumerate(runs):
        x = run - runs[place - 2] if place > 2 else run
        more = True
        while more:
            code, x = x & 0x1F, x >> 5
            more = x != -1 if code & 0x10 else x != 0
            text += chr((code | 0x20 if more else code) + 48)
    return text


def test_a_mask_is_read_packed_or_not():
    # 9 rows: the pixel (0, 6), then rows 2 to 5 of the columns 5, 6 and 7, of ten columns.
    runs = [6, 1, 40, 4, 5, 4, 5, 4, 21]
    for counts in (runs, packed(runs)):
        assert box_of_mask({"size": [9, 10], "counts": counts}) == (0, 2, 8, 5)
    assert box_of_mask({"size": [9, 10], "counts": [3, 20, 67]}) == (0, 0, 3, 9)
    assert box_of_mask({"size": [9, 10], "counts": [90]}) is None
    assert box_of_mask({"size": [9, 10], "counts": [1, 2]}) is None


@pytest.mark.parametrize(
    ("bbox", "box", "kinds"),
    [
        ([16.0, 12.4, 31.5, 23.6], ("severe", 16, 12.4, 47.5, 36), {}),
        ([-4, 12, 20, 24], ("severe", 0, 12, 16, 36), {"outside-frame": 1}),
        ([50, 30, 20, 40], ("severe", 50, 30, 64, 48), {"outside-frame": 1}),
        ([48, 36, -32, -24], None, {"malformed-row": 1, "bad-label": 1}),
        (["16", 12, 32, 24], None, {"not-a-number": 1, "bad-label": 1}),
        ([16, 12, 32, None], None, {"not-a-number": 1, "bad-label": 1}),
    ],
)
def test_a_box_is_taken_clipped_or_refused(tmp_path, bbox, box, kinds):
    scanned = scan_coco(tmp_path, coco([{**ONE, "bbox": bbox}]))
    assert boxes_of(scanned).get("f1.jpg") == ([box] if box else None)
    assert scanned.counts == kinds


def test_an_annotation_without_a_class_is_a_fault_of_its_picture(tmp_path):
    content = coco([ONE, {**OTHER, "category_id": None}, {"image_id": 2, "bbox": [0, 0, 9, 9]}])
    scanned = scan_coco(tmp_path, content)
    assert boxes_of(scanned) == {"f1.jpg": [BOX]}
    assert scanned.counts == {"malformed-row": 2, "bad-label": 1}


@pytest.mark.parametrize("size", [{"width": 0, "height": 0}, {"width": None}, {"height": "big"}])
def test_a_size_that_is_not_stated_is_the_pictures_own(tmp_path, size):
    scanned = scan_coco(tmp_path, coco([ONE, OTHER], **size))
    assert (boxes_of(scanned), scanned.counts) == (SOUND, {"no-size": 2})


def test_a_name_that_no_file_can_have_is_a_picture_that_is_missing(tmp_path):
    for name in ("x" * 5000 + ".jpg", "a\0b.jpg", "\ud800.jpg", "", "..", "/"):
        content = coco([ONE, OTHER])
        content["images"][0]["file_name"] = name
        scanned = scan_coco(tmp_path, content)
        assert scanned.counts == {"orphan-label": 1, "orphan-image": 1}


@pytest.mark.parametrize("size", [(0, 0), ("", ""), ("wide", 48)])
def test_voc_without_a_size_takes_the_pictures_own(tmp_path, size):
    put(tmp_path, "a.jpg", ("a.xml", voc("crash", size=size)))
    scanned = scan(tmp_path)
    assert (boxes_of(scanned), scanned.counts) == ({"a.jpg": [BOX]}, {"no-size": 1})
    put(tmp_path, ("a.xml", "<annotation><object><name>crash</name></object></annotation>"))
    assert scan(tmp_path).counts == {"no-size": 1, "malformed-row": 1, "bad-label": 1}


def test_voc_corners_may_be_fractions_and_have_to_be_there(tmp_path):
    put(tmp_path, "a.jpg", ("a.xml", voc("crash", ("16.0", "12.25", "4.8e1", "36"))))
    assert boxes_of(scan(tmp_path)) == {"a.jpg": [("severe", 16, 12.25, 48, 36)]}
    lacking = voc("crash").replace("<xmax>48</xmax>", "<xmaximum>48</xmaximum>")
    put(tmp_path, ("a.xml", lacking))
    fault = scan(tmp_path).faults[0]
    assert (fault.kind, fault.line, "lacks xmax" in fault.detail) == ("malformed-row", 3, True)


@pytest.mark.parametrize(
    ("encoding", "stated", "read"),
    [
        ("utf-8", "utf-8", True),
        ("gb2312", "gb2312", True),
        ("gb18030", "GB18030", True),
        ("utf-16", "utf-16", True),
        ("cp1252", "windows-1252", True),
        ("utf-8", "no-such-code", False),
        ("utf-8", "rot13", False),
        ("utf-8", "zlib", False),
        ("utf-8", "utf-7", False),
        ("gb18030", "utf-8", False),
    ],
)
def test_xml_is_read_in_the_encoding_that_it_states(tmp_path, encoding, stated, read):
    name = "crash" if encoding == "cp1252" else "事故"
    text = f'<?xml version="1.0" encoding="{stated}"?>\n' + voc(name)
    put(tmp_path, "a.jpg")
    (tmp_path / "a.xml").write_bytes(text.encode(encoding))
    scanned = scan(tmp_path, Classes({name: "severe"}))
    assert boxes_of(scanned) == ({"a.jpg": [BOX]} if read else {})
    assert scanned.counts == ({} if read else {"unreadable-label": 1, "bad-label": 1})


BOMB = '<!DOCTYPE a [<!ENTITY b "bbbbbbbbbb">' + "".join(
    f'<!ENTITY b{i} "{f"&b{i - 1 if i else str()};" * 10}">' for i in range(1, 12)
)


@pytest.mark.parametrize(
    "text", [BOMB + "]><annotation>&b11;</annotation>", "<a>" * 40, "", "<kml></kml>", "\0" * 99]
)
def test_what_is_no_voc_is_a_fault_of_its_file(tmp_path, text):
    put(tmp_path, "a.jpg", "b.jpg", ("a.xml", text), ("b.xml", voc("crash")))
    scanned = scan(tmp_path)
    assert boxes_of(scanned) == {"b.jpg": [BOX]}
    assert scanned.counts == {"unreadable-label": 1, "bad-label": 1}


def test_names_with_spaces_are_found_in_the_lists_of_imagesets(tmp_path):
    names = {"my frame 1": "train", "my frame": "val", "c": "test", "d e": "test"}
    for name in names:
        put(tmp_path, f"JPEGImages/{name}.jpg", (f"Annotations/{name}.xml", voc("crash")))
    put(tmp_path, ("ImageSets/Main/train.txt", "my frame 1\nlost\n"))
    put(
        tmp_path,
        ("ImageSets/Main/val.txt", "my frame  1\n"),
        ("ImageSets/Main/trainval.txt", "c\n"),
    )
    put(tmp_path, ("ImageSets/Main/test.txt", 'c.jpg\n\n"d e"\n'))
    scanned = scan(tmp_path)
    assert {file[11:-4]: split for file, (split, _) in scanned.frames.items()} == names
    assert [(f.kind, f.file) for f in scanned.faults] == [
        ("orphan-label", "ImageSets/Main/train.txt")
    ]
    put(tmp_path, ("ImageSets/Main/test.txt", "c\nd e\nmy frame\n"))
    with pytest.raises(DataError, match="names 'my frame', as the list of val"):
        scan(tmp_path)


@pytest.mark.parametrize(
    ("row", "boxes", "kinds"),
    [
        ("1 0.5 0.5 0.5 0.5 17", [BOX], {"track-id": 1}),
        ("1 0.5 0.5 0.5 0.5 0.93 17", [BOX], {"track-id": 1}),
        ("1 0.25 0.25 0.75 0.25 0.75 0.75", [BOX], {"polygon-row": 1}),
        ("1 0.5 0.5 0.5 0.5 0.93", None, {"malformed-row": 1, "bad-label": 1}),
        ("1 0.5 0.5 0.5 0.5 0.93 1", None, {"malformed-row": 1, "bad-label": 1}),
        ("1 0.25 0.25 0.75 0.75 0.5 1", [("severe", 16, 12, 48, 48)], {"polygon-row": 1}),
    ],
)
def test_a_track_id_behind_a_box_is_no_polygon(tmp_path, row, boxes, kinds):
    put(tmp_path, "images/a.jpg", ("labels/a.txt", row + "\n"), ("classes.txt", "car\ncrash\n"))
    scanned = scan(tmp_path)
    assert scanned.counts == kinds
    assert boxes_of(scanned).get("a.jpg") == boxes


def test_key_points_behind_a_box_are_no_polygon(tmp_path):
    put(tmp_path, "images/train/a.jpg", "images/train/b.jpg")
    put(tmp_path, ("labels/train/a.txt", "1 0.5 0.5 0.5 0.5 0.1 0.1 0.9 0.9\n"))
    put(tmp_path, ("labels/train/b.txt", "1 0.5 0.5 0.5 0.5 0.1 0.1\n"))
    put(tmp_path, ("data.yaml", "names: [car, crash]\nkpt_shape: [2, 2]\n"))
    scanned = scan(tmp_path)
    assert boxes_of(scanned) == {"train/a.jpg": [BOX]}
    assert scanned.counts == {"pose-row": 1, "malformed-row": 1, "bad-label": 1}


def test_on_bad_label_skip_leaves_the_frame_out_counted_and_listed(source, tmp_path, capsys):
    source.frame("bad", SOUND_ROW + "7 0.5 0.5 0.1 0.1\n0 nan 1 1 1\n", jpeg(picture(60)))
    arguments = ["--source", str(source.root), "--out", str(tmp_path / "data")]
    assert main(arguments) == 1
    assert "--on-bad-label skip leaves such frames out" in capsys.readouterr().err
    assert main([*arguments, "--on-bad-label", "skip"]) == 0
    report = json.loads((tmp_path / "data/report.json").read_text())
    assert report["faults"]["counts"] == {"unknown-class": 1, "not-a-number": 1, "bad-label": 1}
    assert not list((tmp_path / "data/images").rglob("bad.jpg"))
    assert report["splits"]["train"]["accident_set"] == 2


def test_a_name_that_is_not_utf8_is_imported_and_shown_escaped(source, tmp_path):
    folder = str(source.accidents / "train").encode()
    with open(folder + b"/images/caf\xe9.jpg", "wb") as file:
        file.write(jpeg(picture(61)))
    with open(folder + b"/labels/caf\xe9.txt", "wb") as file:
        file.write(SOUND_ROW.encode() * 2)
    with open(str(source.negatives).encode() + b"/train/Non Accident/\xff.txt", "wb") as file:
        file.write(b"x")
    arguments = ["--source", str(source.root), "--out", str(tmp_path / "data")]
    assert main(arguments) == 0
    report = json.loads((tmp_path / "data/report.json").read_text())
    files = {fault["file"].rsplit("/", 1)[1] for fault in report["faults"]["list"]}
    assert files == {r"caf\xe9.txt", r"\xff.txt"}
    assert "caf" in "".join(p.stem for p in (tmp_path / "data/images/train").iterdir())


def mutated(rng, data):
    """The bytes with a few of them changed, cut, doubled or replaced by hostile text."""
    hostile = (b"-1", b"1e999", b"null", b'"', b"[]", b"{}", b"\0", b"\xff\xfe", b"9" * 30, b"<a>")
    data = bytearray(data)
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(data) + 1)
        end = min(len(data), at + rng.randrange(12))
        data[at:end] = rng.choice((b"", bytes(data[at:end]) * 2, *hostile))
    return bytes(data)


COCO = json.dumps(coco([ONE, OTHER]))
YAML = "path: .\ntrain: train.txt\nval: images/val\nnames: {0: car, 1: crash}\n"
ROWS = "1 0.5 0.5 0.5 0.5\n0 0.1 0.1 0.9 0.1 0.5 0.5\n"
LISTS = "ImageSets/Main/train.txt"
TREES = {
    "yolo": (
        "images/train/a.jpg",
        ("labels/train/a.txt", ROWS),
        ("train.txt", "images/train/a.jpg\n"),
        ("data.yaml", YAML),
    ),
    "coco": ("images/f1.jpg", "images/f2.jpg", ("annotations.json", COCO)),
    "voc": ("JPEGImages/a.jpg", ("Annotations/a.xml", voc("crash")), (LISTS, "a")),
}


def outcome_of(root):
    """What a scan ends in: how many frames, or a refusal in one line."""
    try:
        return len(scan(root).frames)
    except DataError as error:
        return "refused" if "\n" not in str(error) else str(error)


@pytest.mark.parametrize("layout", TREES)
def test_changed_files_of_a_set_end_in_frames_or_in_a_named_refusal(tmp_path, layout):
    rng = random.Random(layout)
    texts = [entry for entry in TREES[layout] if isinstance(entry, tuple)]
    outcomes = set()
    for _ in range(100):
        put(tmp_path, *TREES[layout])
        name, text = rng.choice(texts)
        (tmp_path / name).write_bytes(mutated(rng, text.encode()))
        outcomes.add(outcome_of(tmp_path))
    assert outcomes <= {0, 1, 2, "refused"}
    assert len(outcomes) > 1
