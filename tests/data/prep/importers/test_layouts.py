"""Each exporter's layout to the letter of its format, and the frames that it means."""

import json
import shutil

import pytest

from dat_runtime.errors import ConfigError, DataError
from data.prep.build import main
from data.prep.importers import cctv, yolo
from data.prep.importers.classes import Classes
from data.prep.importers.source_frame import Ids
from data.prep.importers.sources import find_sources
from tests.data.prep.importers.scanning import BOX, YOLO, put, scan
from tests.data.prep.importers.test_voc import voc

SEVERE = [BOX]
NAMES = "names:\n  0: bump\n  1: crash\n"


def by_split(scanned):
    """Split -> how many frames with the one severe box."""
    splits = [split for split, boxes in scanned.frames.values() if boxes == SEVERE]
    assert len(splits) == len(scanned.frames)
    return {split: splits.count(split) for split in sorted(set(splits), key=str)}


def coco_json(*files, boxed=True, **image):
    """A COCO file of the given pictures, each with one severe box."""
    size = {"width": 64, "height": 48}
    images = [{"id": i, "file_name": f, **size, **image} for i, f in enumerate(files, 1)]
    box = {"category_id": 2, "bbox": [16.0, 12.0, 32.0, 24.0], "area": 768.0, "iscrowd": 0}
    rows = [{"id": i["id"], "image_id": i["id"], "segmentation": [], **box} for i in images]
    categories = [{"id": 1, "name": "bump"}, {"id": 2, "name": "crash"}]
    return json.dumps(
        {"licenses": [], "info": {}, "categories": categories, "images": images}
        | {"annotations": rows if boxed else []}
    )


def ultralytics(root, yaml, names=("train", "val", "test"), first="images"):
    for split in names:
        inner = f"images/{split}" if first == "images" else f"{split}/images"
        put(
            root,
            f"{inner}/{split}1.jpg",
            (f"{inner}/{split}1.txt".replace("images", "labels"), YOLO),
        )
    return put(root, yaml)


STATED = "path: ../datasets/mine\ntrain: images/train\nval: images/val\ntest: images/test\n"


@pytest.mark.parametrize("name", ["data.yaml", "data.yml", "mine.yaml", "dataset.yaml"])
def test_ultralytics_keeps_images_and_labels_apart(tmp_path, name):
    scanned = scan(ultralytics(tmp_path, (name, STATED + NAMES)))
    assert (scanned.layout, by_split(scanned)) == ("yolo", {"test": 1, "train": 1, "val": 1})
    assert scanned.faults == []


@pytest.mark.parametrize(
    "stated",
    [
        "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n",
        "train: /content/mine/train/images\nval: /content/mine/valid/images\n",
        "train: [train/images]\nval: [valid/images]\n",
        "train: .\\train\\images\nval: .\\valid\\images\n",
        "nc: 2\ntrain:\nval:\n",
    ],
)
def test_roboflow_keeps_splits_apart_whatever_its_paths_say(tmp_path, stated):
    root = ultralytics(tmp_path, ("data.yaml", stated + NAMES), ("train", "valid", "test"), "split")
    assert by_split(scan(root)) == {"test": 1, "train": 1, "val": 1}


def test_lists_of_pictures_name_the_splits_of_one_folder(tmp_path):
    for name in ("a", "b", "c"):
        put(tmp_path, f"images/{name}.jpg", (f"labels/{name}.txt", YOLO))
    put(tmp_path, ("train.txt", "./images/a.jpg\n/home/me/set/images/gone.jpg\n"))
    put(tmp_path, ("val.txt", "images/b.jpg\n"))
    put(tmp_path, ("data.yaml", "train: train.txt\nval: val.txt\n" + NAMES))
    scanned = scan(tmp_path)
    assert by_split(scanned) == {"train": 1, "val": 1}
    assert scanned.counts == {"orphan-image": 1, "orphan-label": 1}  # c is in no list


def test_cvats_ultralytics_export_has_a_list_and_one_split(tmp_path):
    put(tmp_path, "images/train/dir/f 1.jpg", ("labels/train/dir/f 1.txt", YOLO))
    put(tmp_path, ("train.txt", "images/train/dir/f 1.jpg\n"))
    put(tmp_path, ("data.yaml", "path: ./\ntrain: train.txt\n" + NAMES))
    assert by_split(scan(tmp_path)) == {"train": 1}


def test_cvats_darknet_export_has_labels_beside_pictures(tmp_path):
    put(tmp_path, ("obj.names", "bump\ncrash\n"), ("train.txt", "data/obj_train_data/a.jpg\n"))
    put(tmp_path, ("obj.data", "classes = 2\nnames = data/obj.names\ntrain = data/train.txt\n"))
    for split in ("train", "valid"):
        put(tmp_path, f"obj_{split}_data/{split}.jpg", (f"obj_{split}_data/{split}.txt", YOLO))
    scanned = scan(tmp_path)
    assert (by_split(scanned), scanned.faults) == ({"train": 1, "val": 1}, [])


