"""Whether one picture is a crop or a small turn of another, by local features.

A look describes the whole picture, so a crop or a turn by a few degrees changes most of it. The
corners of the picture stay: each picture gives up to 96 of its strongest ORB features (Rublee et
al., "ORB: an efficient alternative to SIFT or SURF", 2011). Where enough features of two pictures
agree on one affine map (RANSAC, Fischler and Bolles, 1981), the map is refined by the pixels (ECC,
Evangelidis and Psarakis, 2008), one picture is laid over the other by it, and the looks of what
both show are compared. So a logo, a time stamp or a dashboard that two pictures share does not join
them.
"""

import io
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from dat_runtime.errors import DataError
from data.prep.pictures import decode, looks

SIDE = 256
"""Pictures are compared at this size, stretched to a square as exports do; a byte holds a place."""
MOST = 96
"""Features of a picture. With 64, 5 % of the crops by 10 % a side are missed."""

_FEW = 6
"""Features that must agree on one map; three determine it."""
_REACH = 4.0
"""Pixels by which a feature may miss the place that the map gives it."""
_SAME_CORNER = 64
"""Bits of 256 in which two descriptions of one corner may differ."""
_LEAST_SCALE, _MOST_SCALE = 0.5, 2.0
"""How much smaller or larger one picture may show what the other shows."""
_LEAST_OVERLAP = 0.3
"""The least share of a picture that the other must show too."""
_THUMBNAIL = 64
_REFINING = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 30, 1e-4)
_BLUR = 3
_BLACK = 4
"""What lies outside a turned picture is black, and belongs to neither."""


class Features(NamedTuple):
    """The features of one picture.

    Attributes:
        places: (n, 2), x and y in a picture of 256 x 256.
        descriptions: (n, 32), 256 bits each.
    """

    places: NDArray[np.uint8]
    descriptions: NDArray[np.uint8]


def features_of(path: Path) -> Features:
    """Up to 96 features of a picture, the strongest first."""
    # Each call has its own detector: threads may not share one.
    orb = cv2.ORB_create(nfeatures=MOST, nlevels=6, edgeThreshold=16, fastThreshold=5)
    found, descriptions = orb.detectAndCompute(_grey(path), None)
    if descriptions is None:
        return Features(np.empty((0, 2), np.uint8), np.empty((0, 32), np.uint8))
    strength = [-point.response for point in found]
    strongest = np.argsort(strength, kind="stable")[:MOST]
    places = np.array([point.pt for point in found], np.uint8)
    return Features(places[strongest], descriptions[strongest])


def mapped(first: Features, second: Features) -> NDArray[np.float64] | None:
    """(2, 3): the affine map on which features of both pictures agree; None if there is none.

    In pixels of thumbnails, see `thumbnail`.
    """
    here, there = _matches(first, second)
    if len(here) < _FEW:
        return None
    found, agreeing = cv2.estimateAffine2D(
        here, there, method=cv2.RANSAC, ransacReprojThreshold=_REACH, maxIters=1000
    )
    if found is None or agreeing.sum() < _FEW:
        return None
    scales = np.linalg.svd(found[:, :2], compute_uv=False)
    if scales.min() < _LEAST_SCALE or scales.max() > _MOST_SCALE:
        return None
    # The middle of the first pixel is (0, 0) at either size.
    scale = _THUMBNAIL / SIDE
    corner = np.full(2, (scale - 1) / 2)
    found[:, 2] = scale * found[:, 2] + corner - found[:, :2] @ corner
    return found


def _matches(first: Features, second: Features) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The places of the features that are each other's most similar ones."""
    if min(len(first.places), len(second.places)) < _FEW:
        nothing = np.empty((0, 2), np.float32)
        return nothing, nothing
    rows, columns = (each.descriptions.view(np.uint64) for each in (first, second))
    differing = np.bitwise_count(rows[:, None] ^ columns[None]).sum(axis=2, dtype=np.int64)
    nearest = differing.argmin(axis=1)
    index = np.arange(len(rows))
    mutual = differing.argmin(axis=0)[nearest] == index
    chosen = mutual & (differing[index, nearest] <= _SAME_CORNER)
    here = first.places[chosen].astype(np.float32)
    return here, second.places[nearest[chosen]].astype(np.float32)


def overlaid(
    first: NDArray[np.uint8], second: NDArray[np.uint8], found: NDArray[np.float64]
) -> int | None:
    """The bits in which the looks of what both pictures show differ; None if it is too little.

    Args:
        first: a thumbnail, see `thumbnail`.
        second: likewise.
        found: the map from the first picture to the second, see `mapped`.
    """
    laid = cv2.warpAffine(first, _refined(first, second, found), second.shape)
    both = (laid >= _BLACK) & (second >= _BLACK)
    if both.mean() < _LEAST_OVERLAP:
        return None
    shown = []
    for picture in (laid, second):
        grey = picture.astype(np.float32)
        shown.append(looks.signs(np.where(both, grey - grey[both].mean(), np.float32(0))))
    return int((shown[0] != shown[1]).sum())


def _refined(
    first: NDArray[np.uint8], second: NDArray[np.uint8], found: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The map by which the pictures correlate best, near the one that the features give."""
    back = cv2.invertAffineTransform(found).astype(np.float32)
    try:
        _, back = cv2.findTransformECC(
            second, first, back, cv2.MOTION_AFFINE, _REFINING, None, _BLUR
        )
    except cv2.error:  # it does not converge: the pictures do not correlate
        return found
    return cv2.invertAffineTransform(back)


def thumbnail(path: Path) -> NDArray[np.uint8]:
    """(64, 64), for `overlaid`."""
    large = Image.fromarray(_grey(path))
    return np.asarray(large.resize((_THUMBNAIL, _THUMBNAIL), Image.Resampling.BOX))


def _grey(path: Path) -> NDArray[np.uint8]:
    """(256, 256): the upright picture in grey, stretched to a square.

    A JPEG is decoded no larger than needed, which is several times faster.
    """
    data = decode.file_bytes(path)
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as jpeg:
            jpeg.draft("RGB", (SIDE, SIDE))
            picture = ImageOps.exif_transpose(jpeg)
    except OSError:  # no JPEG, or one that `decode` repairs
        picture = _decoded(data, path)
    square = (SIDE, SIDE)
    return np.asarray(picture.convert("L").resize(square, Image.Resampling.BOX))


def _decoded(data: bytes, path: Path) -> Image.Image:
    try:
        return decode.decoded(data).rgb
    except decode.UnreadableImage as error:
        # It was prepared a moment ago, so it could be read then.
        raise DataError(f"the picture changed while it was read: {error}", path) from None
