from dataclasses import replace
from pathlib import Path

import pytest

from dat_runtime.errors import ConfigError
from dat_runtime.types import Accident, Box
from data.prep.importers.labels import UNIT
from data.prep.importers.source_frame import Ids, Scan, SourceFrame, stratum_of

DIGEST = "30cbaaea37b7525394eed99326ef1e84"


@pytest.mark.parametrize(
    ("stem", "clip", "number", "original"),
    [
        ("test12_34", "test12", (34,), None),
        ("5_0005_g34", "5", (5,), None),
        ("acc1 (5)", "acc1", (5,), None),
        ("compA_0962_g00", "compa", (962,), None),
        ("frame", None, (), None),
        ("frame12", "frame", (12,), None),
        ("Dash3Frame0012", "dash3frame", (12,), None),
        ("0012", None, (), None),
        ("test16", None, (), None),
        (f"video_mp4-962_jpg.rf.{DIGEST}", "video_mp4", (962,), "video_mp4-962"),
        (f"5_9_jpg.rf.{DIGEST}", "5", (9,), "5_9"),
        ("cam1-2024-05-31-10-15-00", "cam1-2024-05-31", (10, 15, 0), None),
        ("cam1_20240531_101500", "cam1_20240531", (101500,), None),
        ("IMG_1234", None, (), None),
        ("IMG_20240531_101500", None, (), None),
        ("WhatsApp-Image-2023-05-01-at-10-20-30-AM-1-", None, (), None),
        ("vlcsnap-2018-03-01-13h36m08s195", None, (), None),
        ("DJI_0012", None, (), None),
        ("1a2b3c4d-test16_40", "test16", (40,), None),
        ("1a2b3c4d-IMG_1", None, (), None),
        ("20240531-12", None, (), None),
        ("20240531_101500", None, (), None),
        (f"OIP-51-_jpg.rf.{DIGEST}", None, (), "OIP-51-"),
        ("ezgif-frame-001", None, (), None),
        ("imagery_12", "imagery", (12,), None),
    ],
)
def test_names_tell_clip_number_and_original(tmp_path, stem, clip, number, original):
    frame = SourceFrame("a", "train", tmp_path / f"{stem}.jpg", "a.jpg")
    assert (frame.clip, frame.number, frame.original) == (clip, number, original)


def test_ids_are_safe_names_that_differ_by_more_than_case():
    ids = Ids()
    names = ["a b", "A_B", "_-a  b-_", "../a/b", "ä", "", "x" * 101, "x" * 120, "Frame"]
    assert [ids.of(name) for name in names] == [
        *("a_b", "A_B-2", "a_b-3", "a_b-4", "frame", "frame-2", "x" * 100, "x" * 100 + "-2"),
        "Frame-3",
    ]
    assert Ids().of("a-2") == "a-2"
    taken = Ids()
    assert [taken.of("a-2"), taken.of("a"), taken.of("a"), taken.of("A")] == [
        *("a-2", "a", "a-3", "A-4"),
    ]


@pytest.mark.parametrize(
    ("severities", "stratum"),
    [([], "empty"), (["moderate"], "moderate"), (["moderate", "severe", "moderate"], "severe")],
)
def test_a_frame_belongs_to_its_highest_severity(severities, stratum):
    box = Box(0.1, 0.1, 0.2, 0.2, UNIT)
    accidents = tuple(Accident(box, severity) for severity in severities)
    assert stratum_of(accidents) == stratum
    frame = SourceFrame("a", None, Path("a.jpg"), "a.jpg", accidents)
    assert frame.stratum == stratum
    assert replace(frame, negative=True).stratum == "negative"


def test_a_source_has_all_splits_or_none_are_kept():
    def refusal(published):
        with pytest.raises(ConfigError) as refused:
            Scan([], [], published).demand_splits(Path("source"))
        return str(refused.value)

    Scan([], [], {"train": 1, "val": 1, "test": 1}).demand_splits(Path("source"))
    assert refusal({}) == "source has no splits: --leak-free makes them (70 : 15 : 15)"
    advice = "of source (--leak-free makes new splits of all frames, 70 : 15 : 15)"
    assert refusal({"train": 1, "val": 0, "test": 2}) == (
        f"no usable frame in the split val {advice}"
    )
    assert refusal({"val": 3}) == f"no usable frame in the split train and test {advice}"
