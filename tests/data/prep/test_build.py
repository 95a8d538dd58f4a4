import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from dat_runtime.manifest import verify
from data.prep.build import main
from data.prep.importers.faults import RULES
from tests.data.prep.source_builder import BOX, jpeg, picture

REAL = Path(__file__).parents[4] / "shared" / "data"


def hashes(folder):
    return {
        p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def build(source, out, *options):
    return main(["--source", str(source.root), "--out", str(out), *options])


def report_of(out):
    return json.loads((out / "report.json").read_text())


def truth_of(out, split):
    return [json.loads(line) for line in (out / f"truth_{split}.jsonl").read_text().splitlines()]


def kinds_of(out):
    return report_of(out)["faults"]["counts"]


def test_a_sound_source_gives_the_whole_tree_and_no_fault(source, tmp_path, capsys):
    out = tmp_path / "data"
    assert build(source, out, "--strict") == 0
    assert verify(out, "data")
    report = report_of(out)
    assert report["faults"]["list"] == []
    assert [s["accident_set"] for s in report["splits"].values()] == [2, 2, 2]
    assert sum(s["negatives"] for s in report["splits"].values()) == 6
    assert (out / "bandwidth.csv").read_text() == "second,uplink_bytes_per_s\n0,1000\n1,3000\n"
    for split in ("train", "val", "test"):
        truth = truth_of(out, split)
        assert [t["image"] for t in truth] == [f"images/{split}/{t['image_id']}.jpg" for t in truth]
        images = {p.stem for p in (out / "images" / split).iterdir()}
        labels = {p.stem for p in (out / "labels" / split).iterdir()}
        assert images == labels == {t["image_id"] for t in truth}
    assert "[data]" in capsys.readouterr().out


def test_accident_frames_keep_split_bytes_and_boxes(source, tmp_path):
    build(source, tmp_path / "data")
    original = source.accidents / "valid" / "images" / "valid0.jpg"
    assert (tmp_path / "data/images/val/valid0.jpg").read_bytes() == original.read_bytes()
    assert (tmp_path / "data/labels/val/valid0.txt").read_text() == (
        "0 0.50000000 0.50000000 0.25000000 0.25000000\n"
    )
    line = next(t for t in truth_of(tmp_path / "data", "val") if t["image_id"] == "valid0")
    assert (line["width"], line["height"]) == (64, 48)
    assert line["accidents"] == [{"bbox": [24, 18, 40, 30], "severity": "moderate"}]


def test_negatives_are_640_background_images_with_empty_labels(source, tmp_path):
    build(source, tmp_path / "data")
    images = sorted((tmp_path / "data" / "images").rglob("negative_*.jpg"))
    assert len(images) == 6
    for image in images:
        with Image.open(image) as opened:
            assert opened.size == (640, 640)
        assert Path(str(image).replace("images", "labels")).with_suffix(".txt").read_text() == ""


def test_our_data_yaml_is_path_free_and_runs_nothing(source, tmp_path):
    build(source, tmp_path / "data")
    text = (tmp_path / "data" / "data.yaml").read_text()
    content = yaml.safe_load(text)
    assert text.startswith("# python -m train.gate")
    assert content["names"] == {0: "moderate", 1: "severe"}
    assert "download" not in content
    assert str(tmp_path) not in text


def test_the_order_of_the_sources_names_decides_the_class(source, tmp_path):
    (source.accidents / "data.yaml").write_text("names: [severe, moderate]\n")
    build(source, tmp_path / "data")
    assert (tmp_path / "data/labels/train/train0.txt").read_text().startswith("1 ")
    assert truth_of(tmp_path / "data", "train")[-1]["accidents"][0]["severity"] == "severe"


def test_two_builds_are_equal_and_the_source_is_unchanged(source, tmp_path):
    source.frame("a", "0 0.5 0.5 0.9 1.2", jpeg(picture(50))[:-2] + b"junk")
    before = hashes(source.root)
    build(source, tmp_path / "one")
    build(source, tmp_path / "two")
    assert hashes(tmp_path / "one") == hashes(tmp_path / "two")
    assert hashes(source.root) == before


def test_a_second_run_does_nothing_until_the_source_changes(source, tmp_path, capsys):
    build(source, tmp_path / "data")
    capsys.readouterr()
    build(source, tmp_path / "data")
    assert "up to date" in capsys.readouterr().out
    source.frame("new", BOX, jpeg(picture(51)))
    build(source, tmp_path / "data")
    assert (tmp_path / "data/images/train/new.jpg").exists()


def test_the_seed_moves_negatives_only(source, tmp_path):
    for number in range(30):
        source.negative(f"n{number}.jpg", jpeg(picture(200 + number)))
    build(source, tmp_path / "a")
    build(source, tmp_path / "b", "--seed", "1")
    one, two = hashes(tmp_path / "a" / "images"), hashes(tmp_path / "b" / "images")
    moved = one.keys() ^ two.keys()
    assert moved
    assert all("negative_" in name for name in moved)


def plant_polygon(source):
    source.frame("bad", "1 0.1 0.1 0.5 0.1 0.5 0.5", jpeg(picture(60)))
    return {"polygon-row": 1, "no-final-newline": 1}


def plant_outside(source):
    source.frame("bad", "1 0.95 0.5 0.2 0.2\n", jpeg(picture(60)))
    return {"outside-frame": 1}


def plant_near_zero(source):
    source.frame("bad", "1 0.5 0.5 0.2 0.2\n0 0 0 0 0\n", jpeg(picture(60)))
    return {"near-zero-box": 1}


def plant_only_near_zero(source):
    source.frame("bad", "0 0 0 0.0001 0\n", jpeg(picture(60)))
    return {"near-zero-box": 1, "no-usable-box": 1}


def plant_duplicate_row(source):
    source.frame("bad", BOX + BOX, jpeg(picture(60)))
    return {"duplicate-row": 1}


def plant_two_classes(source):
    source.frame("bad", BOX + "1" + BOX[1:], jpeg(picture(60)))
    return {"two-classes": 1}


def plant_empty_label(source):
    source.frame("bad", "", jpeg(picture(60)))
    return {"empty-label": 1}


def plant_orphans(source):
    source.frame("bad", None, jpeg(picture(60)))
    source.frame("worse", BOX, None)
    return {"orphan-image": 1, "orphan-label": 1}


def plant_strays(source):
    source.negative("Pictures - Shortcut.lnk", b"L\0\0\0", "test")
    (source.accidents / "train" / "images" / "Thumbs.db").write_bytes(b"x")
    (source.accidents / "train" / "labels" / "old").mkdir()
    return {"stray-file": 1, "system-file": 1}


def plant_same_name(source):
    source.frame("bad", BOX, jpeg(picture(60)), suffix=".jpeg")
    source.frame("bad", BOX, jpeg(picture(61)), suffix=".jpg")
    return {"same-name": 1}


def plant_unreadable(source):
    source.frame("empty", BOX, b"")
    source.frame("html", BOX, b"<html>404</html>")
    source.frame("cut", BOX, jpeg(picture(60, 320, 240))[:-300])
    source.negative("cut.jpg", jpeg(picture(61, 320, 240))[:-300])
    return {"empty-file": 1, "not-an-image": 1, "corrupt-image": 2}


def plant_bomb(source):
    Image.new("1", (9000, 9000)).save(source.accidents / "train" / "images" / "bad.png")
    source.frame("bad", BOX, None)
    return {"image-size": 1}


def plant_modes(source):
    exif = Image.Exif()
    exif[0x0112] = 6
    source.frame("rotated", BOX, jpeg(picture(60), exif=exif))
    source.frame("cmyk", BOX, jpeg(picture(61).convert("CMYK")))
    source.frame("tail", BOX, jpeg(picture(62)) + b"x")
    deep = np.arange(64 * 48, dtype=np.uint16).reshape(48, 64) * 20
    Image.fromarray(deep).save(source.accidents / "train" / "images" / "deep.png")
    source.frame("deep", BOX, None)
    return {"rotated-image": 1, "colour-mode": 2, "not-jpeg": 1, "bad-jpeg-end": 1}


def plant_copied_negatives(source):
    source.negative("copy.jpg", jpeg(picture(100)), "test")
    return {"duplicate-negative": 1}


def plant_contradiction(source):
    source.negative("accident.jpg", jpeg(picture(0)))
    return {"conflicting-labels": 2}


def plant_copied_frames(source):
    source.frame("copy", BOX, jpeg(picture(0)), "test")
    return {"duplicate-frame": 1}


def plant_download(source):
    with (source.accidents / "data.yaml").open("a") as file:
        file.write("download: |\n  raise SystemExit\n")
    return {"download-key": 1}


PLANTED = [value for name, value in list(globals().items()) if name.startswith("plant_")]


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_a_repairable_fault_is_counted_and_listed_and_refused_when_strict(
    source, tmp_path, capsys, plant
):
    expected = plant(source)
    assert build(source, tmp_path / "data") == 0
    faults = report_of(tmp_path / "data")["faults"]
    assert faults["counts"] == expected
    assert len(faults["list"]) == sum(expected.values())
    assert all((source.root / f["file"]).exists() for f in faults["list"])
    assert faults["rules"] == {kind: RULES[kind] for kind in faults["counts"]}
    capsys.readouterr()
    assert build(source, tmp_path / "strict", "--strict") == 1
    told = capsys.readouterr().err
    assert any(f["file"] in told and f["kind"] in told for f in faults["list"])
    assert list(tmp_path.glob("strict*")) == []


@pytest.mark.parametrize(
    ("label", "kind"),
    [
        (BOX + "7 0.5 0.5 0.1 0.1\n", "unknown-class"),
        (BOX + "0 nan 0.5 0.1 0.1\n", "not-a-number"),
        (BOX + "0 0.5 0.1 0.1\n", "malformed-row"),
        (BOX + "0 300 200 10 10\n", "not-normalised"),
    ],
)
def test_what_cannot_be_repaired_stops_with_file_and_line(source, tmp_path, capsys, label, kind):
    source.frame("bad", label, jpeg(picture(60)))
    assert build(source, tmp_path / "data") == 1
    assert f"train/labels/bad.txt:2: {kind}" in capsys.readouterr().err
    assert list(tmp_path.glob("data*")) == []


def test_every_kind_of_fault_has_its_bad_example():
    planted = set()
    for plant in PLANTED:
        planted |= {kind for kind in RULES if kind in plant.__code__.co_consts.__repr__()}
    refused = {kind for kind, rule in RULES.items() if rule.startswith("refused")}
    of_other_layouts = {"ignored-class", "size-mismatch"}  # importers/test_coco.py
    of_other_layouts |= {"none-class", "only-ignored", "crowd-region", "listed-twice", "no-size"}
    of_other_layouts |= {"other-annotations", "same-split", "track-id", "pose-row", "bad-label"}
    assert planted | refused | of_other_layouts == set(RULES)


def test_boxes_of_a_rotated_frame_are_of_the_upright_picture(source, tmp_path):
    plant_modes(source)
    build(source, tmp_path / "data")
    line = next(t for t in truth_of(tmp_path / "data", "train") if t["image_id"] == "rotated")
    assert (line["width"], line["height"]) == (48, 64)
    assert line["accidents"][0]["bbox"] == [18, 24, 30, 40]
    with Image.open(tmp_path / "data" / line["image"]) as image:
        assert image.size == (48, 64)
        assert 0x0112 not in image.getexif()


def test_a_copy_in_another_split_is_kept_and_reported(source, tmp_path):
    plant_copied_frames(source)
    build(source, tmp_path / "data")
    assert report_of(tmp_path / "data")["exact_copies_across_splits"] == 1
    assert (tmp_path / "data/images/test/copy.jpg").exists()


def test_the_earliest_of_equal_negatives_stays(source, tmp_path):
    source.negative("zz_copy.jpg", jpeg(picture(100)), "train")
    build(source, tmp_path / "data")
    (fault,) = report_of(tmp_path / "data")["faults"]["list"]
    assert fault["file"].endswith("zz_copy.jpg")
    assert fault["detail"].endswith("train/Non Accident/train0.jpg")


def test_ids_are_unique_and_safe_whatever_the_names(source, tmp_path):
    for number, (stem, split) in enumerate(
        [("same", "train"), ("same", "valid"), ("SAME", "test"), ("ü ../%2e ;rm", "train")]
    ):
        source.frame(stem.replace("/", "_"), BOX, jpeg(picture(70 + number)), split)
    build(source, tmp_path / "data")
    ids = [t["image_id"] for s in ("train", "val", "test") for t in truth_of(tmp_path / "data", s)]
    assert len({i.lower() for i in ids}) == len(ids) == 16
    assert all(i.replace("_", "").replace("-", "").isalnum() and i.isascii() for i in ids)


def test_a_split_without_usable_frames_is_refused(source, tmp_path, capsys):
    for image in (source.accidents / "valid" / "images").iterdir():
        image.write_bytes(b"")
    assert build(source, tmp_path / "data") == 1
    assert "no usable frame in the split val" in capsys.readouterr().err


@pytest.mark.parametrize("where", ["", "accidents-detection/out", ".."])
def test_the_output_may_not_lie_in_the_source_nor_around_it(source, capsys, where):
    before = hashes(source.root)
    assert build(source, source.root / where) == 1
    assert "may not lie inside each other" in capsys.readouterr().err
    assert hashes(source.root) == before


def test_an_unknown_flag_is_refused(source, tmp_path):
    with pytest.raises(SystemExit) as caught:
        build(source, tmp_path / "data", "--frobnicate")
    assert caught.value.code == 2


@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_dir(), reason="../shared/data is not there")
def test_the_real_frames_give_their_known_counts(tmp_path):
    options = ["--on-conflict", "keep"]
    assert main(["--source", str(REAL), "--out", str(tmp_path / "data"), *options]) == 0
    report = report_of(tmp_path / "data")
    assert [s["accident_set"] for s in report["splits"].values()] == [286, 60, 81]
    assert sum(s["moderate_boxes"] + s["severe_boxes"] for s in report["splits"].values()) == 478
    assert report["negatives"]["exact_duplicates"] == 15
    assert report["negatives"]["kept"] == 435
    assert report["faults"]["counts"] == {
        "no-final-newline": 427,
        "stray-file": 1,
        "duplicate-negative": 15,
        "conflicting-labels": 93,
    }
