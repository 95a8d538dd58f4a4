"""Pictures: the model's frame, the boxed image, ROI crops (after Eq. 2), encoding.

Images are `uint8` arrays of shape (height, width, 3), BGR. Only `draw_box` changes its input.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from dat_runtime.family import QWEN2_5_VL
from dat_runtime.types import Detection, Severity, Size

DRAWING_VERSION = 2
"""Changes whenever a pixel of a boxed image, or of what the MLLM sees, would."""

Image = NDArray[np.uint8]

COLOURS: dict[Severity | None, tuple[int, int, int]] = {
    "moderate": (0, 165, 255),
    "severe": (0, 0, 255),
    None: (255, 0, 255),
}
"""BGR: orange, red, and magenta for an unknown severity; the prompt names them."""

PATCH = QWEN2_5_VL.unit
"""Side of the unit of an image that one token stands for, pixels."""

MAX_PIXELS = 1003520
"""Default pixel limit of a model image (1,280 units of 28 x 28)."""

MIN_PIXELS = QWEN2_5_VL.least_pixels
"""The least of a model image."""


SEEN_QUALITY = 95
"""Of the JPEG that decides the pixels of a model image (docs/decisions/021)."""

MAX_SIDE_RATIO = 20
"""Of a model image: what is longer would be shrunk or cut to a strip that shows nothing."""


def size_of(image: Image) -> Size:
    return Size(width=image.shape[1], height=image.shape[0])


def model_frame(
    frame: Size,
    max_pixels: int = MAX_PIXELS,
    min_pixels: int = MIN_PIXELS,
    unit: int = PATCH,
) -> Size:
    """The size at which a model sees a frame: sides are multiples of its unit within the limits.

    After `smart_resize` of the Qwen2-VL image processor in Transformers.

    An image stored at this size is left alone by LLaMA-Factory, Transformers and servers, so an
    answer's boxes are on the image that was sent (`docs/decisions/002-model-frame.md`).

    Raises:
        ValueError: the limits leave no room for one unit, or a side ratio is above 20.
    """
    if max_pixels < unit * unit or min_pixels > max_pixels:
        raise ValueError(
            f"no {unit}-pixel unit fits min_pixels={min_pixels}, max_pixels={max_pixels}"
        )
    if is_too_long(frame):
        raise ValueError(f"side ratio above {MAX_SIDE_RATIO}: {frame.width} x {frame.height}")
    width = max(unit, round(frame.width / unit) * unit)
    height = max(unit, round(frame.height / unit) * unit)
    if width * height > max_pixels:
        scale = math.sqrt(max_pixels / frame.pixels)
        width = max(unit, math.floor(frame.width * scale / unit) * unit)
        height = max(unit, math.floor(frame.height * scale / unit) * unit)
    elif width * height < min_pixels:
        scale = math.sqrt(min_pixels / frame.pixels)
        width = math.ceil(frame.width * scale / unit) * unit
        height = math.ceil(frame.height * scale / unit) * unit
    return Size(width, height)


def is_too_long(frame: Size) -> bool:
    """Whether the MLLM cannot be asked about a frame for its side ratio; the gate still can."""
    return max(frame.width, frame.height) > MAX_SIDE_RATIO * min(frame.width, frame.height)


def resize(image: Image, size: Size) -> Image:
    """The image at another size: by area when it shrinks, bilinear when it grows."""
    if size_of(image) == size:
        return image
    shrinks = size.pixels < image.shape[0] * image.shape[1]
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return _uint8(cv2.resize(image, (size.width, size.height), interpolation=interpolation))


def boxed_image(image: Image, detections: Sequence[Detection]) -> Image:
    """Î = Draw(I, D⁺): a copy of the image with each detection framed in its severity's colour.

    Lines are one hundredth of the shorter side, at least one pixel, and lie inside the box, so no
    pixel outside a box changes. The least confident is drawn first: the most confident ends on top.
    """
    return _with_boxes(image.copy(), detections)


def boxed_at(image: Image, size: Size, detections: Sequence[Detection]) -> Image:
    """The boxed image of a frame at another size, resized before it is drawn on; a copy."""
    resized = resize(image, size)
    return _with_boxes(image.copy() if resized is image else resized, detections)


def _with_boxes(boxed: Image, detections: Sequence[Detection]) -> Image:
    """The same array, drawn on."""
    for detection in sorted(detections, key=lambda d: d.confidence):
        corners = detection.box.to(size_of(boxed)).pixels()
        draw_box(boxed, corners, COLOURS[detection.severity])
    return boxed


def draw_box(
    image: Image, corners: tuple[int, int, int, int], colour: tuple[int, int, int]
) -> None:
    """Frame one box in the image itself, its lines as `boxed_image` draws them.

    Args:
        corners: `(x1, y1, x2, y2)`, whole pixels; right and bottom exclusive. colour: BGR.
    """
    x1, y1, x2, y2 = corners
    line = max(1, round(min(image.shape[:2]) / 100))
    # A thick line is drawn as nested thin ones: cv2 would put half of its width outside.
    innermost = (min(x2 - x1, y2 - y1) + 1) // 2
    for inset in range(min(line, innermost)):
        top_left = (x1 + inset, y1 + inset)
        bottom_right = (x2 - 1 - inset, y2 - 1 - inset)
        cv2.rectangle(image, top_left, bottom_right, colour, 1, cv2.LINE_8)


class Roi(NamedTuple):
    """A crop of a frame.

    Attributes:
        jpeg: the crop, encoded.
        corners: `(x1, y1, x2, y2)` of it in whole pixels of the frame; right and bottom exclusive.
    """

    jpeg: bytes
    corners: tuple[int, int, int, int]


def roi_corners(
    frame: Size, detection: Detection, margin: float = 0.1
) -> tuple[int, int, int, int]:
    """Where the ROI of a detection lies: its box with a margin (share of its sides), clipped."""
    x1, y1, x2, y2 = detection.box.to(frame).pixels()
    dx, dy = round((x2 - x1) * margin), round((y2 - y1) * margin)
    return max(0, x1 - dx), max(0, y1 - dy), min(x2 + dx, frame.width), min(y2 + dy, frame.height)


def roi_crop(image: Image, detection: Detection, margin: float = 0.1) -> Image:
    """I_roi = Crop(I, R): the detection with its margin, a copy."""
    x1, y1, x2, y2 = roi_corners(size_of(image), detection, margin)
    return image[y1:y2, x1:x2].copy()


def representative_roi(
    image: Image, detections: Sequence[Detection], quality: int = 75
) -> Roi | None:
    """The one ROI that an event keeps: of the severe ones if any, the smallest in bytes.

    Unknown severity counts as severe.
    """
    severe = [detection for detection in detections if detection.severity != "moderate"]
    rois = []
    for detection in severe or detections:
        crop = roi_crop(image, detection)
        rois.append(Roi(encode_jpeg(crop, quality), roi_corners(size_of(image), detection)))
    return min(rois, key=lambda roi: len(roi.jpeg), default=None)


def encode_jpeg(image: Image, quality: int = 75) -> bytes:
    """The image as JPEG bytes, as it leaves an edge node."""
    return _encode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])


def encode_seen(image: Image) -> bytes:
    """A model image as JPEG bytes: their pixels are what the MLLM sees, in training and after.

    Colour keeps its full resolution, so that the lines of boxes stay crisp and every decoder that
    follows libjpeg gives the same pixels.
    """
    full_colour = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    return _encode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, SEEN_QUALITY, *full_colour])


def seen_as_png(encoded: bytes) -> bytes:
    """The pixels of `encode_seen` as PNG bytes: alike for every decoder, whichever a server has.

    Bytes that are no JPEG come back as they are.

    Raises:
        ValueError: the JPEG is damaged.
    """
    if not encoded.startswith(b"\xff\xd8"):
        return encoded
    pixels = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)
    if pixels is None:
        raise ValueError("a damaged JPEG")
    return encode_png(_uint8(pixels))


def encode_png(image: Image) -> bytes:
    """The image as PNG bytes, without loss."""
    return _encode(".png", image, [])


def _encode(suffix: str, image: Image, parameters: list[int]) -> bytes:
    done, encoded = cv2.imencode(suffix, image, parameters)
    if not done:
        raise ValueError(f"cannot encode an image of shape {image.shape} as {suffix}")
    return bytes(encoded)


def _uint8(array: Any) -> Image:
    return np.asarray(array, dtype=np.uint8)
