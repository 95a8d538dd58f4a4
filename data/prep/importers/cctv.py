"""The paper's external negatives: Non Accident frames of the CCTV set (section 4.1).

Frames of all splits are resampled to 640 x 640, gamma corrected, freed of exact duplicates, and
split anew in the paper's proportion 268/120/120, frame by frame or, when asked, by clip.
The paper gives no gamma: 1.2 is our choice, which brightens the mid tones of these dark recordings
a little.
"""

from data.prep.importers.faults import Fault
from data.prep.importers.source_frame import NEGATIVE, SUFFIXES, Ids, SourceFrame
from data.prep.importers.sources import SPLITS, Sources


def scan(sources: Sources, ids: Ids) -> tuple[list[SourceFrame], list[Fault]]:
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
                frames.append(SourceFrame(new, name, path, file, negative=True))
            else:
                faults.append(Fault("stray-file", file, None, "no image by its suffix"))
    return frames, faults
