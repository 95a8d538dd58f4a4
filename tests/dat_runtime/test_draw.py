"""Golden pixels: a changed pixel of a boxed image is a new DRAWING_VERSION."""

import hashlib
import io

import cv2
import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dat_runtime.draw import (
    COLOURS,
    DRAWING_VERSION,
    MAX_PIXELS,
    PATCH,
    Image,
    boxed_at,
    boxed_image,
    encode_jpeg,
    encode_png,
    encode_seen,
    is_too_long,
    model_frame,
    representative_roi,
    resize,
    roi_corners,
    roi_crop,
    seen_as_png,
    size_of,
)
from dat_runtime.types import Box, Detection, Severity, Size


def grey(width: int, height: int) -> Image:
    return np.full((height, width, 3), 90, np.uint8)


def noise(width: int, height: int) -> Image:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def detection(
    x1: float,
    y1: float,
    x2: float,
    y2: float,
    severity: Severity | None = "severe",
    p: float = 0.9,
) -> Detection:
    return Detection(Box(x1, y1, x2, y2, Size(200, 120)), severity, p)


def test_a_box_is_drawn_inside_its_edges_in_the_colour_of_its_severity() -> None:
    boxed = boxed_image(grey(200, 120), [detection(10, 20, 15, 24, "moderate")])
    drawn = (boxed != 90).any(axis=2)
    expected = np.zeros((120, 200), bool)
    expected[20:24, 10:15] = True
    expected[21:23, 11:14] = False
    assert (drawn == expected).all()
    assert (boxed[drawn] == COLOURS["moderate"]).all()


def test_boxed_images_have_the_pixels_of_version_2() -> None:
    assert DRAWING_VERSION == 2
    assert COLOURS == {"moderate": (0, 165, 255), "severe": (0, 0, 255), None: (255, 0, 255)}
    frame = Size(640, 360)
    detections = [
        Detection(Box(100.5, 50.5, 300, 200, frame), "severe", 0.9),
        Detection(Box(250, 150, 700, 355, frame), "moderate", 0.5),
        Detection(Box(20, 20, 22, 21, frame), "severe", 0.3),
    ]
    boxed = boxed_image(grey(640, 360), detections)
    assert (
        hashlib.sha256(boxed.tobytes()).hexdigest()
        == "85301aa711ea81f5fabfbe8e75ab15a71065c7a9d959311d75960232726507d6"
    )


def test_a_box_of_unknown_severity_has_a_colour_of_its_own() -> None:
    boxed = boxed_image(grey(200, 120), [detection(10, 20, 50, 60, None)])
    assert tuple(boxed[20, 10]) == COLOURS[None]
    assert len(set(COLOURS.values())) == 3


def test_the_surest_box_lies_on_top() -> None:
    same = (10, 10, 60, 60)
    boxed = boxed_image(
        grey(200, 120), [detection(*same, "severe", 0.9), detection(*same, "moderate", 0.4)]
    )
    assert tuple(boxed[10, 10]) == COLOURS["severe"]


def test_drawing_leaves_the_image_of_the_caller_alone() -> None:
    image = grey(200, 120)
    boxed_image(image, [detection(10, 10, 60, 60)])
    roi_crop(image, detection(10, 10, 60, 60))[:] = 0
    assert (image == 90).all()


def test_boxes_follow_the_size_of_the_image() -> None:
    boxed = boxed_image(grey(400, 240), [detection(10, 20, 50, 60)])
    rows, columns = np.nonzero((boxed != 90).any(axis=2))
    assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (20, 40, 100, 120)


def test_a_crop_is_where_the_detection_lies_in_an_image_of_another_size() -> None:
    assert roi_corners(Size(400, 360), detection(10, 20, 50, 60)) == (12, 48, 108, 192)


edges = st.floats(-50, 250)


@given(x1=edges, y1=edges, x2=edges, y2=edges)
def test_no_pixel_outside_a_box_changes_wherever_the_box_lies(
    x1: float, y1: float, x2: float, y2: float
) -> None:
    one = detection(min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2))
    left, top, right, bottom = one.box.pixels()
    boxed = boxed_image(grey(200, 120), [one])
    boxed[top:bottom, left:right] = 90
    assert (boxed == 90).all()


def test_a_crop_has_its_margin_and_stays_inside_the_frame() -> None:
    image = noise(200, 120)
    assert (roi_crop(image, detection(100, 50, 120, 60)) == image[49:61, 98:122]).all()
    assert (roi_crop(image, detection(0, 0, 200, 120)) == image).all()


