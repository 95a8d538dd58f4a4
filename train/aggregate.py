"""The next global adapter from the increments that nodes sent for a round (DAT §3.1).

    python -m train.aggregate --round OUT/round-3.json --start OUT/lora-boxed --nodes nodes \\
        --increments inbox --out OUT/lora-round-3 [--mode svd] [--rate 1.0]

`nodes` holds the public keys, NODE.pem; `inbox` what came in. Whoever is refused is named, with the
reason; federation.json lists everyone. Nothing is promoted here: score the adapter beside the
shipped one (`eval.score --require`), then a person promotes it (`eval.promote`).
"""

from collections.abc import Sequence
from pathlib import Path

from dat_runtime import manifest
from dat_runtime.command import command
from dat_runtime.errors import ConfigError, reports_errors
from dat_runtime.federation.aggregation import MODES
from dat_runtime.stage import Stage


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    parser = command("train.aggregate", __doc__)
    parser.add_argument("--round", type=Path, required=True, help="file of train.round")
    parser.add_argument("--start", type=Path, required=True, help="the round's adapter: its folder")
    parser.add_argument("--nodes", type=Path, required=True, help="folder of public keys NODE.pem")
    parser.add_argument("--increments", type=Path, required=True, help="folder of what came in")
    parser.add_argument(
        "--mode",
        choices=MODES,
        default=MODES[0],
        help="svd: the start's rank (default); stack: exact, the rank grows; fedavg: A and B "
        "averaged each for itself",
    )
    parser.add_argument("--rate", type=float, default=1.0, help="η, share of the way to go (1.0)")
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    args = parser.parse_args(argv)
    if not 0 < args.rate <= 1:
        raise ConfigError(f"--rate {args.rate}: expected more than 0 and at most 1")
    from dat_runtime.federation.factors import read_start
    from dat_runtime.federation.inbox import candidates
    from train.mllm.aggregation import make_adapter

    # Whoever writes into the inbox must not decide what is hashed: a manifest.json in it would.
    files = candidates(args.increments, read_start(args.start))
    started_from = manifest.read(args.start, "lora").config
    kept = {key: started_from[key] for key in ("instructions", "dataset", "base")
            if key in started_from}  # fmt: skip
    stage = Stage(
        args.out,
        kind="lora",
        inputs={
            "start": args.start,
            "round": args.round,
            "nodes": args.nodes,
            **{f"increments/{name}": path for name, path in files.items()},
        },
        config={**kept, "federation": {"mode": args.mode, "rate": args.rate}},
        code=[__file__],
    )
    if not stage.up_to_date():
        with stage as folder:
            make_adapter(
                folder,
                round_file=args.round,
                start_folder=args.start,
                nodes=args.nodes,
                increments=args.increments,
                mode=args.mode,
                rate=args.rate,
                name=args.out.name,
            )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
