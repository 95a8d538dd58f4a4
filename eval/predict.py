"""One row of Tables 1-2: a model's answers about the test frames.

    python -m eval.predict --instructions OUT/instructions --inputs boxed --model OUT/base \\
        --adapter OUT/lora-boxed --out OUT/predictions/boxed-lora
    python -m eval.predict --instructions OUT/instructions --inputs boxed --model gpt-5 \\
        --endpoint https://host/v1 --out OUT/predictions/gpt-5        (key in OPENAI_API_KEY)

Writes predictions.jsonl: image_id, text (boxes in original-frame pixels), latency_s (a batch's
whole time for each of its frames), model_text (as generated, boxes in pixels of the image sent),
prompt_tokens and completion_tokens; and usage.json: their sums, what they cost, and the frames to
which no answer came, which count as failed. Greedy decoding, unconstrained unless --constrained.

A run that was cut off goes on without asking twice. A whole run is not asked again; its missing
answers are, and nothing else, with --ask-missing. Several --endpoint share the frames; --shard asks
about one part, and eval.merge puts the parts together.
"""

import argparse
import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dat_runtime import manifest
from dat_runtime.errors import ConfigError, DatError, reports_errors
from dat_runtime.files import write_atomically
from dat_runtime.stage import Stage
from eval.answers import endpoint, local, usage
from eval.answers.asks import Ask, parse_shard, read_asks, record
from eval.answers.endpoint import Settings

FILE = "predictions.jsonl"


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    args = _arguments(argv)
    settings = endpoint.read_settings(args.settings) if args.settings else Settings()
    inputs = {"instructions": args.instructions}
    if args.adapter:
        inputs["adapter"] = args.adapter
    if Path(args.model).is_dir():
        inputs["model"] = Path(args.model)
    stage = Stage(
        args.out,
        kind="predictions",
        inputs=inputs,
        config=_recipe(args, settings),
        code=[__file__],
        resumable=True,
    )
    earlier = args.out if stage.up_to_date() else None
    if earlier and not (args.ask_missing and usage.read(earlier)["missing"]):
        return 0
    manifest.verify(args.instructions, "instructions")
    part, parts = args.shard
    asks = read_asks(args.instructions, args.inputs, args.part)[part - 1 :: parts]
    with stage as folder:
        if earlier and not (folder / FILE).exists():
            write_atomically(folder / FILE, (earlier / FILE).read_bytes())
        if args.endpoint:
            found = ask_endpoints(args, settings, asks, folder / FILE)
        else:
            found = ask_local(args, asks, folder / FILE)
        if not found.answered:
            raise DatError(f"{args.model} answered none of {len(asks)} frames")
        usage.write(folder, found)
    for line in usage.summary(found):
        print(f"[{args.out.name}] {line}", flush=True)
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="python -m eval.predict",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--instructions", type=Path, required=True)
    add("--inputs", choices=("boxed", "raw"), required=True)
    add("--part", choices=("val", "test"), default="test", help="frames asked about (test)")
    add("--model", required=True, help="folder, hub id, or name at the endpoint")
    add("--revision", help="of a model on the hub")
    add("--adapter", type=Path, help="LoRA adapter folder (train.lora)")
    add("--endpoint", action="append", metavar="URL", help="OpenAI-compatible server, such as "
        "http://host:8000/v1; give it again for each replica")  # fmt: skip
    add("--settings", type=Path, help="of the endpoint: request fields, prices (YAML)")
    add("--batch-size", type=int, default=16, help="frames asked at once, of each endpoint (16)")
    add("--max-new-tokens", type=int, default=512, help="of an answer (512)")
    add("--constrained", action="store_true", help="decode by the answer schema: a row of its own")
    add("--shard", type=parse_shard, default=(1, 1), metavar="PART/PARTS", help="such as 1/4")
    add("--ask-missing", action="store_true", help="of a whole run: ask again what is missing")
    add("--out", type=Path, required=True)
    args = parser.parse_args(argv)
    if args.endpoint and args.adapter:
        raise ConfigError("--endpoint serves its own adapter: name it with --model")
    if args.settings and not args.endpoint:
        raise ConfigError("--settings are an endpoint's: name it with --endpoint")
    if args.batch_size < 1 or args.max_new_tokens < 1:
        raise ConfigError("--batch-size and --max-new-tokens must be at least 1")
    return args