def test_the_roi_of_an_event_is_severe_before_small() -> None:
    image = noise(200, 120)

    def jpeg_of(detections: list[Detection]) -> bytes:
        roi = representative_roi(image, detections)
        assert roi is not None
        return roi.jpeg

    moderate = detection(0, 0, 8, 8, "moderate")
    small, large = detection(50, 50, 70, 70), detection(80, 20, 180, 110)
    expected = encode_jpeg(roi_crop(image, small))
    assert jpeg_of([large, moderate, small]) == expected
    assert jpeg_of([moderate]) == encode_jpeg(roi_crop(image, moderate))
    unknown = detection(50, 50, 70, 70, None)
    assert jpeg_of([moderate, unknown]) == expected
    assert representative_roi(image, []) is None


def test_the_roi_of_an_event_is_the_smallest_in_bytes_and_of_the_quality_asked() -> None:
    image = noise(200, 120)
    image[:, :100] = 90
    flat, busy = detection(5, 5, 95, 115), detection(120, 40, 160, 80)
    for detections in ([flat, busy], [busy, flat]):
        roi = representative_roi(image, detections, quality=30)
        assert roi is not None
        assert roi.corners == roi_corners(size_of(image), flat)
        assert roi.jpeg == encode_jpeg(roi_crop(image, flat), 30)


def test_lines_are_a_hundredth_of_the_shorter_side_and_stay_inside_a_box_thinner_than_two() -> None:
    boxed = boxed_image(grey(300, 150), [detection(20, 20, 100, 100)])
    assert (boxed[75, :75, 2] != 90).sum() == 2  # 1.5 pixels, rounded
    frame = Size(800, 600)  # lines of six pixels
    for box in (Box(100, 100, 103, 160, frame), Box(100, 100, 160, 103, frame)):
        left, top, right, bottom = box.pixels()
        boxed = boxed_image(grey(800, 600), [Detection(box, "severe", 0.9)])
        assert (boxed[top:bottom, left:right] == COLOURS["severe"]).all()
        boxed[top:bottom, left:right] = 90
        assert (boxed == 90).all()


def test_a_crop_of_another_margin_is_that_much_larger() -> None:
    one = detection(50, 40, 90, 60)
    assert roi_crop(grey(200, 120), one, 0.5).shape == (40, 80, 3)
    assert roi_crop(grey(200, 120), one, 0.0).shape == (20, 40, 3)


def test_an_roi_says_where_it_lies_in_the_frame() -> None:
    image = noise(200, 120)
    roi = representative_roi(image, [detection(100, 50, 120, 60)])
    assert roi is not None
    assert roi.corners == (98, 49, 122, 61)
    edge = representative_roi(image, [detection(150, 100, 200, 120)])
    assert edge is not None
    assert edge.corners == (145, 98, 200, 120)


@pytest.mark.parametrize(
    ("frame", "limit", "expected"),
    [
        (Size(640, 640), MAX_PIXELS, Size(644, 644)),
        (Size(644, 644), MAX_PIXELS, Size(644, 644)),
        (Size(640, 640), 12544, Size(112, 112)),
        (Size(640, 640), 50176, Size(224, 224)),
        (Size(1920, 1080), MAX_PIXELS, Size(1316, 728)),
        (Size(1920, 1080), 12544, Size(140, 84)),
        (Size(333, 777), 50176, Size(140, 336)),
        (Size(333, 777), MAX_PIXELS, Size(336, 784)),
    ],
)
def test_the_frame_of_the_model_is_that_of_the_published_processor(
    frame: Size, limit: int, expected: Size
) -> None:
    assert model_frame(frame, limit) == expected


@given(width=st.integers(1, 3000), height=st.integers(1, 3000))
def test_a_model_frame_is_in_whole_units_within_the_limit_and_stays_as_it_is(
    width: int, height: int
) -> None:
    if max(width, height) > 10 * min(width, height):
        return  # rounding to units may double the ratio, and above 20 a frame is refused
    frame = model_frame(Size(width, height))
    assert frame.width % PATCH == frame.height % PATCH == 0
    assert frame.pixels <= MAX_PIXELS
    assert model_frame(frame) == frame


def test_impossible_model_frames_are_refused() -> None:
    with pytest.raises(ValueError, match="side ratio"):
        model_frame(Size(1, 201))
    with pytest.raises(ValueError, match="unit fits"):
        model_frame(Size(10, 10), max_pixels=700)


def test_a_model_frame_may_have_the_very_limits_and_those_that_leave_no_unit_are_refused() -> None:
    assert model_frame(Size(60, 50), max_pixels=56 * 56, min_pixels=28 * 28) == Size(56, 56)
    assert model_frame(Size(60, 50), max_pixels=10**6, min_pixels=56 * 56) == Size(56, 56)
    assert model_frame(Size(28, 28), max_pixels=784, min_pixels=784) == Size(28, 28)
    for most, least in ((783, 0), (1000, 1001)):
        with pytest.raises(ValueError, match=f"min_pixels={least}, max_pixels={most}"):
            model_frame(Size(28, 28), max_pixels=most, min_pixels=least)


