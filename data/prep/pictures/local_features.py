"""Whether one picture is a crop or a small turn of another, by local features.

A look describes the whole picture, so a crop or a turn by a few degrees changes most of it. The
corners of the picture stay: each picture gives up to 96 of its strongest ORB features (Rublee et
al., "ORB: an efficient alternative to SIFT or SURF", 2011). Where enough features of two pictures
agree on one affine map (RANSAC, Fischler and Bolles, 1981), the map is refined by the pixels (ECC,
Evangelidis and Psarakis, 2008), one picture is laid over the other by it, and the looks of what
both show are compared. So a logo, a time stamp or a dashboard that two pictures share does not join
them.
"""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data.prep.pictures import looks

SIDE = 213
"""Pictures are compared at this size, stretched to a square as exports do; a byte holds a place.
Widths of 640, 1280 and 1920 are made so by averaging whole pixels, which is fast. At 256 no more
copies are found."""
MOST = 96
"""Features of a picture. With 64, 5 % of the crops by 10 % a side are missed."""
BYTES = 32
"""Of a description."""
_CONTRASTS = (20, 5)
"""The least grey levels by which a corner differs from its surroundings (FAST). The strongest
features are the same at either, and found in half the time at the first; pictures without enough of
them are asked again."""

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
_REFINING = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 30, 1e-4)
_BLUR = 3
_BLACK = 4
"""What lies outside a turned picture is black, and belongs to neither."""


class Features(NamedTuple):
    """The features of one picture.

    Attributes:
        places: (n, 2), x and y in a picture of 213 x 213.
        descriptions: (n, 32), 256 bits each.
    """

    places: NDArray[np.uint8]
    descriptions: NDArray[np.uint8]


def features_of(grey: Image.Image) -> Features:
    """Up to 96 features of a grey picture, the strongest first."""
    square = np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.BOX, reducing_gap=1.0))
    for contrast in _CONTRASTS:
        # Each call has its own detector: threads may not share one.
        orb = cv2.ORB_create(nfeatures=MOST, nlevels=6, edgeThreshold=16, fastThreshold=contrast)
        found, descriptions = orb.detectAndCompute(square, None)
        if len(found) >= MOST:
            break
    if descriptions is None:
        return Features(np.empty((0, 2), np.uint8), np.empty((0, BYTES), np.uint8))
    strength = [-point.response for point in found]
    strongest = np.argsort(strength, kind="stable")[:MOST]
    places = cv2.KeyPoint.convert(found).astype(np.uint8)
    return Features(places[strongest], descriptions[strongest])


def mapped(first: Features, second: Features) -> NDArray[np.float64] | None:
    """(2, 3): the affine map on which features of both pictures agree; None if there is none.

    In pixels of views, see `looks.view_of`.
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
    scale = looks.THUMBNAIL / SIDE
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
        first: a view, see `looks.view_of`.
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
