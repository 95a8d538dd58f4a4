"""The parts of a row that was answered on several machines, and the row that they make."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dat_runtime import manifest
from dat_runtime.errors import ConfigError, DataError, ManifestError
from dat_runtime.files import read_json_lines, write_json_lines
from eval.answers import usage
from eval.answers.asks import read_asks


def parse_shard(text: str) -> tuple[int, int]:
    """`"2/4"` as (2, 4): the second of four parts.

    Raises:
        ConfigError: it is not of this form.
    """
    part, _, parts = text.partition("/")
    # isdigit alone allows the digits of other scripts, isascii alone allows letters.
    if not (part.isascii() and part.isdigit() and parts.isascii() and parts.isdigit()):
        raise ConfigError(f"--shard {text!r}: expected PART/PARTS, such as 1/4")
    if not 1 <= int(part) <= int(parts):
        raise ConfigError(f"--shard {text!r}: the part is not between 1 and {parts}")
    return int(part), int(parts)


def whole_recipe(parts: Sequence[Path], instructions: Path) -> dict[str, Any]:
    """The configuration that all parts share.

    Raises:
        ManifestError: the parts do not make one whole, or answer other instructions.
    """
    shared: dict[str, Any] | None = None
    seen: set[int] = set()
    for part in parts:
        stated = manifest.verify(part, "predictions")
        if stated.inputs["instructions"] != manifest.digest(instructions):
            raise ManifestError(f"{part} answers other instructions than {instructions}")
        config = dict(stated.config)
        number, count = config.pop("shard", (1, 1))
        config["shards"] = count
        recipe = {"config": config, "inputs": stated.inputs, "code": stated.code}
        if shared is not None and recipe != shared:
            raise ManifestError(
                f"{part} was not made as {parts[0]} was: ask again with the same options and code"
            )
        if number in seen:
            raise ManifestError(f"{part}: part {number} of {count} is there twice")
        shared = recipe
        seen.add(number)
    if shared is None:
        raise ManifestError("no parts")
    count = shared["config"]["shards"]
    absent = sorted(set(range(1, count + 1)) - seen)
    if absent:
        listed = ", ".join(map(str, absent))
        raise ManifestError(f"parts {listed} of {count} are missing")
    return dict(shared["config"])


def merge(
    parts: Sequence[Path], instructions: Path, config: Mapping[str, Any], folder: Path
) -> None:
    """Write predictions.jsonl and usage.json of all parts.

    Raises:
        DataError: a frame was neither answered nor noted as missing.
    """
    records = {}
    for part in parts:
        for _, record in read_json_lines(part / "predictions.jsonl"):
            records[record["image_id"]] = record
    total = usage.merged([usage.read(part) for part in parts])
    ids = [ask.id for ask in read_asks(instructions, config["inputs"], config["part"])]
    lost = set(ids) - records.keys() - total.missing.keys()
    if lost:
        raise DataError(f"{len(lost)} frames were not asked about, such as {min(lost)!r}")
    ordered = [records[image_id] for image_id in ids if image_id in records]
    write_json_lines(folder / "predictions.jsonl", ordered)
    usage.write(folder, total)
