import json
import time

import pytest

from dat_runtime.errors import DataError
from data.prep.importers.classes import Classes
from data.prep.importers.faults import Fault
from data.prep.importers.plain_yaml import plain_yaml
from data.prep.importers.yolo import parse_labels, read_data_yaml, read_labels, read_names
from tests.data.prep.importers.scanning import YOLO, put, scan

NAMES = ("moderate", "severe")


def write_yaml(tmp_path, text):
    path = tmp_path / "data.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "names",
    ["[severe, Moderate]", "{0: severe, 1: moderate}", "\n  - severe\n  - moderate"],
)
def test_class_names_map_to_severities_in_the_sources_order(tmp_path, names):
    found, faults = read_data_yaml(write_yaml(tmp_path, f"names: {names}\n"), "data.yaml")
    assert found == ["severe", "moderate"]
    assert faults == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("names: [Accident]", r"this set names \['Accident'\]"),
        ("names: [moderate, severe, fatal]", "fatal"),
        ("names: [moderate, moderate]", "this set names"),
        ("names: {1: moderate, 2: severe}", "class ids"),
        ("names: 3", "list or a mapping"),
        ("nc: 3\nnames: [moderate, severe]", "nc is 3"),
        ("- moderate\n- severe", "mapping with `names`"),
        ("", "mapping with `names`"),
        ("names: [moderate, severe", r"data.yaml:\d+: not plain YAML"),
        ("names: !!python/object/apply:os.system ['touch owned']", r"data.yaml:1: not plain YAML"),
        ("a: &a [x]\nnames: [*a, *a]", "data.yaml:2: aliases"),
        ("names: " + "[" * 500 + "]" * 500, "deep nesting"),
        ("names: [moderate, severe]\n#" + "x" * 70_000, "larger than 65,536 bytes"),
    ],
)
def test_a_data_yaml_that_cannot_be_trusted_is_refused(tmp_path, monkeypatch, text, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=message):
        read_data_yaml(write_yaml(tmp_path, text), "data.yaml")
    assert not (tmp_path / "owned").exists()


def test_an_alias_bomb_costs_no_more_than_its_text(tmp_path):
    levels = [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30)]
    bomb = "\n".join(["a0: &a0 [x]", *levels, "names: *a29"])
    path = write_yaml(tmp_path, bomb)
    refusals = []
    for _ in range(3):
        started = time.perf_counter()
        with pytest.raises(DataError, match="aliases"):
            read_data_yaml(path, "data.yaml")
        refusals.append(time.perf_counter() - started)
    harmless = write_yaml(tmp_path, bomb.replace("&", "").replace("*", ""))
    started = time.perf_counter()
    plain_yaml(harmless)
    assert min(refusals) < time.perf_counter() - started


def test_a_download_key_is_reported_and_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = "names: [moderate, severe]\ndownload: |\n  open('owned', 'w')\n"
    _, faults = read_data_yaml(write_yaml(tmp_path, text), "set/data.yaml")
    assert [(f.kind, f.file) for f in faults] == [("download-key", "set/data.yaml")]
    assert not (tmp_path / "owned").exists()


