"""A round: which adapter all nodes start from, and a number and a nonce that no other round has.

`round.json` holds nothing secret and needs no signature: what a node signs for a forged one is
refused.
"""

import hashlib
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

from dat_runtime import fields
from dat_runtime.adapter import CONFIG, WEIGHTS
from dat_runtime.errors import DataError
from dat_runtime.federation.factors import Start
from dat_runtime.fields import Rule, above, checked, whole
from dat_runtime.files import read_json
from dat_runtime.manifest import digest

MOST_BYTES = 1 << 14

_HEX = frozenset("0123456789abcdef")


def hexadecimal(digits: int) -> Rule:
    """A text of that many lower-case hexadecimal digits."""
    return Rule(
        lambda v: isinstance(v, str) and len(v) == digits and _HEX.issuperset(v),
        f"{digits} hexadecimal digits",
    )


ROUND_FIELDS = {
    "round": whole(1, 1 << 31),
    "nonce": hexadecimal(32),
    "base": fields.NAME,
    "revision": fields.NAME,
    "start": hexadecimal(64),
    "rank": whole(1),
    "scale": above(0),
    "modules": whole(1),
}


@dataclass(frozen=True)
class Round:
    """What every increment of a round repeats and signs.

    Attributes:
        round: its number.
        nonce: random, so that a number used twice lets no earlier increment in.
        base: name of the base model.
        revision: of the base model; of a folder, its digest.
        start: `start_digest` of the adapter from which all nodes train.
        scale: by which the adapter's B A is multiplied.
        modules: how many the adapter has.
    """

    round: int
    nonce: str
    base: str
    revision: str
    start: str
    rank: int
    scale: float
    modules: int

    def differences(self, other: "Round") -> list[str]:
        """The fields in which another one differs, in words."""
        mine, others = asdict(self), asdict(other)
        return [
            f"{name} is {fields.shown(others[name])}, expected {fields.shown(value)}"
            for name, value in mine.items()
            if others[name] != value
        ]


def start_digest(folder: Path) -> str:
    """sha256 over the digests of an adapter's weights and configuration."""
    parts = digest(folder / WEIGHTS) + digest(folder / CONFIG)
    return hashlib.sha256(parts.encode()).hexdigest()


def open_round(number: int, start: Start, nonce: str | None = None) -> Round:
    """A round that starts from an adapter; with a new nonce where none is given."""
    return Round(
        round=number,
        nonce=secrets.token_hex(16) if nonce is None else nonce,
        base=start.adapter.base,
        revision=start.adapter.revision,
        start=start_digest(start.folder),
        rank=start.adapter.rank,
        scale=start.adapter.scale,
        modules=len(start.weights.modules),
    )


def read_round(path: Path) -> Round:
    """The round in a file.

    Raises:
        DataError: the file is not one.
    """
    value = read_json(path, missing="train.round makes it", most_bytes=MOST_BYTES, strict=True)
    try:
        return Round(**checked(value, ROUND_FIELDS, ""))
    except ValueError as error:
        raise DataError(str(error), path) from None


def demand_start(opened: Round, start: Start, path: Path) -> None:
    """Refuse an adapter that is not the one that the round starts from.

    Raises:
        DataError: names what differs.
    """
    different = opened.differences(open_round(opened.round, start, opened.nonce))
    if different:
        raise DataError(
            f"round {opened.round} of {path} starts from another adapter: {different[0]}",
            start.folder,
        )
