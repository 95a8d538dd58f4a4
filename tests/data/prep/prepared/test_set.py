"""What a prepared set is good for besides training: reuse, and other libraries."""

import json

import pytest
import yaml

from dat_runtime.errors import ManifestError
from dat_runtime.manifest import verify
from data.prep.build import main
from data.prep.pictures import prepare
from tests.data.prep.source_builder import BOX, jpeg, picture
from tests.data.prep.test_build import hashes


def build(source, out, *options):
    assert main(["--source", str(source.root), "--out", str(out), *options]) == 0


def counted(monkeypatch):
    """The number of pictures decoded from now on, in a list."""
    decoded = prepare.decoded
    seen = []
    monkeypatch.setattr(prepare, "decoded", lambda data: seen.append(1) or decoded(data))
    return seen


def test_a_further_run_decodes_only_what_changed_and_gives_the_same_set(
    source, tmp_path, monkeypatch
):
    source.frame("tail", BOX, jpeg(picture(62)) + b"x")
    build(source, tmp_path / "data")
    source.frame("new", BOX, jpeg(picture(80)))
    source.negative("new.jpg", jpeg(picture(81)))
    (source.accidents / "train/labels/train0.txt").write_text(BOX.replace("0", "1", 1))
    seen = counted(monkeypatch)
    build(source, tmp_path / "data")
    assert len(seen) == 2
    build(source, tmp_path / "fresh")
    assert hashes(tmp_path / "data") == hashes(tmp_path / "fresh")


def test_an_earlier_image_that_changed_since_is_made_again(source, tmp_path, monkeypatch):
    build(source, tmp_path / "data")
    image = next((tmp_path / "data/images/train").glob("negative_*.jpg"))
    sound = image.read_bytes()
    image.write_bytes(b"spoilt")
    seen = counted(monkeypatch)
    build(source, tmp_path / "data")
    assert len(seen) == 1
    assert image.read_bytes() == sound


def test_a_bit_that_flipped_after_preparation_is_found_and_named(source, tmp_path):
    build(source, tmp_path / "data")
    verify(tmp_path / "data", "data")
    image = tmp_path / "data/images/train/train0.jpg"
    content = bytearray(image.read_bytes())
    content[len(content) // 2] ^= 4
    image.write_bytes(content)
    with pytest.raises(ManifestError, match=r"images/train/train0\.jpg changed"):
        verify(tmp_path / "data", "data")


def test_other_code_reuses_nothing(source, tmp_path):
    build(source, tmp_path / "data")
    assert len(prepare.recall(tmp_path / "data")) == 12
    ledger = tmp_path / "data" / prepare.LEDGER
    ledger.write_text(ledger.read_text().replace('{"code": "', '{"code": "0', 1))
    assert prepare.recall(tmp_path / "data") == {}
    assert prepare.recall(tmp_path / "nowhere") == {}


def test_a_single_class_set_keeps_boxes_and_truth(source, tmp_path):
    source.frame("severe", "1 0.5 0.5 0.25 0.25\n", jpeg(picture(70)))
    build(source, tmp_path / "data", "--single-class")
    assert yaml.safe_load((tmp_path / "data/data.yaml").read_text())["names"] == {0: "accident"}
    label = (tmp_path / "data/labels/train/severe.txt").read_text()
    assert label == "0 0.50000000 0.50000000 0.25000000 0.25000000\n"
    assert '"severity": "severe"' in (tmp_path / "data/truth_train.jsonl").read_text()


@pytest.mark.parametrize(
    ("scale", "first"), [("1.0", "0,1000"), ("0.5", "0,500"), ("0.25", "0,250")]
)
def test_the_trace_is_scaled(source, tmp_path, scale, first):
    build(source, tmp_path / "data", "--scale", scale)
    assert (tmp_path / "data/bandwidth.csv").read_text().splitlines()[1:] == [
        f"0,{1000 * float(scale):g}",
        f"1,{3000 * float(scale):g}",
    ]
    report = json.loads((tmp_path / "data/report.json").read_text())
    assert report["trace"]["scale"] == float(scale)


def test_a_set_loads_with_datasets_without_code(source, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    build(source, tmp_path / "data")
    loaded = datasets.load_dataset(str(tmp_path / "data"), cache_dir=str(tmp_path / "cache"))
    assert {name: len(part) for name, part in loaded.items()} == {
        name: json.loads((tmp_path / "data/report.json").read_text())["splits"][name]["frames"]
        for name in ("train", "val", "test")
    }
    row = next(r for r in loaded["val"] if r["image_id"] == "valid0")
    assert row["image"].size == (row["width"], row["height"]) == (64, 48)
    assert row["objects"] == {"bbox": [[24, 18, 40, 30]], "category": [0]}


def test_ray_gives_the_same_set_as_threads(source, tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    ray = pytest.importorskip("ray", reason="Ray is not installed (requirements/ray.txt)")
    source.frame("tail", BOX, jpeg(picture(62)) + b"x")
    build(source, tmp_path / "threads")
    try:
        ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        build(source, tmp_path / "ray", "--engine", "ray")
    finally:
        ray.shutdown()
    assert hashes(tmp_path / "threads") == hashes(tmp_path / "ray")
