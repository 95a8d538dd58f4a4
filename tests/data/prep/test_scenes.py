import csv
import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from dat_runtime import manifest
from dat_runtime.types import Box, Size
from data.prep import scenes
from data.prep.rendering import frames, places
from data.prep.rendering.bodies import build
from data.prep.rendering.camera import Camera, Canvas
from data.prep.rendering.traffic import collision, moderate, severe
from data.prep.rendering.vehicles import crush, paint

SUN = np.array([0.0, 0.0, 1.0])
COUNTS = ["--train", "6", "--val", "2", "--test", "3", "--negatives", "9"]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("scenes") / "source"
    assert scenes.main(["--out", str(out), *COUNTS]) == 0
    return out


def a_camera(size: int = 320) -> Camera:
    return Camera(size, height=9.0, pitch=0.5, focal=320.0)


def an_empty(camera: Camera) -> Canvas:
    ground = np.full((camera.size, camera.size, 3), 100, np.uint8)
    return Canvas(ground, np.zeros(ground.shape[:2], np.uint8))


def boxes_of(label: Path) -> list[list[float]]:
    return [[float(v) for v in row.split()] for row in label.read_text().splitlines()]


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    def made(seed: int) -> list[bytes]:
        return [jpeg for _, jpeg, _ in scenes.accident_frames(seed, 0, 3, size=160)]

    assert made(1) == made(1)
    assert not set(made(1)) & set(made(2))


def test_no_frame_of_one_split_is_in_another() -> None:
    splits = [
        {jpeg for _, jpeg in scenes.negative_frames(0, split, 2, size=160)} for split in range(3)
    ]
    assert len(set.union(*splits)) == 6


def test_the_folders_are_laid_out_as_the_public_sets(source: Path) -> None:
    manifest.verify(source, kind="source")
    for split, count in (("train", 6), ("valid", 2), ("test", 3)):
        folder = source / "accidents-detection" / split
        images = sorted(p.stem for p in (folder / "images").glob("*.jpg"))
        assert len(images) == count
        assert images == sorted(p.stem for p in (folder / "labels").glob("*.txt"))
    assert "names: [moderate, severe]" in (source / "accidents-detection/data.yaml").read_text()
    classes = source / "accident-detection-from-cctv-footage" / "data"
    assert len(list(classes.glob("*/Non Accident/*.jpg"))) == 9 + 4
    assert {p.parent.name for p in classes.glob("*/Accident")} == {"train", "val", "test"}


def test_labels_are_boxes_inside_the_frame_without_a_final_newline(source: Path) -> None:
    labels = list(source.glob("accidents-detection/*/labels/*.txt"))
    rows = [row for label in labels for row in boxes_of(label)]
    assert len(rows) >= 8
    for kind, cx, cy, w, h in rows:
        assert kind in (0, 1)
        assert 0 <= cx - w / 2 < cx + w / 2 <= 1
        assert 0 <= cy - h / 2 < cy + h / 2 <= 1
        assert max(w, h) > 0.12
    assert not any(label.read_text().endswith("\n") for label in labels)


def test_frames_are_square_colour_pictures_of_640_pixels(source: Path) -> None:
    for path in source.rglob("*.jpg"):
        assert cv2.imread(str(path)).shape == (640, 640, 3)


def test_exact_copies_and_a_stray_shortcut_are_planted_among_the_negatives(source: Path) -> None:
    folder = source / "accident-detection-from-cctv-footage" / "data"
    digests: dict[str, list[Path]] = {}
    for path in folder.glob("*/Non Accident/*.jpg"):
        digests.setdefault(hashlib.sha256(path.read_bytes()).hexdigest(), []).append(path)
    twins = [paths for paths in digests.values() if len(paths) > 1]
    assert len(twins) == 4
    assert any({p.parts[-3] for p in paths} == {"train", "test"} for paths in twins)
    assert (folder / "test" / "Non Accident" / "Pictures - Shortcut.lnk").is_file()


def test_the_trace_is_autocorrelated_bursty_and_dips_to_almost_nothing(source: Path) -> None:
    with (source / "5g-traffic" / "zoom_1s.csv").open() as file:
        rows = list(csv.DictReader(file))
    uplink = np.array([int(row["UL_bitrate"]) for row in rows], float)
    assert len(uplink) == scenes.TRACE_SECONDS
    assert 0.5e6 < np.median(uplink) < 2e6
    assert 0 <= uplink.min() < 0.1e6
    assert np.corrcoef(uplink[:-1], uplink[1:])[0, 1] > 0.6


