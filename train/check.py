"""What a whole run needs, looked at before hours are spent on it: keys, weights, base, card, disk.

    python -m train.check --gate "configs/yolo/gate_2cls.yaml epochs=50" \\
        --tuning "configs/lora/boxed.yaml" --base Qwen/Qwen2.5-VL-7B-Instruct --out OUT

`make pipeline` and `make smoke` begin with it. It trains nothing, writes nothing, and downloads no
more than the base's config.json. How long the samples are is not known yet: `train.lora` looks at
memory once more when they are.
"""

from collections.abc import Sequence
from pathlib import Path

from dat_runtime.command import command
from dat_runtime.errors import ConfigError, reports_errors
from train.detector import ultralytics_config
from train.mllm import preflight, resources
from train.mllm.memory import weight_bytes
from train.mllm.refused_keys import demand_keys
from train.mllm.run_settings import RunSettings, read_settings
from train.recipe.config_file import read_config, words
from train.recipe.upstream_keys import demand_llamafactory

MOST_SAMPLES = 100_000
"""As many as to let save_total_limit alone say how many checkpoints there are."""


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    parser = command("train.check", __doc__)
    add = parser.add_argument
    add("--gate", type=words, help="a gate's configuration and its key=value, in one word")
    add("--tuning", type=words, action="append", default=[], help="the same of an MLLM; again")
    add("--base", help="folder or hub name of the base (default: not looked at)")
    add("--out", type=Path, default=Path("runs"), help="where the run will write (runs)")
    args = parser.parse_args(argv)
    looked_at = []
    if args.gate:
        gate = ultralytics_config.read_config(Path(args.gate[0]), args.gate[1:])
        ultralytics_config.demand_weights(gate)
        ultralytics_config.demand_device(gate)
        looked_at.append(args.gate[0])
    for file, *overrides in args.tuning:
        config = read_config(Path(file), overrides)
        demand_llamafactory(config)
        demand_keys(config)
        if args.base:
            config["model_name_or_path"] = args.base
        settings = read_settings(config)
        if args.base:
            print(f"[check] {_base(settings, args.out)}", flush=True)
        looked_at.append(file)
    print(f"[check] keys and weights are in order: {', '.join(looked_at)}", flush=True)
    return 0


def _base(settings: RunSettings, out: Path) -> str:
    """What was found of base, card and disk.

    Raises:
        DatError: one of them will not do.
    """
    preflight.base_folder(settings)
    card = resources.demand_card(settings)
    sizes = resources.model_sizes(settings)
    weights = weight_bytes(*sizes, settings)
    if card is not None and weights > card.memory:
        raise ConfigError(
            f"the weights of {settings.model_name_or_path} alone take {weights / 1e9:.1f} GB, "
            f"{card.name} has {card.memory / 1e9:.1f} GB: see configs/lora/qlora.yaml"
        )
    disk = resources.demand_disk(settings, sizes, MOST_SAMPLES, out, card.count if card else 1)
    name = "no card" if card is None else f"{card.name}, {card.memory / 1e9:.1f} GB"
    return (
        f"{settings.model_name_or_path}: {weights / 1e9:.1f} GB of weights; {name}; "
        f"{disk / 1e9:.1f} GB of disk below {out}"
    )


if __name__ == "__main__":
    raise SystemExit(main())
