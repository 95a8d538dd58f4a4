import pytest

from data.prep.importers.source_frame import SourceFrame

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