def test_a_second_run_leaves_the_folder_as_it_is(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (source / "manifest.json").stat().st_mtime_ns
    assert scenes.main(["--out", str(source), *COUNTS]) == 0
    assert "up to date" in capsys.readouterr().out
    assert (source / "manifest.json").stat().st_mtime_ns == before


def test_a_count_below_one_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert scenes.main(["--out", str(tmp_path / "s"), "--train", "0"]) == 1
    assert "train" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_camera_sees_its_focus_in_the_middle_of_the_frame() -> None:
    camera = a_camera()
    assert camera.ground(camera.focus) == pytest.approx([160, 160])
    x, y = camera.ground(camera.focus + 1.0)
    assert x > 160 > y


def test_the_ground_map_agrees_with_the_projection() -> None:
    camera = a_camera()
    x, y, w = camera.homography() @ [2.0, 20.0, 1.0]
    assert camera.ground(np.array([2.0, 20.0])) == pytest.approx([x / w, y / w])


def test_a_vehicles_box_is_what_its_pixels_cover() -> None:
    camera = a_camera()
    canvas = an_empty(camera)
    car = build("sedan", (30, 30, 200)).at(camera.focus, 0.7)
    paint(canvas, camera, car, SUN, owner=1)
    changed = (canvas.image != 100).any(axis=2).astype(np.uint8)
    x, y, w, h = cv2.boundingRect(changed)
    seen = Box(x, y, x + w, y + h, Size(320, 320))
    box = frames._visible(canvas.owner, 1)
    assert box is not None
    assert box.iou(seen) > 0.93


@pytest.mark.parametrize("kind", [moderate, severe])
def test_a_collisions_box_is_the_extent_of_its_geometry(kind: object) -> None:
    camera = a_camera()
    for seed in range(5):
        crash = kind(np.random.default_rng(seed), camera.focus, 0.4)  # type: ignore[operator]
        canvas = an_empty(camera)
        frames.scatter(canvas, camera, crash.debris, owner=1)
        for vehicle in crash.vehicles:
            paint(canvas, camera, vehicle, SUN, owner=1)
        seen = frames._visible(canvas.owner, 1)
        assert seen is not None
        assert seen.iou(frames.extent(camera, crash)) > 0.9


def test_what_hides_a_collision_makes_its_box_smaller() -> None:
    camera = a_camera()
    canvas = an_empty(camera)
    paint(canvas, camera, build("van", (200, 200, 200)).at(camera.focus, 1.5), SUN, owner=1)
    whole = frames._visible(canvas.owner, 1)
    canvas.fill(np.array([[0, 0], [160, 0], [160, 320], [0, 320]]), (0, 0, 0))
    half = frames._visible(canvas.owner, 1)
    assert whole is not None
    assert half is not None
    assert whole.x1 < 150
    assert half.x1 == pytest.approx(160, abs=1)
    assert half.x2 == whole.x2


def test_vehicles_of_a_collision_touch_and_moderate_ones_stand_upright() -> None:
    for seed in range(10):
        crash = moderate(np.random.default_rng(seed), np.array([0.0, 20.0]), 0.3)
        first, second = crash.vehicles
        whole = [build(v.kind, (0, 0, 0)).at(v.position, v.yaw) for v in (first, second)]
        assert 0 < cv2.intersectConvexConvex(*(v.footprint() for v in whole))[0] < 2.5
        assert first.roll == second.roll == 0
        assert not crash.fire


def test_a_severe_collision_overturns_a_vehicle_or_wrecks_two() -> None:
    rng = np.random.default_rng(0)
    crashes = [severe(rng, np.array([0.0, 20.0]), 0.0) for _ in range(30)]
    overturned = [any(abs(v.roll) > 1.2 for v in c.vehicles) for c in crashes]
    assert 15 < sum(overturned) < 30
    for crash, over in zip(crashes, overturned, strict=True):
        assert over or len(crash.vehicles) == 2
        assert len(crash.debris.near) > 30


def test_severities_differ_after_the_frame_is_shrunk() -> None:
    """Same place, same draws: the two kinds of collision leave different thumbnails."""
    place = places.place(np.random.default_rng(4), 320)
    thumbnails = []
    for wanted in ("moderate", "severe"):
        image, accidents = frames.accident(np.random.default_rng(9), place, [wanted])
        assert [a.severity for a in accidents] == [wanted]
        thumbnails.append(cv2.resize(image, (112, 112), interpolation=cv2.INTER_AREA).astype(int))
    difference = np.abs(thumbnails[0] - thumbnails[1]).max(axis=2)
    assert (difference > 40).mean() > 0.02


def test_an_ordinary_frame_has_no_collision_and_its_traffic_does_not_touch() -> None:
    from data.prep.rendering.traffic import traffic

    place = places.place(np.random.default_rng(2), 160)
    cars = traffic(np.random.default_rng(3), place, [], density=0.1)
    assert len(cars) >= 2
    for i, car in enumerate(cars):
        for other in cars[:i]:
            shared = cv2.intersectConvexConvex(car.footprint(), other.footprint())[0]
            assert shared == 0


def test_a_dent_moves_the_body_where_it_was_hit_and_no_wheel() -> None:
    car = build("hatchback", (120, 120, 120))
    dented = crush(car, np.random.default_rng(0), (0.0, 1.9), 0.8)
    assert dented.quads[..., 1].min() == pytest.approx(car.quads[..., 1].min(), abs=0.1)
    front = dented.quads[(dented.groups == 1) & (dented.quads[..., 1].max(axis=1) > 0.5)]
    assert front[..., 1].max() < car.quads[..., 1].max() - 0.15
    assert np.array_equal(dented.quads[dented.groups == 0], car.quads[car.groups == 0])


def test_an_overturned_vehicle_rests_on_the_ground_with_its_wheels_up() -> None:
    car = build("suv", (0, 0, 0)).at((0, 15), 0.4, roll=np.pi)
    quads = car.placed()
    assert quads[..., 2].min() == pytest.approx(0)
    assert quads[car.groups == 0][..., 2].min() > 0.5


def test_collisions_are_placed_on_a_lane_in_view() -> None:
    place = places.place(np.random.default_rng(6), 160)
    for seed in range(5):
        crash = collision(np.random.default_rng(seed), place, "moderate", (0.1, 0.6))
        x, y = place.camera.ground(crash.middle)
        assert -20 < x < 180
        assert 0 < y < 200
