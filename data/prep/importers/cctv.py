"""The paper's external negatives: Non Accident frames of the CCTV set (section 4.1).

Frames of all splits are resampled to 640 x 640, gamma corrected, freed of exact duplicates, and
split anew in the paper's proportion 268/120/120, frame by frame or, when asked, by clip.
The paper gives no gamma: 1.2 is our choice, which brightens the mid tones of these dark recordings
a little.
"""

from collections.abc import Sequence

from PIL import Image

from data.prep.importers.faults import Fault
from data.prep.importers.source_frame import NEGATIVE, Frame
from data.prep.importers.sources import SPLITS, Sources
from data.prep.pictures.decode import SUFFIXES
from data.prep.prepared.writer import Ids
from data.prep.splitting.by_groups import rank

SIDE = 640
GAMMA = 1.2
PAPER_SPLIT = {"train": 268, "val": 120, "test": 120}

_TONES = [round(255 * (value / 255) ** (1 / GAMMA)) for value in range(256)]


def scan(sources: Sources, ids: Ids) -> tuple[list[Frame], list[Fault]]:
    """The accident-free frames of all published splits; none where the source has no such set."""
    frames, faults = [], []
    for name in SPLITS:
        folder = sources.negative_folder(name)
        if folder is None:
            continue
        for path in sorted(folder.iterdir()):
            file = sources.name(path)
            if path.is_file() and path.suffix.lower() in SUFFIXES:
                new = ids.of(f"{NEGATIVE}_{path.stem}")
                frames.append(Frame(new, name, path, file, negative=True))
            else:
                faults.append(Fault("stray-file", file, None, "no image by its suffix"))
    return frames, faults


def corrected(rgb: Image.Image) -> Image.Image:
    """The picture resampled to 640 x 640 (bicubic) and gamma corrected."""
    if rgb.size != (SIDE, SIDE):
        rgb = rgb.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return rgb.point(_TONES * 3)


def split(contents: Sequence[str], seed: int) -> dict[str, str]:
    """A split for each content, in the proportion 268/120/120, by largest remainder.

    The order is that of a hash of seed and content: names and order of files do not matter.
    """
    total = sum(PAPER_SPLIT.values())
    shares = {name: len(contents) * part / total for name, part in PAPER_SPLIT.items()}
    counts = {name: int(share) for name, share in shares.items()}
    by_remainder = sorted(shares, key=lambda name: counts[name] - shares[name])
    for name in by_remainder[: len(contents) - sum(counts.values())]:
        counts[name] += 1
    names = [name for name in SPLITS for _ in range(counts[name])]
    return dict(zip(sorted(contents, key=lambda c: rank(c, seed)), names, strict=True))
