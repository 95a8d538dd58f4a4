"""Prepare the set: `python -m data.prep.build --source SRC --out OUT/data`.

SRC holds the public sets, or your own data (`docs/data.md` lists the layouts), as folders or
archives, and is never changed. Faults are repaired or refused by the rules of `docs/data.md` and
listed in `report.json`; leaks between splits are found and reported. A further run only redoes what
changed.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dat_runtime.command import command
from dat_runtime.errors import ConfigError, reports_errors
from dat_runtime.files import write_json
from dat_runtime.stage import Stage
from data.prep.importers import cctv, coco, rate_logs, voc, yolo
from data.prep.importers.classes import Classes
from data.prep.importers.faults import refuse
from data.prep.importers.source_frame import Ids
from data.prep.importers.sources import OPTIONAL, Sources, find_sources
from data.prep.importers.unpacked import folders_of
from data.prep.pictures import prepare, records
from data.prep.pictures.pool import ENGINES, Engine
from data.prep.pictures.records import Records
from data.prep.prepared import witnesses, writer
from data.prep.prepared.kept import Kept, demand_frames, demand_pictures, keep, picture_faults
from data.prep.reporting import listed, summaries
from data.prep.reporting.card import write_card
from data.prep.reporting.page import write_report
from data.prep.reporting.shown import Shown
from data.prep.splitting import assign, conflicts, leaks, resolution

SCALES = (1.0, 0.5, 0.25)
"""Factors for the uplink trace, as in Table 3."""

_SCANS = {"yolo": yolo.scan, "coco": coco.scan, "voc": voc.scan}


@dataclass(frozen=True)
class Options:
    """What decides the set besides its source; part of its manifest."""

    seed: int = 0
    strict: bool = False
    on_bad_label: str = "stop"
    leak_free: bool = False
    negatives_by_clip: bool = False
    single_class: bool = False
    on_conflict: str = resolution.LEAVE_OUT
    scale: float = 1.0
    trace_unit: str | None = None
    classes: Classes = field(default_factory=Classes)

    @property
    def config(self) -> dict[str, Any]:
        """The options for the manifest, with the name of the split that they lead to."""
        config = asdict(self)
        config["classes"] = self.classes.mapping
        config["split"] = "leak-free" if self.leak_free else "published"
        return config


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = command("data.prep.build", __doc__)
    add = parser.add_argument
    add("--source", type=Path, nargs="+", required=True, help="folders, .zip or .tar.gz files")
    add("--out", type=Path, required=True, help="folder to make")
    add("--strict", action="store_true", help="refuse every fault, repair none")
    add("--on-bad-label", default="stop", choices=("stop", "skip"),
        help="where a label has a fault that is refused: stop (default), or skip its frame, which "
        "is counted and listed")  # fmt: skip
    add("--seed", type=int, default=0, help="seed of the splits that are made here (default 0)")
    add("--leak-free", action="store_true", help="make new splits by groups of frames that belong "
        "together, stratified by class, instead of keeping the published split")  # fmt: skip
    add("--negatives-by-clip", action="store_true", help="keep the negatives of a clip together")
    add("--classes", nargs="+", default=(), metavar="NAME=SEVERITY",
        help="what each class means: moderate, severe, none, ignore; or one YAML file")  # fmt: skip
    add("--single-class", action="store_true", help="labels of one class, accident (Fig. 4)")
    add("--on-conflict", default=resolution.LEAVE_OUT, choices=resolution.CHOICES,
        help="frames of one picture with different labels: leave them out of train (default), "
        "merge their boxes, or keep all; those that stay are marked")  # fmt: skip
    add("--scale", type=float, default=1.0, choices=SCALES,
        help="factor for the uplink trace (default 1)")  # fmt: skip
    add("--trace-unit", choices=tuple(rate_logs.UNITS),
        help="of a series whose header states no unit; goes before what its form has")  # fmt: skip
    add("--without", nargs="+", default=(), choices=OPTIONAL, help="parts that your source lacks")
    add("--engine", default="threads", choices=ENGINES, help="ray: on a Ray cluster")
    return parser


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    args = parser().parse_args(argv)
    options = Options(
        seed=args.seed,
        strict=args.strict,
        on_bad_label=args.on_bad_label,
        leak_free=args.leak_free,
        negatives_by_clip=args.negatives_by_clip,
        single_class=args.single_class,
        on_conflict=args.on_conflict,
        scale=args.scale,
        trace_unit=args.trace_unit,
        classes=Classes.read(args.classes) if args.classes else Classes(),
    )
    _demand_one_meaning(options)
    roots = folders_of(args.source, args.out)
    sources = find_sources(*roots, without=args.without)
    _keep_apart(args.out, sources)
    # Made again without a question: what took time, the pictures, is taken from the last set.
    stage = Stage(
        args.out, kind="data", inputs=sources.parts, config=options.config, code=[__file__]
    )
    if not stage.up_to_date():
        memory = prepare.recall(args.out)
        with stage as folder:
            report = build(sources, folder, options, memory=memory, engine=args.engine)
        summaries.print_summary(report)
        print(f"[data] the same with pictures: {args.out / 'report.html'}")
    return 0


def _demand_one_meaning(options: Options) -> None:
    """Refuse options of which one would have no effect beside another."""
    if options.leak_free and options.negatives_by_clip:
        raise ConfigError(
            "--leak-free makes all splits by groups, and keeps clips whole: leave "
            "--negatives-by-clip out, which is for the published split"
        )
    if options.strict and options.on_bad_label == "skip":
        raise ConfigError(
            "--strict refuses every fault, so none can be left to --on-bad-label skip"
        )
    if options.strict and options.on_conflict != resolution.LEAVE_OUT:
        raise ConfigError("--strict refuses every contradiction: leave --on-conflict out")


def _keep_apart(out: Path, sources: Sources) -> None:
    """Refuse an output folder inside the source or around it: the folder is replaced as a whole."""
    target = out.resolve()
    for part in (*sources.roots, *sources.parts.values()):
        source = part.resolve()
        if target.is_relative_to(source) or source.is_relative_to(target):
            raise ConfigError(f"--out {out} and the source {part} may not lie inside each other")


def build(
    sources: Sources,
    folder: Path,
    options: Options,
    *,
    memory: prepare.Memory,
    engine: Engine = "threads",
) -> dict[str, Any]:
    """Write the set into `folder`; returns the content of its `report.json`.

    Raises:
        DataError: a fault that is refused, with file and line; or a split without frames.
        ConfigError: the source has no splits, and none are to be made.
    """
    # Scan: the frames of the source. Faults of labels stop the build before any picture is read.
    ids = Ids()
    scan = _SCANS[sources.layout](sources, options.classes, ids)
    refuse(scan.faults, sources.path, options.strict, options.on_bad_label == "skip")
    if not options.leak_free:
        scan.demand_splits(sources.accidents)
    negatives, negative_faults = cctv.scan(sources, ids)
    frames = scan.frames + negatives
    testifying = witnesses.find(negatives, sources)

    # Prepare the pictures, drop copies, and find pictures with two truths.
    staging = folder / "staging"
    staging.mkdir()
    everything = frames + testifying
    features = folder / records.NAME
    pictures = list(prepare.prepare_all(everything, staging, features, memory, engine))
    seen = records.read_all(features)
    contents = prepare.contents(everything, pictures, engine)
    count = len(frames)
    kept, copies = keep(frames, pictures[:count], contents[:count])
    testimony = witnesses.usable(testifying, pictures[count:], contents[count:], count)
    picture_problems = picture_faults(frames, pictures[:count])
    demand_pictures(kept, frames, scan.faults + picture_problems, sources)
    contradictions = conflicts.find(kept, testimony, seen, engine)
    faults = scan.faults + negative_faults + picture_problems + copies
    faults += contradictions.faults(len(kept))
    refuse(faults, sources.path, options.strict, options.on_bad_label == "skip")

    links, resolved, kept = _split(kept, seen, contradictions, scan.published, options, engine)
    demand_frames(kept, sources, faults)

    # Write the set.
    writer.place_pictures(folder, kept, staging)
    writer.write_set(folder, kept, options.single_class)
    writer.write_groups(folder, kept)
    writer.write_ledger(folder, everything, pictures, kept)
    records.forget(features, sorted(set(range(len(everything))) - {one.position for one in kept}))
    trace = writer.write_bandwidth(folder, sources, options.scale, options.trace_unit)

    # Report.
    report = summaries.of_set(kept, scan, faults, len(negatives), options.config)
    report["layout"] = sources.layout
    report["exact_copies_across_splits"] = summaries.exact_across(links.across(), kept)
    report["leaks"] = leaks.summary(links, kept)
    report["conflicts"] = resolution.summary(resolved)
    report["trace"] = trace
    _write_reports(folder, report, Shown(kept, links.across(), resolved, sources))
    return report


def _split(
    kept: list[Kept],
    seen: Records,
    contradictions: conflicts.Conflicts,
    published: Mapping[str, int],
    options: Options,
    engine: Engine,
) -> tuple[leaks.Links, resolution.Resolution, list[Kept]]:
    """Assign splits, resolve contradictions and find leaks: the links and the frames of the set.

    A split that is free of leaks is made from the groups of linked frames, so there they come
    first. Else they come last: a frame that was left out is nobody's twin.
    """
    if options.leak_free:
        links, kept = _grouped(kept, seen, engine)
        kept = assign.leak_free(kept, published, options.seed)
        resolved = resolution.resolved(kept, contradictions, options.on_conflict)
        return links, resolved, resolved.kept
    kept = assign.published(kept, options.negatives_by_clip, options.seed)
    resolved = resolution.resolved(kept, contradictions, options.on_conflict)
    links, kept = _grouped(resolved.kept, seen, engine)
    return links, resolved, kept


def _write_reports(folder: Path, report: dict[str, Any], shown: Shown) -> None:
    """The report for programs, the lists of pairs, the card, and the page for people."""
    write_json(folder / "report.json", report)
    listed.write_leaks(folder, shown.across, shown.kept)
    listed.write_conflicts(folder, shown.resolution)
    write_card(folder, report, shown.sources)
    write_report(folder, report, shown)


def _grouped(kept: Sequence[Kept], seen: Records, engine: Engine) -> tuple[leaks.Links, list[Kept]]:
    """The links between the frames, and the frames with the groups that they form."""
    links = leaks.Links.of(kept)
    for rows in leaks.linked_pairs(kept, seen, engine):
        links.add(rows)
    return links, leaks.with_groups(kept, links)


if __name__ == "__main__":
    raise SystemExit(main())