def test_a_small_frame_grows_to_the_least_and_one_of_twenty_to_one_is_just_short_enough() -> None:
    assert model_frame(Size(30, 40)) == Size(56, 84)
    assert not is_too_long(Size(2000, 100))
    assert is_too_long(Size(100, 2001))


def test_an_image_shrinks_by_area_and_grows_or_keeps_its_area_bilinearly() -> None:
    def resized(rows: list[list[int]], width: int, height: int) -> list[list[int]]:
        image = np.repeat(np.array(rows, np.uint8)[..., None], 3, axis=2)
        grown = resize(image, Size(width, height))
        assert grown.dtype == np.uint8
        return [list(map(int, row)) for row in grown[..., 0]]

    lines = [[0, 100, 200, 40, 0, 100, 200, 40]] * 2
    assert resized(lines, 2, 1) == [[85, 85]]
    assert resized(lines, 6, 2) == [[25, 150, 80, 25, 150, 80]] * 2
    steps = [[0] * 8, [100] * 8]
    for width in (4, 8):
        assert [row[0] for row in resized(steps, width, 4)] == [0, 25, 75, 100]


def test_the_quality_of_a_jpeg_is_the_one_that_was_asked_for() -> None:
    sizes = [len(encode_jpeg(noise(64, 64), quality)) for quality in (20, 75, 95)]
    assert sizes[0] < sizes[1] < sizes[2]
    assert encode_jpeg(noise(64, 64)) == encode_jpeg(noise(64, 64), 75)


def test_resizing_keeps_an_image_that_has_the_size() -> None:
    image = noise(56, 28)
    assert resize(image, Size(56, 28)) is image
    assert size_of(resize(image, Size(28, 28))) == Size(28, 28)
    assert size_of(resize(image, Size(84, 56))) == Size(84, 56)


def test_png_keeps_every_pixel_and_jpeg_the_size() -> None:
    image = noise(40, 30)
    png = cv2.imdecode(np.frombuffer(encode_png(image), np.uint8), cv2.IMREAD_COLOR)
    jpeg = cv2.imdecode(np.frombuffer(encode_jpeg(image), np.uint8), cv2.IMREAD_COLOR)
    assert (png == image).all()
    assert jpeg.shape == image.shape


def rgb(encoded: bytes) -> np.ndarray:
    with PIL.Image.open(io.BytesIO(encoded)) as image:
        return np.asarray(image.convert("RGB"))


@settings(deadline=None)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 2**32 - 1), st.integers(0, 3))
def test_two_decoders_see_the_same_pixels(
    width: int, height: int, seed: int, smoothing: int
) -> None:
    """Pillow reads the JPEG where models are tuned, OpenCV where questions are asked."""
    noise = np.random.default_rng(seed).integers(0, 256, (28 * height, 28 * width, 3), np.uint8)
    image = cv2.blur(noise, (1 + 2 * smoothing, 1 + 2 * smoothing))
    seen = encode_seen(image)
    assert (rgb(seen) == rgb(seen_as_png(seen))).all()


def test_a_line_of_one_pixel_keeps_its_colour_in_what_the_mllm_sees() -> None:
    """With halved colour, as a JPEG has by default, a red line on grey would turn brown."""
    image = grey(56, 56)
    image[20, 4:50] = COLOURS["severe"]
    red = rgb(encode_seen(image))[20, 10:44].astype(int)
    assert np.abs(red - (255, 0, 0)).max() < 16


def test_what_is_no_jpeg_goes_to_an_endpoint_as_it_is() -> None:
    png = encode_png(grey(28, 28))
    assert seen_as_png(png) is png


def test_a_damaged_jpeg_is_refused() -> None:
    with pytest.raises(ValueError, match="a damaged JPEG"):
        seen_as_png(encode_seen(grey(28, 28))[:20])


@pytest.mark.parametrize("size", [Size(200, 120), Size(140, 84)])
def test_drawing_at_a_size_is_resizing_before_drawing_and_leaves_the_frame_alone(
    size: Size,
) -> None:
    frame = np.random.default_rng(5).integers(0, 256, (120, 200, 3), np.uint8)
    before = frame.copy()
    boxes = [detection(10, 20, 80, 90)]
    assert (boxed_at(frame, size, boxes) == boxed_image(resize(frame, size), boxes)).all()
    assert (frame == before).all()