def test_bytes_that_are_not_text_are_a_fault_and_not_a_crash(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xff\xfe\x00\x81\n")
    _, faults = read_labels(path, "a.txt", NAMES)
    assert [f.kind for f in faults] == ["not-a-number"]


def test_a_huge_label_file_is_refused_unread(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"0 0.5 0.5 0.5 0.5\n" * 100_000)
    _, faults = read_labels(path, "a.txt", NAMES)
    assert [(f.kind, f.line) for f in faults] == [("unreadable-label", None)]


LONG = "0 " + " ".join(["0.123456789"] * 4)
"""A row of 49 characters."""


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ("0 wide 0.5 0.5 0.5", ("not-a-number", "the row holds text: '0 wide 0.5 0.5 0.5'")),
        ("0 0.5 inf 1 1", ("not-a-number", "the row holds NaN or infinity: '0 0.5 inf 1 1'")),
        ("3 0.5 0.5 0.5 0.5", ("unknown-class", "class 3, the set names 0 = moderate, 1 = severe, "
                               "2 = ignore")),
        ("2 0.5 0.5 0.5 0.5", ("ignored-class", "class 2")),
        ("0 0.5 0.5 0.5", ("malformed-row", "4 numbers: '0 0.5 0.5 0.5'")),
        ("0 0.5 0.5 0.5 0.5 0.9", ("malformed-row", "6 numbers: '0 0.5 0.5 0.5 0.5 0.9'")),
        ("0 " + "0.5 " * 7, ("malformed-row", f"8 numbers: '0{' 0.5' * 7}'")),
        (f"{LONG} {'0.12345678'}", ("malformed-row", f"6 numbers: '{LONG} 0.12345678'")),
        (f"{LONG} {'0.123456789'}", ("malformed-row", f"6 numbers: '{LONG} 0.12345...'")),
        ("0 0.5 0.5 0.5 0.5 7", ("track-id", "track 7")),
        ("0 0.5 0.5 0.5 0.5 " + "7" * 30, ("track-id", "track " + "7" * 20)),
        ("0 0.5 0.5 0.5 0.5 0.9 2", ("track-id", "track 2")),
        ("0 0.5 0.5 0.5 0.5 0.9 1", ("malformed-row", "a triangle, or a box with confidence and "
                                     "track id: '0 0.5 0.5 0.5 0.5 0.9 1'")),
        ("0 0.1 0.1 0.9 0.1 0.9 0.9", ("polygon-row", "3 points")),
        ("0 0.5 0.5 0 0.5", ("near-zero-box", "x 0.5..0.5, y 0.25..0.75")),
    ],
)  # fmt: skip
def test_a_row_is_told_as_it_stands(row, fault):
    _, faults = parse_labels(f"1 0.5 0.5 1 1\n\n{row}\n", "a.txt", (*NAMES, "ignore"))
    assert [(f.kind, f.file, f.line, f.detail) for f in faults] == [
        (fault[0], "a.txt", 3, fault[1])
    ]


def test_a_file_that_ends_inside_a_row_or_has_none_is_told():
    assert parse_labels("1 0.5 0.5 1 1\n0 0.5 0.5 0.5 0.5", "a.txt", NAMES)[1] == [
        Fault("no-final-newline", "a.txt", 2, "the file ends inside a row")
    ]
    assert parse_labels(" \n", "a.txt", NAMES)[1] == [
        Fault("empty-label", "a.txt", None, "no rows")
    ]


def test_a_row_of_a_pose_set_has_all_its_key_points_or_none():
    def parse(row):
        accidents, faults = parse_labels(row + "\n", "a.txt", NAMES, key_points=4)
        return [a.box[:4] for a in accidents], [(f.kind, f.detail) for f in faults]

    box = [(0.25, 0.25, 0.75, 0.75)]
    assert parse("0 0.5 0.5 0.5 0.5") == (box, [])
    posed = [("pose-row", "4 numbers behind the box")]
    assert parse("0 0.5 0.5 0.5 0.5 0.1 0.2 0.3 0.4") == (box, posed)
    row = "0 0.5 0.5 0.5 0.5 0.1 0.2"
    lacking = [("malformed-row", f"7 numbers, `kpt_shape` asks for 9: '{row}'")]
    assert parse(row) == ([], lacking)


def test_what_ends_with_a_coordinate_of_the_edge_is_a_triangle_where_it_is_no_sound_box():
    (accident,), faults = parse_labels("0 0.9 0.2 0.8 0.6 0.5 1\n", "a.txt", NAMES)
    assert accident.box[:4] == (0.5, 0.2, 0.9, 1)  # as a box it would reach out of the frame
    assert [f.kind for f in faults] == ["polygon-row"]


def read(tmp_path, name, text, classes=None):
    (tmp_path / name).write_text(text, "utf-8")
    mapping = classes or {"bump": "moderate", "crash": "severe"}
    return read_names(tmp_path / name, f"set/{name}", Classes(mapping))


