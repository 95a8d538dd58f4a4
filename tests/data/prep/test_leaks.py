"""Looks, links, groups and the split that tears none of them apart."""

import io
import json

import numpy as np
import pytest
from PIL import Image, ImageOps

from data.prep.build import main
from data.prep.importers.source_frame import SourceFrame
from data.prep.pictures import looks
from data.prep.splitting import by_groups
from tests.data.prep.source_builder import BOX, jpeg, picture


def scene(seed, side=320):
    """A picture with structure at several scales, as a street has."""
    rng = np.random.default_rng(seed)
    canvas = np.zeros((side, side, 3))
    for cells in (3, 6, 12, 24):
        layer = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        canvas += np.asarray(layer.resize((side, side), Image.Resampling.BICUBIC), float)
    return Image.fromarray((canvas / 4).astype(np.uint8))


def encoded(image, quality=80):
    return Image.open(io.BytesIO(jpeg(image, quality=quality))).convert("RGB")


def noisy(image):
    noise = np.random.default_rng(0).normal(0, 12, (*image.size[::-1], 3))
    return Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))


COPIES = {
    "encoded anew at quality 30": lambda p: encoded(p, 30),
    "half the size": lambda p: encoded(p.resize((160, 160))),
    "another shape": lambda p: p.resize((320, 180)),
    "mirrored": lambda p: encoded(ImageOps.mirror(p)),
    "upside down": ImageOps.flip,
    "turned by 90 degrees": lambda p: p.rotate(90),
    "turned by 270 degrees and mirrored": lambda p: ImageOps.mirror(p.rotate(270)),
    "grey": lambda p: encoded(p.convert("L").convert("RGB")),
    "noisy": lambda p: encoded(noisy(p), 90),
    "brightened": lambda p: p.point([round(255 * (v / 255) ** (1 / 1.5)) for v in range(256)] * 3),
}


@pytest.mark.parametrize("change", COPIES.values(), ids=COPIES)
def test_a_copy_looks_like_its_original(change):
    for seed in range(20):
        original = scene(seed)
        copy = looks.look_of(change(original))
        assert looks.distance(looks.look_of(original), copy) <= looks.SAME_PICTURE


def test_unrelated_pictures_do_not_look_alike():
    found = [looks.look_of(scene(seed, 64)) for seed in range(1000)]
    pairs = np.concatenate(list(looks.alike(found, 255)))
    assert len(pairs) == 1000 * 999 // 2
    assert pairs[:, 2].min() > looks.SAME_PICTURE


def test_all_pairs_of_all_blocks_are_compared_once(monkeypatch):
    rng = np.random.default_rng(0)
    found = [rng.bytes(32) for _ in range(50)]
    found[41], found[7], found[8] = found[3], found[30], found[30]
    monkeypatch.setattr(looks, "_BLOCK", 16)
    pairs = np.concatenate(list(looks.alike(found, 0)))[:, :2].tolist()
    assert sorted(pairs) == [[3, 41], [7, 8], [7, 30], [8, 30]]


@pytest.mark.parametrize(
    ("stem", "clip", "original"),
    [
        ("test12_34", "test12", None),
        ("5_0005_g34", "5", None),
        ("acc1 (5)", "acc1", None),
        ("compA_0962_g00", "compa", None),
        ("frame", None, None),
        ("0012", None, None),
        ("video_mp4-962_jpg.rf.30cbaaea37b7525394eed99326ef1e84", "video_mp4", "video_mp4-962"),
    ],
)
def test_names_tell_clip_and_original(tmp_path, stem, clip, original):
    frame = SourceFrame("a", "train", tmp_path / f"{stem}.jpg", "a.jpg")
    assert (frame.clip, frame.original) == (clip, original)


def _look(path):
    with Image.open(path) as image:
        return looks.look_of(image.convert("RGB"))


def report_of(out):
    return json.loads((out / "report.json").read_text())


@pytest.fixture
def leaky(source):
    """Twelve scenes with boxes of both classes; some of train have twins in valid and test."""
    for i in range(24):
        image = scene(i)
        source.frame(f"s{i}", BOX.replace("0", str(i % 2), 1), jpeg(image))
        if i % 3 == 0:
            source.frame(f"twin{i}", BOX, jpeg(ImageOps.mirror(image), quality=50), "valid")
        if i % 3 == 1:
            source.frame(f"again{i}", BOX, jpeg(image), "test")
    return source


