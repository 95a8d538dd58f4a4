"""The paper's external negatives: Non Accident frames of the CCTV set (section 4.1).

The frames of all its splits are read. Later they are resampled to 640 x 640 and gamma corrected
(`pictures.tones`), exact duplicates are dropped (`prepared.kept`), and new splits are made in the
paper's proportion 268/120/120 (`splitting.assign`).
"""

from dat_runtime.truth import SPLITS
from data.prep.importers.cctv_folders import negative_folders
from data.prep.importers.faults import Fault
from data.prep.importers.listing import entries, is_leftover
from data.prep.importers.source_frame import NEGATIVE, SUFFIXES, Ids, SourceFrame
from data.prep.importers.sources import Sources


def scan(sources: Sources, ids: Ids) -> tuple[list[SourceFrame], list[Fault]]:
    """The accident-free frames of all published splits; none where the source has no such set."""
    frames, faults = [], []
    folders = negative_folders(sources.negatives) if sources.negatives else {}
    for split in (*SPLITS, None):
        if split not in folders:
            continue
        for path in entries(folders[split]):
            file = sources.name(path)
            if is_leftover(path):
                faults.append(Fault("system-file", file, None, "no part of the set"))
            elif path.is_file() and path.suffix.lower() in SUFFIXES:
                frame_id = ids.of(f"{NEGATIVE}_{path.stem}")
                frames.append(SourceFrame(frame_id, split, path, file, negative=True))
            else:
                faults.append(Fault("stray-file", file, None, "not an image by its suffix"))
    return frames, faults
