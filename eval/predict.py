"""One row of Tables 1-2: a model's answers about the test frames.

    python -m eval.predict --instructions OUT/instructions --inputs boxed --model BASE \\
        --adapter OUT/lora-boxed --out OUT/predictions/boxed-lora
    python -m eval.predict --instructions OUT/instructions --inputs boxed --model gpt-5 \\
        --endpoint https://host/v1 --out OUT/predictions/gpt-5        (key in OPENAI_API_KEY)

Writes predictions.jsonl: image_id, text (boxes in original-frame pixels), latency_s (for each frame
the time of its whole batch), model_text (as generated, boxes as the model counts them),
prompt_tokens and completion_tokens. Writes usage.json: the sums of tokens, what they cost, and the
frames without an answer, which count as failed. Decoding is greedy, and free unless --constrained:
by the answer's schema, or by its rules too (`--constrained rules`; then a byte counts as a token of
the limit).

Give --base with a server of your own: one that makes pictures smaller answers in other pixels,
which its prompt tokens alone betray, and the run stops.

A run that was cut off continues without asking about a frame twice. A complete run is not repeated;
--ask-missing asks again about its missing answers, and about nothing else. Several --endpoint share
the frames. --shard asks about one part of the frames, and eval.merge puts the parts together.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dat_runtime import manifest
from dat_runtime.chat import GREEDY
from dat_runtime.command import add_restart, command
from dat_runtime.errors import ConfigError, DatError, reports_errors
from dat_runtime.files import write_atomically
from dat_runtime.stage import Stage
from eval.answers import usage
from eval.answers.asks import longest_answer, read_asks
from eval.answers.endpoint import Settings, read_settings
from eval.answers.model import demand_family, verify_adapter
from eval.answers.rows import Row, ask_endpoints, ask_local
from eval.answers.rules import room_for
from eval.answers.shards import parse_shard

FILE = "predictions.jsonl"

LEAST_NEW_TOKENS = 256
"""Where all true answers are short, a longer one is to be seen whole too."""


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    args = _arguments(argv)
    settings = read_settings(args.settings) if args.settings else Settings()
    asks = read_asks(args.instructions, args.inputs, args.part)
    # From all frames of the part: shards of one row have one limit.
    limit = args.max_new_tokens or max(LEAST_NEW_TOKENS, longest_answer(asks))
    if args.constrained == "rules" and args.max_new_tokens is None:
        limit = room_for(asks)  # whatever the model prefers, its answer comes to its end
    inputs = {"instructions": args.instructions}
    if args.adapter:
        inputs["adapter"] = args.adapter
    if Path(args.model).is_dir():
        inputs["model"] = Path(args.model)
    stage = Stage(
        args.out,
        kind="predictions",
        inputs=inputs,
        config=_recipe(args, settings, limit),
        code=[__file__],
        resumable=True,
        restart=args.restart,
    )
    finished = stage.up_to_date()
    if finished and not (args.ask_missing and usage.read(args.out).missing):
        return 0
    if args.base or not args.endpoint:
        demand_family(args.instructions, args.base or args.model, args.revision)
    if args.endpoint and not args.base:
        print(f"[{args.out.name}] pictures may be resized unnoticed: --base compares", flush=True)
    if args.adapter:
        verify_adapter(args.adapter)
    manifest.verify(args.instructions, "instructions")
    part, parts = args.shard
    asks = asks[part - 1 :: parts]
    row = Row(
        name=args.out.name,
        model=args.model,
        revision=args.revision,
        adapter=args.adapter,
        endpoints=args.endpoint or (),
        base=args.base,
        batch_size=args.batch_size,
        max_new_tokens=limit,
        constrained=args.constrained,
    )
    with stage as folder:
        answers = folder / FILE
        if finished and not answers.exists():
            write_atomically(answers, (args.out / FILE).read_bytes())
        if row.endpoints:
            used = ask_endpoints(row, settings, asks, answers)
        else:
            used = ask_local(row, asks, answers)
        if not used.answered:
            raise DatError(f"{args.model} answered none of {len(asks)} frames")
        usage.write(folder, used)
    for line in usage.summary(used):
        print(f"[{args.out.name}] {line}", flush=True)
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command("eval.predict", __doc__)
    add = parser.add_argument
    add("--instructions", type=Path, required=True)
    add("--inputs", choices=("boxed", "raw"), required=True)
    add("--part", choices=("val", "test"), default="test", help="frames to ask about (test)")
    add("--model", required=True, help="folder, hub id, or name at the endpoint")
    add("--revision", help="revision of a model on the hub")
    add("--adapter", type=Path, help="LoRA adapter folder (train.lora)")
    add("--endpoint", action="append", metavar="URL", help="OpenAI-compatible server, such as "
        "http://host:8000/v1; give it again for each replica")  # fmt: skip
    add("--base", help="folder or hub name of the base that the endpoint serves: stop where it "
        "takes a question in other prompt tokens")  # fmt: skip
    add("--settings", type=Path, help="YAML of the endpoint: request fields, prices")
    add("--batch-size", type=int, default=16, help="frames at once, at each endpoint (16)")
    add("--max-new-tokens", type=int, help="most tokens of an answer (default: as many as the "
        "longest true answer has bytes, about twice its tokens)")  # fmt: skip
    add("--constrained", nargs="?", const="schema", choices=("schema", "rules"),
        help="let the answer schema constrain decoding, or the rules too (local)")  # fmt: skip
    add("--shard", type=parse_shard, default=(1, 1), metavar="PART/PARTS",
        help="one part of the frames, such as 1/4")  # fmt: skip
    add("--ask-missing", action="store_true", help="ask again where a complete run has no answer")
    add("--out", type=Path, required=True)
    add_restart(parser)
    args = parser.parse_args(argv)
    if args.endpoint and args.adapter:
        raise ConfigError("--endpoint serves its own adapter: name it with --model")
    if args.base and not args.endpoint:
        raise ConfigError("--base is what an endpoint serves: name a model here with --model")
    if args.settings and not args.endpoint:
        raise ConfigError("--settings belong to an endpoint: name it with --endpoint")
    if args.endpoint and args.constrained == "rules":
        raise ConfigError("no server is told the rules: --constrained rules is for a model here")
    if args.batch_size < 1 or (args.max_new_tokens is not None and args.max_new_tokens < 1):
        raise ConfigError("--batch-size and --max-new-tokens must be at least 1")
    return args


def _recipe(args: argparse.Namespace, settings: Settings, limit: int) -> dict[str, Any]:
    """What decides the answers. Of endpoints, neither the address nor the batch size does."""
    recipe = {
        "inputs": args.inputs,
        "part": args.part,
        "model": "folder" if Path(args.model).is_dir() else args.model,
        "revision": args.revision,
        "max_new_tokens": limit,
        "constrained": args.constrained,
        "decoding": GREEDY,
        "shard": list(args.shard),
    }
    if args.endpoint:
        recipe["endpoint"] = dict(settings.request)
    else:
        recipe["batch_size"] = args.batch_size
    return recipe


if __name__ == "__main__":
    raise SystemExit(main())
