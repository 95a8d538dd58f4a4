"""Ways in which a picture, or what a node made of it, reaches the model, with the bytes they take.

A way either changes the picture that the model is asked about (JPEG, WebP, none at all), or what
passes between the halves of its vision tower (codes, floats). The prompt is the same in all, with
the gate's boxes in words: an alert carries them anyway, so they are not counted.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np

from dat_runtime.draw import Image, boxed_at, encode_png, resize, size_of
from dat_runtime.edge.source import read_frame
from dat_runtime.offload import CodeUnit, pack, truncated, unpack
from dat_runtime.prompt import detections_in
from eval.answers.asks import Ask

Kind = Literal["code", "float", "sign", "jpeg", "webp", "png", "boxes"]

CAMERA_SIZE = "camera's size"
"""Ends the name of a picture that was made smaller after it was sent: no node sends such a one,
since the prompt's boxes are in pixels of what the model sees."""

Change = Callable[[Any, Any], Any]
"""As `train.offloading.tower.cut` takes it: features and their grid -> features."""


@dataclass(frozen=True)
class Way:
    """One row of the table.

    Attributes:
        block: where the tower is cut, for a way between its halves.
        change: what happens there; it adds to `sizes`.
        show: the picture that is seen in place of an ask's, and the bytes that were sent.
        sizes: bytes of each picture that was sent, in the order of asking.
    """

    name: str
    kind: Kind
    channels: int | None = None
    quality: int | None = None
    block: int = 0
    change: Change | None = None
    show: Callable[[Ask], tuple[Image, int]] | None = None
    sizes: list[int] = field(default_factory=list)

    def asks(self, batch: Sequence[Ask], folder: Path) -> list[Ask]:
        """The questions with the pictures that are seen, written into a folder without loss."""
        if self.show is None:
            return list(batch)
        seen = []
        for number, ask in enumerate(batch):
            image, size = self.show(ask)
            self.sizes.append(size)
            path = folder / f"{number}.png"
            path.write_bytes(encode_png(image))
            seen.append(replace(ask, image=path))
        return seen


def code(description: Any, codec: Any, channels: int) -> Way:
    """Learned bits: packed, cut to so many channels, read and decoded, as on the wire."""
    from train.offloading.codec import signs_of

    sizes: list[int] = []

    def change(features: Any, grids: Any) -> Any:
        decoded = []
        for picture, grid in _by_picture(features, grids):
            bits = codec.bits(picture.float()).T.cpu().numpy()
            unit = pack(CodeUnit(description.id, grid, description.spatial, bits))
            sent = truncated(unit, channels)
            sizes.append(len(sent))
            came = unpack(sent, description.id)
            signs = signs_of(came.bits, codec.shape.channels, features.device)
            decoded.append(codec.decode(signs, grid))
        return _joined(decoded, features)

    name = f"code, {channels} channels"
    return Way(name, "code", channels, block=description.block, change=change, sizes=sizes)


def floats(name: str, kind: Kind, block: int, change: Callable[[Any], tuple[Any, int]]) -> Way:
    """Something that is done to the features of one picture, which takes so many bytes."""
    sizes: list[int] = []

    def of_all(features: Any, grids: Any) -> Any:
        changed = []
        for picture, _ in _by_picture(features, grids):
            here, size = change(picture.float())
            sizes.append(size)
            changed.append(here)
        return _joined(changed, features)

    return Way(name, kind, block=block, change=of_all, sizes=sizes)


def bfloat16(block: int) -> Way:
    """All features, two bytes each: the split without any codec."""
    import torch

    def change(features: Any) -> tuple[Any, int]:
        return features.to(torch.bfloat16).float(), 2 * features.numel()

    return floats("features, bf16", "float", block, change)


def model_picture(kind: Literal["jpeg", "webp"], quality: int) -> Way:
    """The boxed picture, already at the size at which the model sees it."""

    def show(ask: Ask) -> tuple[Image, int]:
        return through_codec(read_frame(ask.image), kind, quality)

    return Way(f"{kind} q{quality}, model's size", kind, quality=quality, show=show)


def frame_picture(
    kind: Literal["jpeg", "webp", "png"], quality: int | None, frames: dict[str, Path]
) -> Way:
    """The boxed picture at the camera's size, made smaller after it was sent.

    Args:
        frames: picture of the camera by the id of an ask.
    """

    def show(ask: Ask) -> tuple[Image, int]:
        raw = read_frame(frames[ask.id])
        boxes = detections_in(ask.prompt, ask.frame)
        boxed = boxed_at(raw, size_of(raw), boxes)
        seen, size = through_codec(boxed, kind, quality)
        return resize(seen, ask.frame), size

    name = kind if quality is None else f"{kind} q{quality}"
    return Way(f"{name}, {CAMERA_SIZE}", kind, quality=quality, show=show)


def nothing() -> Way:
    """A grey picture: the boxes in the prompt are all that the model has."""

    def show(ask: Ask) -> tuple[Image, int]:
        grey = np.full((ask.frame.height, ask.frame.width, 3), 127, np.uint8)
        return grey, 0

    return Way("boxes alone, grey picture", "boxes", show=show)


_SUFFIX = {"jpeg": ".jpg", "webp": ".webp", "png": ".png"}
_QUALITY = {"jpeg": cv2.IMWRITE_JPEG_QUALITY, "webp": cv2.IMWRITE_WEBP_QUALITY}


def through_codec(image: Image, kind: str, quality: int | None) -> tuple[Image, int]:
    """A picture after it was encoded and decoded, and its bytes."""
    options = [] if quality is None else [_QUALITY[kind], quality]
    done, encoded = cv2.imencode(_SUFFIX[kind], image, options)
    decoded = cv2.imdecode(encoded, cv2.IMREAD_COLOR) if done else None
    if decoded is None:
        raise ValueError(f"a picture of shape {image.shape} cannot be sent as {kind}")
    return np.asarray(decoded, dtype=np.uint8), len(encoded)


def _by_picture(features: Any, grids: Any) -> Any:
    """The features of each picture, with its rows and columns."""
    rows = grids.tolist()
    parts = features.split([frames * height * width for frames, height, width in rows])
    return [(part, (height, width)) for part, (_, height, width) in zip(parts, rows, strict=True)]


def _joined(parts: Sequence[Any], like: Any) -> Any:
    import torch

    return torch.cat(list(parts)).to(like.dtype)
