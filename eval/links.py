"""Which claims of the transmission study hold on which link, as one table.

    python -m data.prep.trace --source TRACES --out OUT/traces
    python -m eval.links --traces OUT/traces --config configs/transmission/c0.yaml --out OUT/links

The setting is C0's, with each link rescaled to its mean; but for the link that C0 was fitted to,
nothing here was fitted to any of them. Writes links.md (a row a claim, a column a link) and
links.json. A folder of --traces gives every `.csv` in it.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from dat_runtime.command import command
from dat_runtime.errors import ConfigError, reports_errors
from dat_runtime.files import read_text, write_json
from dat_runtime.stage import Stage
from eval.paper import printed
from eval.uplink import link_table
from eval.uplink.setting import load_setting
from eval.uplink.study import DRAWS, OTHER_STUDY_SEEDS
from eval.uplink.trace import read_trace


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    args = _arguments(argv)
    setting = load_setting(args.config)
    traces = _by_name(args.traces)
    stage = Stage(
        args.out,
        kind="links",
        inputs={"config": args.config, **traces},
        config={"seeds": args.seeds, "draws": args.draws},
        code=[__file__, printed.FILE],
    )
    if not stage.up_to_date():
        rates = {name: read_trace(path) for name, path in traces.items()}
        with stage as folder:
            links = []
            for name, bandwidth in rates.items():
                print(f"[links] {name}: {len(bandwidth):,} s", flush=True)
                links.append(link_table.link(name, setting, bandwidth, args.seeds, args.draws))
            write_json(folder / "links.json", [link.as_json() for link in links])
            (folder / "links.md").write_text(link_table.as_markdown(links), "utf-8")
    print("\n" + read_text(args.out / "links.md"), flush=True)
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command("eval.links", __doc__)
    add = parser.add_argument
    add("--traces", type=Path, nargs="+", required=True, help="bandwidth.csv files, or folders")
    add("--config", type=Path, required=True, help="the setting, YAML")
    add("--out", type=Path, required=True, help="folder to write")
    add("--seeds", type=int, default=OTHER_STUDY_SEEDS, help=f"runs ({OTHER_STUDY_SEEDS})")
    add("--draws", type=int, default=DRAWS, help=f"perturbed settings ({DRAWS})")
    args = parser.parse_args(argv)
    if args.seeds < 1 or args.draws < 1:
        raise ConfigError("--seeds and --draws must be at least 1")
    return args


def _by_name(given: Sequence[Path]) -> dict[str, Path]:
    """The traces by their names in the table."""
    traces: dict[str, Path] = {}
    for path in given:
        files = sorted(path.glob("*.csv")) if path.is_dir() else [path]
        if not files:
            raise ConfigError(f"{path} holds no .csv: data.prep.trace makes them")
        for file in files:
            name = file.parent.name if file.stem == "bandwidth" else file.stem
            if name in traces:
                raise ConfigError(f"{file} and {traces[name]} have the same name: rename one")
            traces[name] = file
    return traces


if __name__ == "__main__":
    raise SystemExit(main())