def test_class_names_come_from_a_list_of_lines_a_yaml_or_label_studios_notes(tmp_path):
    wanted = ["severe", "moderate"], []
    assert read(tmp_path, "classes.txt", "\ufeff crash \nbump\n\n \n") == wanted
    assert read(tmp_path, "data.yml", "names: [crash, bump]\n") == wanted
    assert read(tmp_path, "DATA.YAML", "names: [crash, bump]\n") == wanted
    rows = [{"id": "1", "name": "bump"}, {"id": 0, "name": "crash"}]
    assert read(tmp_path, "notes.json", json.dumps({"categories": rows})) == wanted
    assert read(tmp_path, "obj.names", "crash\nbump") == wanted  # the notes beside it agree
    blank = {"crash": "severe", "": "ignore", "bump": "moderate"}
    (tmp_path / "notes.json").unlink()
    assert read(tmp_path, "classes.txt", "crash\n\nbump", blank)[0] == [
        "severe",
        "ignore",
        "moderate",
    ]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("notes.json", "{}", "notes.json: expected `categories`, each with `id` and `name`"),
        ("notes.json", '{"categories": [{"id": 0}]}', "notes.json: expected `categories`, each "
         "with `id` and `name`"),
        ("notes.json", '{"categories": 3}', "notes.json: expected `categories`, each with `id` and "
         "`name`"),
        ("notes.json", '{"categories": [{"id": 1, "name": "bump"}]}', "notes.json: class ids of "
         "`names` must be 0, 1, ..., got [1]"),
        ("data.yaml", "names: {'0': bump, 2: crash}", "data.yaml: class ids of `names` must be 0, "
         "1, ..., got ['0', 2]"),
        ("data.yaml", "names: {'²': bump}", "data.yaml: class ids of `names` must be 0, 1, ..., "
         "got ['²']"),
        ("data.yaml", "names: {true: bump}", "data.yaml: class ids of `names` must be 0, 1, ..., "
         "got [True]"),
        ("data.yaml", "names: bump", "data.yaml: `names` must be a list or a mapping, got 'bump'"),
        ("data.yaml", "nc: '2'\nnames: [bump, crash]", "data.yaml: nc is '2' but `names` has 2"),
        ("data.yaml", "classes: [bump]", "data.yaml: expected a mapping with `names`"),
    ],
)  # fmt: skip
def test_class_names_that_say_nothing_sure_are_refused_by_name(tmp_path, name, text, words):
    with pytest.raises(DataError) as refused:
        read(tmp_path, name, text)
    assert str(refused.value) == f"{tmp_path}/{words}"


def test_notes_of_other_classes_are_refused(tmp_path):
    rows = [{"id": 0, "name": "bump"}, {"id": 1, "name": "crash"}]
    (tmp_path / "notes.json").write_text(json.dumps({"categories": rows}))
    with pytest.raises(DataError) as refused:
        read(tmp_path, "classes.txt", "crash\nbump\n")
    assert str(refused.value) == (
        f"{tmp_path}/notes.json: names other classes than classes.txt, or in another order"
    )


def test_a_download_is_told_as_far_as_it_can_be_shown(tmp_path):
    text = f"names: [bump, crash]\nnc: 2\ndownload: {'x' * 100}\n"
    assert read(tmp_path, "data.yaml", text)[1] == [
        Fault("download-key", "set/data.yaml", None, f"download: '{'x' * 79}")
    ]


def test_a_label_file_of_a_mebibyte_is_read_and_none_above_it(tmp_path):
    row = b"0 0.5 0.5 0.5 0.5\n"
    path = tmp_path / "a.txt"
    for size, kinds in ((2**20, []), (2**20 + 1, ["unreadable-label"])):
        path.write_bytes(row + b" " * (size - len(row) - 1) + b"\n")
        accidents, faults = read_labels(path, "set/a.txt", NAMES)
        assert ([f.kind for f in faults], len(accidents)) == (kinds, 1 - len(kinds))
    assert faults[0].file == "set/a.txt"
    assert str(tmp_path) not in faults[0].detail
    path.write_bytes(b"\xef\xbb\xbf" + row)
    assert read_labels(path, "a.txt", NAMES)[1] == []


