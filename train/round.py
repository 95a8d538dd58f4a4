"""Open a round of federated training: which adapter all nodes start from, and a number for it.

    python -m train.round --start OUT/lora-boxed --number 3 --out OUT/round-3.json

The file goes to the nodes with the adapter (`make publish`) or by any other way; it holds nothing
secret. A number that was used before needs another file: each has a nonce of its own.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from dat_runtime.command import command
from dat_runtime.errors import ConfigError, reports_errors
from dat_runtime.files import write_json


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    parser = command("train.round", __doc__)
    parser.add_argument("--start", type=Path, required=True, help="the global adapter: a folder")
    parser.add_argument("--number", type=int, required=True, help="from 1")
    parser.add_argument("--out", type=Path, required=True, help="file to write")
    args = parser.parse_args(argv)
    from dat_runtime.federation.factors import read_start
    from dat_runtime.federation.round import open_round

    if args.number < 1:
        raise ConfigError(f"--number {args.number}: rounds count from 1")
    if args.out.exists():
        raise ConfigError(
            f"{args.out} is there: increments may be under way for it; name another file"
        )
    opened = open_round(args.number, read_start(args.start))
    try:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        write_json(args.out, asdict(opened))
    except OSError as error:
        raise ConfigError(f"--out {args.out}: cannot be written ({error.strerror})") from None
    print(
        f"[round {opened.round}] rank {opened.rank}, {opened.modules} modules, for {opened.base}: "
        f"{args.out}",
        flush=True,
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
