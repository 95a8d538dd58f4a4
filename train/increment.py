"""What a node trained in a round, signed with its key: one file for the aggregator.

    openssl genpkey -algorithm ed25519 -out node-7-key.pem && chmod 600 node-7-key.pem
    python -m train.lora --config configs/lora/boxed.yaml ... --out OUT/lora-node-7 \\
        adapter_name_or_path=BUNDLE/adapter
    python -m train.increment --round round-3.json --adapter OUT/lora-node-7 --node node-7 \\
        --key node-7-key.pem --out node-7.increment

The adapter has to be trained from the one that the round starts from. How many samples it was
trained on is taken from its run.json. The file is sent by any way: it is not secret to the
aggregator, but it holds what the node learned from its pictures.
"""

from collections.abc import Sequence
from pathlib import Path

from dat_runtime.command import command
from dat_runtime.errors import DataError, reports_errors
from dat_runtime.fields import OBJECT, TEXT, checked, whole
from dat_runtime.files import read_json, read_yaml


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    parser = command("train.increment", __doc__)
    parser.add_argument("--round", type=Path, required=True, help="file of train.round")
    parser.add_argument("--adapter", type=Path, required=True, help="folder made by train.lora")
    parser.add_argument("--node", required=True, help="the name under which the key is registered")
    parser.add_argument("--key", type=Path, required=True, help="private Ed25519 key, PEM")
    parser.add_argument("--out", type=Path, required=True, help="file to write, NODE.increment")
    args = parser.parse_args(argv)
    from dat_runtime.federation.factors import read_start
    from dat_runtime.federation.increment import write_increment
    from dat_runtime.federation.keys import read_private_key
    from dat_runtime.federation.round import demand_start, read_round

    opened = read_round(args.round)
    key = read_private_key(args.key)
    start = read_start(_trained_from(args.adapter / "config.yaml"))
    demand_start(opened, start, args.round)
    samples = _samples(args.adapter / "run.json")
    write_increment(args.out, args.adapter, opened, start, args.node, samples, key)
    size = args.out.stat().st_size / 1e6
    print(
        f"[{args.node}] round {opened.round}, {samples} samples, {size:.1f} MB: {args.out}",
        flush=True,
    )
    return 0


def _trained_from(path: Path) -> Path:
    """The adapter that LLaMA-Factory went on from.

    Raises:
        DataError: the configuration names none.
    """
    config = read_yaml(path, DataError)
    try:
        checked(config, {"adapter_name_or_path": TEXT}, "", further_keys=True)
    except ValueError as error:
        raise DataError(
            f"{error}: train from the round's adapter, adapter_name_or_path=FOLDER", path
        ) from None
    return Path(config["adapter_name_or_path"])


def _samples(path: Path) -> int:
    """On how many samples `train.lora` trained."""
    report = read_json(path)
    try:
        dataset = checked(report, {"dataset": OBJECT}, "", further_keys=True)["dataset"]
        return int(checked(dataset, {"samples": whole(1)}, "dataset", further_keys=True)["samples"])
    except ValueError as error:
        raise DataError(str(error), path) from None


if __name__ == "__main__":
    raise SystemExit(main())