def test_every_file_of_a_set_is_a_frame_or_a_fault_of_its_own(tmp_path):
    put(
        tmp_path,
        *("images/train/a.jpg", "images/train/lost.jpg", "images/train/bad.jpg"),
        *("images/train/free.jpg", "images/train/notes.mov", "images/val/v.jpg"),
        ("labels/train/a.txt", YOLO),
        ("labels/train/bad.txt", "9 0.5 0.5 0.5 0.5\n"),
        ("labels/train/free.txt", ""),
        ("labels/train/gone.txt", YOLO),
        ("labels/train/odd.csv", "x"),
        ("labels/val/v.txt", YOLO),
        ("data.yaml", "names: [bump, crash]\ndownload: x\n"),
    )
    scanned = scan(tmp_path)
    assert {file: (split, len(boxes)) for file, (split, boxes) in scanned.frames.items()} == {
        "images/train/a.jpg": ("train", 1),
        "images/train/free.jpg": ("train", 0),
        "images/val/v.jpg": ("val", 1),
    }
    assert scanned.published == {"train": 4, "val": 1}
    suffixes = "not one of .bmp .jpeg .jpg .png .tif .tiff .webp"
    assert [(f.kind, f.file, f.line, f.detail) for f in scanned.faults] == [
        ("download-key", "data.yaml", None, "download: 'x'"),
        ("stray-file", "images/train/notes.mov", None, suffixes),
        ("stray-file", "labels/train/odd.csv", None, "not one of .txt"),
        ("orphan-image", "images/train/lost.jpg", None, "has no label file"),
        ("orphan-label", "labels/train/gone.txt", None, "has no image"),
        ("unknown-class", "labels/train/bad.txt", 1, "class 9, the set names 0 = moderate, "
         "1 = severe"),
        ("bad-label", "images/train/bad.jpg", None, "its label has: unknown-class"),
        ("empty-label", "labels/train/free.txt", None, "no rows"),
    ]  # fmt: skip


def test_what_lists_name_and_what_they_do_not_is_told_once(tmp_path):
    put(tmp_path, *(f"images/{name}.jpg" for name in "abcd"))
    put(tmp_path, *((f"labels/{name}.txt", YOLO) for name in "abcde"), "images/deep/x.jpg")
    put(tmp_path, ("train.txt", "images/a.jpg\nimages/b.jpg\nimages/gone.jpg\n"))
    put(tmp_path, ("val.txt", "images/b.jpg\nimages/c.jpg\n"))
    put(tmp_path, ("data.yaml", "train: train.txt\nval: val.txt\nnames: [bump, crash]\n"))
    scanned = scan(tmp_path)
    assert {file: split for file, (split, _) in scanned.frames.items()} == {
        "images/a.jpg": "train", "images/b.jpg": "train", "images/c.jpg": "val",
    }  # fmt: skip
    assert scanned.published == {"train": 2, "val": 1}
    assert [(f.kind, f.file, f.detail) for f in scanned.faults] == [
        ("stray-file", "images/deep", "not one of .bmp .jpeg .jpg .png .tif .tiff .webp"),
        ("orphan-label", "images/gone.jpg", "is listed but is no image"),
        ("orphan-label", "labels/e.txt", "has no image"),
        ("same-split", "images/b.jpg", "belongs to an earlier split than val"),
        ("orphan-image", "images/d.jpg", "is in no list that data.yaml names"),
    ]


def test_a_set_whose_labels_are_not_there_is_refused_by_the_folder(tmp_path):
    put(tmp_path, "images/train/a.jpg", ("data.yaml", "names: [bump, crash]\n"))
    with pytest.raises(DataError) as refused:
        scan(tmp_path)
    assert str(refused.value) == (
        f"{tmp_path}/labels/train: no such folder, but the set's layout needs it"
    )


@pytest.mark.parametrize(
    ("shape", "kinds"),
    [
        ("[2, 2]", {"pose-row": 1}),
        ("[1, 2]", {"malformed-row": 1, "bad-label": 1}),
        ("[1, 3]", {"malformed-row": 1, "bad-label": 1}),
        ("[4, 1]", {"polygon-row": 1}),
        ("[0, 2]", {"polygon-row": 1}),
        ("2", {"polygon-row": 1}),
    ],
)
def test_key_points_are_stated_as_points_and_two_or_three_values(tmp_path, shape, kinds):
    row = "1 0.2 0.2 0.4 0.4 0.3 0.3 0.5 0.5\n"
    put(tmp_path, "images/train/a.jpg", ("labels/train/a.txt", row))
    put(tmp_path, ("data.yaml", f"names: [bump, crash]\nkpt_shape: {shape}\n"))
    assert scan(tmp_path).counts == kinds
