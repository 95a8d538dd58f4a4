"""Put the shards of one row together.

    python -m eval.predict ... --shard 1/2 --out parts/1      (on one machine)
    python -m eval.predict ... --shard 2/2 --out parts/2      (on another)
    python -m eval.merge parts/1 parts/2 --instructions OUT/instructions \\
        --out OUT/predictions/boxed-lora

The result is a row as eval.predict makes it, frames in the order of the instructions.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dat_runtime import manifest
from dat_runtime.errors import DataError, ManifestError, reports_errors
from dat_runtime.files import write_atomically
from dat_runtime.stage import Stage
from eval.answers import usage
from eval.answers.asks import read_asks
from eval.answers.usage import Usage


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="python -m eval.merge",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("parts", type=Path, nargs="+", help="folders of eval.predict --shard")
    parser.add_argument("--instructions", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder of the row")
    args = parser.parse_args(argv)
    config = whole_recipe(args.parts, args.instructions)
    stage = Stage(
        args.out,
        kind="predictions",
        inputs={
            "instructions": args.instructions,
            **{f"part {i}": part for i, part in enumerate(args.parts, 1)},
        },
        config=config,
        code=[__file__],
    )
    if not stage.up_to_date():
        with stage as folder:
            merge(args.parts, args.instructions, config, folder)
    return 0


def whole_recipe(parts: Sequence[Path], instructions: Path) -> dict[str, Any]:
    """The configuration that all parts share.

    Raises:
        ManifestError: the parts are not those of one whole, or answer other instructions.
    """
    shared: dict[str, Any] | None = None
    seen: set[int] = set()
    for part in parts:
        made = manifest.verify(part, "predictions")
        config = {**made.config}
        number, of = config.pop("shard", (1, 1))
        config["shards"] = of
        if made.inputs["instructions"] != manifest.digest(instructions):
            raise ManifestError(f"{part} answers other instructions than {instructions}")
        recipe = {"config": config, "inputs": made.inputs, "code": made.code}
        if shared is not None and recipe != shared:
            raise ManifestError(f"{part} was not made as {parts[0]} was: ask again the same way")
        if number in seen:
            raise ManifestError(f"{part}: part {number} of {of} is there twice")
        shared = recipe
        seen.add(number)
    if shared is None:
        raise ManifestError("no parts")
    if absent := sorted(set(range(1, shared["config"]["shards"] + 1)) - seen):
        listed = ", ".join(map(str, absent))
        raise ManifestError(f"parts {listed} of {shared['config']['shards']} are missing")
    return dict(shared["config"])


def merge(
    parts: Sequence[Path], instructions: Path, config: Mapping[str, Any], folder: Path
) -> None:
    """Write predictions.jsonl and usage.json of all parts.

    Raises:
        DataError: a frame was neither answered nor noted as missing.
    """
    lines = {}
    for part in parts:
        for line in (part / "predictions.jsonl").read_text("utf-8").splitlines(keepends=True):
            lines[json.loads(line)["image_id"]] = line
    total = usage.merged([Usage(**usage.read(part)) for part in parts])
    ids = [ask.id for ask in read_asks(instructions, config["inputs"], config["part"])]
    if lost := set(ids) - lines.keys() - total.missing.keys():
        raise DataError(f"{len(lost)} frames were not asked about, such as {min(lost)!r}")
    text = "".join(lines[image_id] for image_id in ids if image_id in lines)
    write_atomically(folder / "predictions.jsonl", text)
    usage.write(folder, total)


if __name__ == "__main__":
    raise SystemExit(main())