def test_fiftyones_yolo_exports(tmp_path):
    five = tmp_path / "five"
    stated = "path: /home/me/five\ntrain: ./images/train/\nval: ./images/val/\n"
    ultralytics(five, ("dataset.yaml", NAMES + stated), ("train", "val"))
    assert by_split(scan(five)) == {"train": 1, "val": 1}
    four = put(tmp_path / "four", ("obj.names", "bump\ncrash\n"), ("images.txt", "data/a.jpg\n"))
    put(four, "data/a.jpg", ("data/a.txt", YOLO))
    assert by_split(scan(four)) == {None: 1}


def test_label_studios_yolo_export_has_no_splits(tmp_path):
    put(tmp_path, "images/1f-a.jpg", ("labels/1f-a.txt", YOLO), ("classes.txt", "bump\ncrash\n"))
    notes = {"categories": [{"id": 0, "name": "bump"}, {"id": 1, "name": "crash"}], "info": {}}
    put(tmp_path, ("notes.json", json.dumps(notes)))
    scanned = scan(tmp_path)
    assert (scanned.layout, by_split(scanned), scanned.published) == ("yolo", {None: 1}, {})
    notes["categories"][0]["name"] = "fire"
    put(tmp_path, ("notes.json", json.dumps(notes)))
    with pytest.raises(DataError, match="names other classes than"):
        scan(tmp_path)


def test_labelimg_writes_yolo_beside_the_pictures(tmp_path):
    put(tmp_path, "a.jpg", ("a.txt", YOLO), ("classes.txt", "bump\ncrash\n"))
    scanned = scan(tmp_path)
    assert (by_split(scanned), scanned.faults) == ({None: 1}, [])


def test_a_picture_that_two_splits_name_counts_once(tmp_path):
    put(tmp_path, "images/train/a.jpg", ("labels/train/a.txt", YOLO))
    put(tmp_path, ("coco8.yaml", "train: images/train\nval: images/train\n" + NAMES))
    scanned = scan(tmp_path)
    assert (by_split(scanned), scanned.counts) == ({"train": 1}, {"same-split": 1})


def test_more_than_ten_classes_keep_their_ids(tmp_path):
    names = "".join(f"  {i}: car{i}\n" for i in range(11)) + "  '11': crash\n"
    put(tmp_path, "images/train/a.jpg", ("labels/train/a.txt", YOLO.replace("1", "11", 1)))
    put(tmp_path, ("data.yaml", "train: images/train\nnames:\n" + names))
    meanings = {f"car{i}": "ignore" for i in range(11)} | {"crash": "severe"}
    assert by_split(scan(tmp_path, Classes(meanings))) == {"train": 1}


@pytest.mark.parametrize("place", ["{}/images/a.jpg", "images/{}/a.jpg"])
def test_val_beside_valid_is_an_error_and_not_a_choice(tmp_path, place):
    for split in ("train", "val", "valid"):
        picture = place.format(split)
        put(tmp_path, picture, (picture.replace("images", "labels").replace("jpg", "txt"), YOLO))
    put(tmp_path, ("data.yaml", NAMES))
    with pytest.raises(DataError, match="is the split val, and so is"):
        scan(tmp_path)


def test_two_data_yaml_are_an_error(tmp_path):
    ultralytics(tmp_path, ("data.yaml", NAMES))
    put(tmp_path, ("data.yml", NAMES))
    with pytest.raises(DataError, match="which one counts cannot be known"):
        scan(tmp_path)


@pytest.mark.parametrize("images", ["images", "images/default"])
def test_cvats_coco_export(tmp_path, images):
    put(tmp_path, f"{images}/a b.jpg", ("annotations/instances_default.json", coco_json("a b.jpg")))
    scanned = scan(tmp_path)
    assert (scanned.layout, by_split(scanned), scanned.faults) == ("coco", {None: 1}, [])


def test_cvats_coco_export_of_subsets(tmp_path):
    for split in ("Train", "Validation"):
        put(tmp_path, f"images/{split}/{split}.jpg")
        put(tmp_path, (f"annotations/instances_{split}.json", coco_json(f"{split}.jpg")))
    assert by_split(scan(tmp_path)) == {"train": 1, "val": 1}


def test_cocos_own_folders_with_years(tmp_path):
    for split in ("train2017", "val2017"):
        put(tmp_path, f"{split}/000{split}.jpg")
        put(tmp_path, (f"annotations/instances_{split}.json", coco_json(f"000{split}.jpg")))
    assert by_split(scan(tmp_path)) == {"train": 1, "val": 1}


@pytest.mark.parametrize(
    "stated", ["images/1f-a.jpg", "images\\1f-a.jpg", "/data/upload/7/1f-a.jpg", "1f-a.jpg"]
)
def test_label_studios_coco_export(tmp_path, stated):
    put(tmp_path, "images/1f-a.jpg", ("result.json", coco_json(stated)))
    scanned = scan(tmp_path)
    assert (by_split(scanned), scanned.faults) == ({None: 1}, [])