def _recipe(args: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    """What decides the answers; which replica gave one, and how many at once, does not."""
    recipe = {
        "inputs": args.inputs,
        "part": args.part,
        "model": "folder" if Path(args.model).is_dir() else args.model,
        "revision": args.revision,
        "max_new_tokens": args.max_new_tokens,
        "constrained": args.constrained,
        "shard": list(args.shard),
    }
    if args.endpoint:
        return {**recipe, "endpoint": dict(settings.request)}
    return {**recipe, "batch_size": args.batch_size}


def ask_local(args: argparse.Namespace, asks: Sequence[Ask], path: Path) -> usage.Usage:
    """Answers of a model in this process, each batch on disk before the next."""
    records = kept_lines(path)
    # Whole batches only, so that batches stay the same.
    records = records[: len(records) // args.batch_size * args.batch_size]
    write_atomically(path, "".join(map(_line, records)))
    progress = _Progress(args.out.name, len(records), len(asks))
    loaded = local.load(args.model, args.revision, args.adapter)
    with path.open("a", encoding="utf-8") as file:
        for batch in _batches(asks[len(records) :], args.batch_size):
            answers = local.generate(loaded, batch, args.max_new_tokens, args.constrained)
            new = [record(ask, answer) for ask, answer in zip(batch, answers, strict=True)]
            file.writelines(map(_line, new))
            file.flush()
            records += new
            progress.show(len(records))
    busy = sum(r["latency_s"] for r in records[:: args.batch_size])
    return usage.of(records, missing={}, prices={}, generation_s=busy)


def ask_endpoints(
    args: argparse.Namespace, settings: Settings, asks: Sequence[Ask], path: Path
) -> usage.Usage:
    """Answers of servers, each on disk as it comes; at the end in the order of the frames."""
    records = {r["image_id"]: r for r in kept_lines(path)}
    write_atomically(path, "".join(map(_line, records.values())))
    left = [ask for ask in asks if ask.id not in records]
    progress = _Progress(args.out.name, len(records), len(asks))
    request: dict[str, Any] = {"max_tokens": args.max_new_tokens}
    if args.constrained:
        request["response_format"] = endpoint.JSON_SCHEMA_FORMAT
    servers = endpoint.servers(
        args.endpoint,
        args.model,
        os.environ.get("OPENAI_API_KEY"),
        {**request, **settings.request},
    )
    missing = {}
    with path.open("a", encoding="utf-8") as file:
        for came in endpoint.answers(left, servers, args.batch_size):
            if came.answer is None:
                missing[came.ask.id] = came.reason
                print(f"[{args.out.name}] {came.ask.id}: {came.reason}", flush=True)
                continue
            records[came.ask.id] = {**record(came.ask, came.answer), "endpoint": came.url}
            file.write(_line(records[came.ask.id]))
            file.flush()
            progress.show(len(records))
    ordered = [records[ask.id] for ask in asks if ask.id in records]
    write_atomically(path, "".join(map(_line, ordered)))
    return usage.of(ordered, missing, settings.usd_per_million_tokens)


def kept_lines(path: Path) -> list[dict[str, Any]]:
    """The whole records of an unfinished file; a last line that was cut off is not one."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]


class _Progress:
    """How many answers there are, told every two seconds."""

    def __init__(self, name: str, done: int, total: int):
        self._name, self._total = name, total
        self._told = time.monotonic()
        if done:
            print(f"[{name}] {done} answers were there already", flush=True)

    def show(self, done: int) -> None:
        if time.monotonic() - self._told > 2:
            self._told = time.monotonic()
            print(f"[{self._name}] {done}/{self._total} answers", flush=True)


def _batches(asks: Sequence[Ask], size: int) -> Iterator[Sequence[Ask]]:
    for start in range(0, len(asks), size):
        yield asks[start : start + size]


def _line(record: dict[str, Any]) -> str:
    return json.dumps(record) + "\n"


if __name__ == "__main__":
    raise SystemExit(main())
