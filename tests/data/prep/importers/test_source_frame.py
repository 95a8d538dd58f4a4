import pytest

from data.prep.importers.source_frame import SourceFrame


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