def test_fiftyones_coco_export_alone_and_in_splits(tmp_path):
    put(tmp_path / "one", "data/a.jpg", ("labels.json", coco_json("a.jpg")))
    assert by_split(scan(tmp_path / "one")) == {None: 1}
    for split in ("train", "validation"):
        put(tmp_path / "two", f"{split}/data/a.jpg", (f"{split}/labels.json", coco_json("a.jpg")))
    assert by_split(scan(tmp_path / "two")) == {"train": 1, "val": 1}


def test_files_named_after_splits_beside_one_folder_of_pictures(tmp_path):
    put(tmp_path, "images/a.jpg", "images/b.jpg", "images/c.jpg")
    put(tmp_path, ("train.json", coco_json("a.jpg")), ("val.json", coco_json("b.jpg")))
    put(tmp_path, ("latest.json", coco_json("c.jpg")))
    scanned = scan(tmp_path)
    assert by_split(scanned) == {"train": 1, "val": 1}
    assert [f.file for f in scanned.faults] == ["images/c.jpg"]


def test_voc_beside_its_pictures_and_in_the_folders_of_each_tool(tmp_path):
    xml = voc("crash")
    for images, xmls in (
        (".", "."),
        ("JPEGImages", "Annotations"),
        ("images", "Annotations"),  # Label Studio
        ("images", "annotations"),  # by hand
        ("data", "labels"),  # FiftyOne
        ("JPEGImages/cam 1", "Annotations/cam 1"),  # CVAT
    ):
        root = tmp_path / f"{images}-{xmls}".replace("/", "_")
        put(root, f"{images}/a.jpg", (f"{xmls}/a.xml", xml), ("labelmap.txt", "# label\n"))
        scanned = scan(root)
        assert (scanned.layout, by_split(scanned)) == ("voc", {None: 1}), root
        kinds = scanned.counts.keys()
        assert kinds <= {"stray-file"}


@pytest.mark.parametrize("order", ["{split}/images/a.jpg {split}/annotations/a.xml",
                                   "images/{split}/a.jpg annotations/{split}/a.xml",
                                   "{split}/data/a.jpg {split}/labels/a.xml",
                                   "{split}/a.jpg {split}/a.xml"])  # fmt: skip
def test_voc_in_folders_of_splits(tmp_path, order):
    for split in ("train", "val"):
        image, xml = order.format(split=split).split()
        put(tmp_path, image, (xml, voc("crash")))
    assert by_split(scan(tmp_path)) == {"train": 1, "val": 1}


def test_leftovers_of_macos_are_no_pictures(tmp_path):
    ultralytics(tmp_path, ("data.yaml", STATED + NAMES))
    put(tmp_path, ("__MACOSX/images/train/._train1.jpg", "x"), ("._data.yaml", "x"))
    put(tmp_path, ("images/train/._train1.jpg", "x"), ("labels/train/._train1.txt", "x"))
    put(tmp_path, ("images/.DS_Store", "x"), ("labels/train/.DS_Store", "x"))
    scanned = scan(tmp_path)
    assert by_split(scanned) == {"test": 1, "train": 1, "val": 1}
    assert scanned.counts == {"system-file": 3}


@pytest.mark.parametrize(
    "spelling", ["Non Accident", "non accident", "non_accident", "NonAccident", "No-Accident"]
)
def test_accident_free_frames_in_any_spelling_and_two_splits(tmp_path, spelling):
    accidents = ultralytics(tmp_path / "set", ("data.yaml", NAMES))
    for split in ("train", "Testing"):
        put(tmp_path / "cctv", f"{split}/{spelling}/clip1_{split}.jpg", f"{split}/Accident/x.jpg")
    sources = find_sources(accidents, tmp_path / "cctv", without=("trace",))
    frames, faults = cctv.scan(sources, Ids())
    assert [(f.split, f.negative) for f in frames] == [("train", True), ("test", True)]
    assert faults == []
    put(tmp_path / "cctv", "train/no accident/a.jpg")
    with pytest.raises(DataError, match="join them"):
        find_sources(accidents, tmp_path / "cctv", without=("trace",))


def test_a_set_without_valid_or_test_says_how_to_split_it_anew(tmp_path):
    root = ultralytics(tmp_path, ("data.yaml", NAMES), ("train",))
    sources = find_sources(root, without=("negatives", "trace"))
    scanned = yolo.scan(sources, Classes({"bump": "moderate", "crash": "severe"}), Ids())
    with pytest.raises(ConfigError, match=r"split val and test .*--leak-free makes new splits"):
        scanned.demand_splits(root)


def test_a_prepared_set_is_a_source_again(source, tmp_path):
    first, second = tmp_path / "one", tmp_path / "two"
    assert main(["--source", str(source.root), "--out", str(first)]) == 0
    shutil.copytree(first, tmp_path / "copied")
    arguments = ["--source", str(tmp_path / "copied"), "--without", "negatives", "trace"]
    assert main([*arguments, "--out", str(second)]) == 0
    for split in ("train", "val", "test"):
        truths = [
            (out / f"truth_{split}.jsonl").read_text().splitlines() for out in (first, second)
        ]
        assert truths[0] == truths[1]
