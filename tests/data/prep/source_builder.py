"""A tiny source, laid out as the public sets, to which tests add faults."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

YAML = "train: ../train/images\nval: ../valid/images\nnc: 2\nnames: [moderate, severe]\n"
BOX = "0 0.5 0.5 0.25 0.25\n"


def picture(seed: int, width: int = 64, height: int = 48) -> Image.Image:
    """A smooth picture that differs with the seed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height))


def scene(seed, side=320):
    """A picture with structure at several scales, as a street has."""
    rng = np.random.default_rng(seed)
    canvas = np.zeros((side, side, 3))
    for cells in (3, 6, 12, 24):
        layer = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        canvas += np.asarray(layer.resize((side, side), Image.Resampling.BICUBIC), float)
    return Image.fromarray((canvas / 4).astype(np.uint8))


def jpeg(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **options)
    return buffer.getvalue()


class Source:
    """Two accident frames and two negatives a split, and a trace; sound in every respect."""

    def __init__(self, root: Path):
        self.root = root
        self.accidents = root / "accidents-detection"
        self.negatives = root / "cctv" / "data"
        self.trace = root / "5g" / "zoom_1s.csv"
        for number, split in enumerate(("train", "valid", "test")):
            for part in ("images", "labels"):
                (self.accidents / split / part).mkdir(parents=True)
            for i in range(2):
                self.frame(f"{split}{i}", BOX, jpeg(picture(10 * number + i)), split)
        for number, split in enumerate(("train", "val", "test")):
            (self.negatives / split / "Non Accident").mkdir(parents=True)
            for i in range(2):
                content = jpeg(picture(100 + 10 * number + i))
                self.negative(f"{split}{i}.jpg", content, split)
        (self.accidents / "data.yaml").write_text(YAML)
        self.trace.parent.mkdir()
        self.trace.write_text("DL_bitrate,UL_bitrate\n10,1000\n20,3000\n")

    def frame(
        self,
        stem: str,
        label: str | None,
        image: bytes | None,
        split: str = "train",
        suffix: str = ".jpg",
    ) -> None:
        folder = self.accidents / split
        if label is not None:
            (folder / "labels" / f"{stem}.txt").write_text(label)
        if image is not None:
            (folder / "images" / f"{stem}{suffix}").write_bytes(image)

    def negative(self, name: str, content: bytes, split: str = "train") -> None:
        (self.negatives / split / "Non Accident" / name).write_bytes(content)