def test_planted_twins_are_told_by_kind_with_a_sheet_of_pairs(leaky, tmp_path):
    assert main(["--source", str(leaky.root), "--out", str(tmp_path / "data")]) == 0
    report = report_of(tmp_path / "data")
    twins = report["leaks"]["frames_with_a_twin"]
    assert twins["val in train"] == {"exact": 0, "near": 8, "same-source": 0, "same-clip": 0}
    assert twins["test in train"] == {"exact": 8, "near": 0, "same-source": 0, "same-clip": 0}
    assert report["leaks"]["groups_across_splits"] == 16
    assert report["split"] == "published"
    listed = json.loads((tmp_path / "data/leaks.json").read_text())
    pairs = {tuple(sorted(row["frames"])) for row in listed}
    assert ("train/s0", "val/twin0") in pairs
    assert len(pairs) == 16
    for kind in ("exact", "near"):
        with Image.open(tmp_path / f"data/leaks/{kind}.jpg") as sheet:
            assert sheet.width > 800


def test_frames_that_belong_together_are_listed_in_one_group(leaky, tmp_path):
    out = tmp_path / "data"
    main(["--source", str(leaky.root), "--out", str(out)])
    groups = json.loads((out / "groups.json").read_text())
    for split, members in groups.items():
        assert members.keys() == {image.stem for image in (out / "images" / split).iterdir()}
    of = {name: group for members in groups.values() for name, group in members.items()}
    assert of["s0"] == of["twin0"] == "s0"
    assert len(set(of.values())) == report_of(out)["leaks"]["groups"]


def test_a_leak_free_split_tears_no_group_apart_and_keeps_the_classes(leaky, tmp_path):
    out = tmp_path / "data"
    assert main(["--source", str(leaky.root), "--out", str(out), "--leak-free"]) == 0
    report = report_of(out)
    assert report["split"] == "leak-free"
    assert report["leaks"]["groups_across_splits"] == 0
    assert sum(sum(k.values()) for k in report["leaks"]["frames_with_a_twin"].values()) == 0
    assert json.loads((out / "manifest.json").read_text())["config"]["split"] == "leak-free"
    images = sorted((out / "images").rglob("*.jpg"))
    again = np.concatenate(list(looks.alike([_look(image) for image in images])))
    assert len(again) >= 16
    assert all(images[i].parent == images[j].parent for i, j, _ in again.tolist())
    total = sum(s["accident_set"] for s in report["splits"].values())
    assert total == 6 + 24 + 16
    for counts in report["splits"].values():
        assert counts["moderate_boxes"] >= 1
        assert counts["severe_boxes"] >= 1


def test_copies_by_roboflows_names_belong_together(source, tmp_path):
    for split, digest in (("train", "a" * 32), ("valid", "b" * 32), ("test", "c" * 32)):
        cut = scene(90 if split == "train" else 90 + len(split))
        source.frame(f"one_jpg.rf.{digest}", BOX, jpeg(cut), split)
    main(["--source", str(source.root), "--out", str(tmp_path / "data")])
    twins = report_of(tmp_path / "data")["leaks"]["frames_with_a_twin"]
    assert twins["val in train"]["same-source"] == 1
    assert twins["test in train"]["same-source"] == 1


def test_negatives_of_a_clip_stay_together_when_asked(source, tmp_path):
    for clip in range(12):
        for number in range(4):
            content = jpeg(picture(300 + 10 * clip + number))
            source.negative(f"test{clip}_{number}.jpg", content, ("train", "val", "test")[clip % 3])
    out = tmp_path / "data"
    main(["--source", str(source.root), "--out", str(out), "--negatives-by-clip"])
    where = {}
    for image in (out / "images").rglob("negative_test*_*.jpg"):
        where.setdefault(image.stem.rpartition("_")[0], set()).add(image.parent.name)
    assert len(where) == 12
    assert all(len(names) == 1 for names in where.values())
    assert report_of(out)["negatives"]["split_by"] == "clip"
    assert set().union(*where.values()) == {"train", "val", "test"}


@pytest.mark.parametrize("seed", range(5))
def test_groups_go_where_the_shares_are_short(seed):
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, 300, 1000).tolist()
    strata = ["severe" if rng.random() < 0.2 else "moderate" for _ in groups]
    contents = [f"{i}" for i in range(1000)]
    shares = {s: {"train": 70, "val": 15, "test": 15} for s in ("severe", "moderate")}
    found = by_groups.by_groups(groups, strata, contents, shares, seed)
    assert len(set(zip(groups, found, strict=True))) == len(set(groups))
    for stratum in ("severe", "moderate"):
        of = [split for split, s in zip(found, strata, strict=True) if s == stratum]
        for split, share in (("train", 0.7), ("val", 0.15), ("test", 0.15)):
            assert abs(of.count(split) / len(of) - share) < 0.03
