"""Records of pictures: what is in one, and how a file of them is read and emptied."""

from pathlib import Path

import numpy as np
from PIL import Image

from data.prep.pictures import local_features, looks, records
from tests.data.prep.source_builder import scene


def test_a_record_holds_the_view_and_the_features_and_then_nothing() -> None:
    grey = scene(1).convert("L")
    view = looks.view_of(grey)
    (found,) = np.frombuffer(records.record_of(grey, view), records.RECORD)
    assert records.RECORD.itemsize == len(records.NOTHING) == 7361
    assert np.array_equal(found["view"], view)
    count = int(found["count"])
    assert 0 < count <= local_features.MOST
    places, descriptions = local_features.features_of(grey)
    assert len(places) == count
    kept = records.features(found)
    assert np.array_equal(kept.places, places)
    assert np.array_equal(kept.descriptions, descriptions)
    assert not found["places"][count:].any()
    assert not found["descriptions"][count:].any()


def test_a_picture_without_corners_has_no_features() -> None:
    (flat, drawn) = records.of_pictures([Image.new("RGB", (64, 48), (9, 9, 9)), scene(2)])
    assert (flat["count"], drawn["count"] > 0) == (0, True)
    assert set(flat["view"].ravel()) == {9}
    assert records.features(flat).places.shape == (0, 2)
    assert records.features(flat).descriptions.shape == (0, 32)


def test_records_are_read_one_by_one_or_all_and_some_are_forgotten(tmp_path: Path) -> None:
    path = tmp_path / records.NAME
    path.write_bytes(b"")
    assert len(records.read_all(path)) == 0
    made = records.of_pictures([scene(number) for number in range(4)])
    path.write_bytes(made.tobytes())
    assert np.array_equal(records.read_all(path), made)
    for number in (0, 2, 3):
        assert records.read_one(path, number) == made[number].tobytes()
    records.forget(path, [1, 3])
    left = records.read_all(path)
    assert left[1].tobytes() == left[3].tobytes() == records.NOTHING
    assert np.array_equal(left[[0, 2]], made[[0, 2]])
