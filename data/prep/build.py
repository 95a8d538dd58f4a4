"""Prepare the set: `python -m data.prep.build --source SRC --out OUT/data`.

SRC holds the public sets, or your own data (see `sources` for the layouts), as folders or zip
files, and is never changed. Faults are repaired or refused by the rules of `faults.RULES` and
listed in `report.json`; leaks between splits are found and told. A further run only redoes what
changed.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dat_runtime.errors import ConfigError, DataError, reports_errors
from dat_runtime.stage import Stage
from data.prep.importers import archive, cctv, coco, traces, voc, yolo
from data.prep.importers.classes import Classes
from data.prep.importers.faults import Fault, refuse
from data.prep.importers.source_frame import Ids, SourceFrame
from data.prep.importers.sources import OPTIONAL, SPLITS, Sources, find_sources
from data.prep.pictures import prepare
from data.prep.pictures.pool import ENGINES, Engine
from data.prep.pictures.prepare import Prepared
from data.prep.prepared import writer
from data.prep.reporting import sheets, summaries
from data.prep.reporting.card import write_card
from data.prep.reporting.page import write_report
from data.prep.splitting import assign, leaks

SCALES = (1.0, 0.5, 0.25)
"""Of the trace, as in Table 3."""

_SCANS = {"yolo": yolo.scan, "coco": coco.scan, "voc": voc.scan}


@dataclass(frozen=True)
class Options:
    """What decides the set besides its source; part of its manifest."""

    seed: int = 0
    strict: bool = False
    leak_free: bool = False
    negatives_by_clip: bool = False
    single_class: bool = False
    scale: float = 1.0
    classes: Classes = field(default_factory=Classes)

    @property
    def config(self) -> dict[str, Any]:
        split = "leak-free" if self.leak_free else "published"
        return {**asdict(self), "classes": self.classes.mapping, "split": split}


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m data.prep.build",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = made.add_argument
    add("--source", type=Path, nargs="+", required=True, help="folders or zip files with the sets")
    add("--out", type=Path, required=True, help="folder to make")
    add("--strict", action="store_true", help="refuse every fault, repair none")
    add("--seed", type=int, default=0, help="of the splits that are made here (default 0)")
    add("--leak-free", action="store_true", help="split anew by groups of frames that belong "
        "together, stratified by class, instead of keeping the published split")  # fmt: skip
    add("--negatives-by-clip", action="store_true", help="keep the negatives of a clip together")
    add("--classes", nargs="+", default=(), metavar="NAME=SEVERITY",
        help="what a class means: moderate, severe or ignore; or one YAML file")  # fmt: skip
    add("--single-class", action="store_true", help="labels of one class, accident (Fig. 4)")
    add("--scale", type=float, default=1.0, choices=SCALES, help="of the uplink trace (default 1)")
    add("--without", nargs="+", default=(), choices=OPTIONAL, help="parts that your source lacks")
    add("--engine", default="threads", choices=ENGINES, help="ray: on a Ray cluster")
    return made


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    args = parser().parse_args(argv)
    options = Options(
        seed=args.seed,
        strict=args.strict,
        leak_free=args.leak_free,
        negatives_by_clip=args.negatives_by_clip,
        single_class=args.single_class,
        scale=args.scale,
        classes=Classes.read(args.classes) if args.classes else Classes(),
    )
    roots = [_folder_of(source, args.out) for source in args.source]
    sources = find_sources(*roots, without=args.without)
    _keep_apart(args.out, sources)
    stage = Stage(
        args.out, kind="data", inputs=sources.parts, config=options.config, code=[__file__]
    )
    if not stage.up_to_date():
        memory = prepare.recall(args.out)
        with stage as folder:
            report = build(sources, folder, options, memory=memory, engine=args.engine)
        summaries.print_summary(report)
        print(f"[data] with pictures: {args.out / 'report.html'}")
    return 0


def _folder_of(source: Path, out: Path) -> Path:
    """The source itself, or where its archive is unpacked: once, beside the output folder."""
    if not archive.is_archive(source):
        return source
    folder = out.with_name(f"{out.name}.unpacked") / source.stem
    stage = Stage(
        folder, kind="source", inputs={"archive": source}, config={}, code=[archive.__file__]
    )
    if not stage.up_to_date():
        with stage as partial:
            count = archive.unpack(source, partial)
            print(f"[data] {source.name}: {count:,} files unpacked", flush=True)
    return folder


def _keep_apart(out: Path, sources: Sources) -> None:
    """The output folder is replaced as a whole, so it may not touch the source."""
    made = out.resolve()
    for part in (*sources.roots, *sources.parts.values()):
        kept = part.resolve()
        if made == kept or made in kept.parents or kept in made.parents:
            raise ConfigError(f"--out {out} and the source {part} may not lie in each other")


def build(
    sources: Sources,
    folder: Path,
    options: Options,
    *,
    memory: prepare.Memory,
    engine: Engine = "threads",
) -> dict[str, Any]:
    """Write the set into `folder`; returns what is also in its `report.json`.

    Raises:
        DataError: a fault that is refused, with file and line; or a split without frames.
    """
    ids = Ids()
    scan = _SCANS[sources.layout](sources, options.classes, ids)
    refuse(scan.faults, sources.path, options.strict)
    if not scan.published and not options.leak_free:
        raise ConfigError(f"{sources.accidents} has no splits of its own: make one by --leak-free")
    found, strays = cctv.scan(sources, ids)
    frames = scan.frames + found
    (staging := folder / "staging").mkdir()
    prepared = list(prepare.prepare_all(frames, staging, memory, engine))
    faults = scan.faults + strays + _of_pictures(frames, prepared)
    contents = prepare.contents(frames, prepared, engine)
    kept, copies = _without_copies(frames, prepared, contents)
    faults += copies
    refuse(faults, sources.path, options.strict)
    used = [frames[i] for i in kept]
    files = [prepared[i].sha256 for i in kept]
    split_of = (
        None
        if options.leak_free
        else assign.published(used, files, options.negatives_by_clip, options.seed)
    )
    links = leaks.find_links(
        used, [prepared[i].look for i in kept], [contents[i] for i in kept], split_of, engine
    )
    groups = links.groups()
    if split_of is None:
        split_of = assign.leak_free(used, files, groups, scan.published, options.seed)
    entries = [
        writer.Entry(frames[i].id, split, prepared[i].size, frames[i].accidents, frames[i].negative)
        for i, split in zip(kept, split_of, strict=True)
    ]
    _demand_frames(sources, entries)
    _place(kept, entries, staging, folder)
    writer.write_set(folder, entries, options.single_class)
    image_of = {i: f"images/{e.split}/{e.id}.jpg" for i, e in zip(kept, entries, strict=True)}
    rows = zip(frames, prepared, map(image_of.get, range(len(frames))), strict=True)
    prepare.write_ledger(rows, folder / prepare.LEDGER)
    across = links.across()
    report = {
        **summaries.of_set(entries, scan, faults, len(found), options.config),
        "layout": sources.layout,
        "exact_copies_across_splits": summaries.exact_across(across, entries),
        "leaks": leaks.summary(links, groups, split_of),
        "trace": _write_bandwidth(sources, folder / "bandwidth.csv", options.scale),
    }
    (folder / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    _write_groups(folder / "groups.json", entries, groups)
    sheets.write_leaks(folder, across, [(e.split, e.id) for e in entries])
    write_card(folder, report, sources)
    write_report(folder, report, entries, sources)
    return report


def _of_pictures(frames: Sequence[SourceFrame], prepared: Sequence[Prepared]) -> list[Fault]:
    return [
        Fault(kind, frame.file, None, detail)
        for frame, picture in zip(frames, prepared, strict=True)
        for kind, detail in picture.faults
    ]


def _without_copies(
    frames: Sequence[SourceFrame], prepared: Sequence[Prepared], contents: Sequence[str]
) -> tuple[list[int], list[Fault]]:
    """Positions of the usable frames, without negatives that copy an earlier frame."""
    first: dict[str, SourceFrame] = {}
    kept, faults = [], []
    for i, (frame, picture) in enumerate(zip(frames, prepared, strict=True)):
        if picture.size is None:
            continue
        original = first.setdefault(contents[i], frame)
        if original is not frame:
            kind = "duplicate-negative" if frame.negative else "duplicate-frame"
            faults.append(Fault(kind, frame.file, None, f"copy of {original.file}"))
            if frame.negative:
                continue
        kept.append(i)
    return kept, faults


def _demand_frames(sources: Sources, entries: Sequence[writer.Entry]) -> None:
    for split in SPLITS:
        if not any(e.split == split and not e.negative for e in entries):
            told = f"no usable frame in the split {split} (--leak-free makes splits anew)"
            raise DataError(told, sources.accidents)
    if sources.negatives and not any(e.negative for e in entries):
        raise DataError("no usable accident-free frame", sources.negatives)


def _place(
    kept: Sequence[int], entries: Sequence[writer.Entry], staging: Path, folder: Path
) -> None:
    for split in SPLITS:
        (folder / "images" / split).mkdir(parents=True)
    for i, entry in zip(kept, entries, strict=True):
        (staging / f"{i}.jpg").rename(writer.image_path(folder, entry.split, entry.id))
    for dropped in staging.iterdir():
        dropped.unlink()
    staging.rmdir()


def _write_groups(path: Path, entries: Sequence[writer.Entry], groups: Sequence[int]) -> None:
    """Per split, frame -> its group of linked frames, under the first of their names."""
    names: dict[int, str] = {}
    for entry, group in zip(entries, groups, strict=True):
        names[group] = min(names.get(group, entry.id), entry.id)
    of_split: dict[str, dict[str, str]] = {split: {} for split in SPLITS}
    for entry, group in zip(entries, groups, strict=True):
        of_split[entry.split][entry.id] = names[group]
    path.write_text(json.dumps(of_split, indent=1, sort_keys=True) + "\n")


def _write_bandwidth(sources: Sources, path: Path, scale: float) -> dict[str, Any] | None:
    """`bandwidth.csv`; none where the source has no trace."""
    if sources.trace is None:
        return None
    uplink = [scale * value for value in traces.read_uplink(sources.trace)]
    rows = (f"{second},{value:.15g}\n" for second, value in enumerate(uplink))
    path.write_text("second,uplink_bytes_per_s\n" + "".join(rows))
    return {
        "file": sources.name(sources.trace),
        "form": traces.form(sources.trace),
        "scale": scale,
        "seconds": len(uplink),
        "mean_bytes_per_s": round(sum(uplink) / len(uplink), 1),
        "not_used": [sources.name(other) for other in sources.other_traces],
    }


if __name__ == "__main__":
    raise SystemExit(main())
