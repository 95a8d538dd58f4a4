"""A node's increment: one file of three parts, of which the first two are lines of text.

    DAT increment 1
    {"statement": "...", "key": "...", "signature": "..."}
    safetensors: the factors of the adapter as the node trained it

The statement is a JSON text. What is signed (Ed25519) are the bytes of the first line and of that
text; the statement holds the sha256 of the third part. `tail -n +3` gives a safetensors file.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from dat_runtime.adapter import MAX_HEADER_BYTES, WEIGHTS, read_header
from dat_runtime.alert import NAME
from dat_runtime.errors import ConfigError, DataError
from dat_runtime.federation.factors import Start, Weights, read_start
from dat_runtime.federation.keys import key_id
from dat_runtime.federation.round import ROUND_FIELDS, Round, hexadecimal
from dat_runtime.fields import OBJECT, TEXT, checked, whole
from dat_runtime.files import parse
from dat_runtime.manifest import VERSIONS, digest

SUFFIX = ".increment"
MAGIC = b"DAT increment 1\n"
MOST_LINE = 1 << 14
"""Longest second line, bytes."""

MOST_SAMPLES = 1 << 31

_ENVELOPE = {"statement": TEXT, "key": hexadecimal(16), "signature": hexadecimal(128)}
_STATEMENT = {
    "node": NAME,
    "samples": whole(1, MOST_SAMPLES),
    "versions": OBJECT,
    "weights": hexadecimal(64),
    **ROUND_FIELDS,
}


@dataclass(frozen=True)
class Increment:
    """An increment whose signature and form were checked; not yet what it holds.

    Attributes:
        samples: on which the node says that it trained.
        weights: the factors of the whole adapter, not of the difference.
        sha256: of the factors' part of the file.
    """

    path: Path
    node: str
    samples: int
    weights: Weights
    sha256: str


def write_increment(
    path: Path,
    adapter: Path,
    opened: Round,
    start: Start,
    node: str,
    samples: int,
    key: Ed25519PrivateKey,
) -> None:
    """Sign what a node trained and write it as one file.

    Args:
        adapter: folder of the trained adapter.
        start: the adapter from which it was trained, the round's.

    Raises:
        DataError: the adapter does not belong to the round.
        ConfigError: the file cannot be written.
        ModelError: the adapter is broken.
    """
    trained = read_start(adapter)
    _demand_trained_from(trained, start, opened)
    statement = {
        "node": node,
        "samples": samples,
        "versions": VERSIONS,
        "weights": digest(adapter / WEIGHTS),
        **asdict(opened),
    }
    try:
        text = json.dumps(checked(statement, _STATEMENT, ""))
    except ValueError as error:
        raise ConfigError(str(error)) from None
    envelope = {
        "statement": text,
        "key": key_id(key.public_key()),
        "signature": key.sign(MAGIC + text.encode()).hex(),
    }
    beside = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with beside.open("wb") as file, (adapter / WEIGHTS).open("rb") as weights:
            file.write(MAGIC + json.dumps(envelope).encode() + b"\n")
            shutil.copyfileobj(weights, file, 1 << 20)
        beside.replace(path)
    except OSError as error:
        raise ConfigError(f"cannot be written ({error.strerror})", path) from None
    finally:
        beside.unlink(missing_ok=True)


def _demand_trained_from(trained: Start, start: Start, opened: Round) -> None:
    """Refuse an adapter of another base, size or scale than the round's, or the start itself."""
    mine = (
        trained.adapter.base,
        trained.adapter.revision,
        trained.adapter.rank,
        trained.adapter.scale,
    )
    wanted = (opened.base, opened.revision, opened.rank, opened.scale)
    names = ("base", "revision", "rank", "scale")
    for name, value, expected in zip(names, mine, wanted, strict=True):
        if value != expected:
            raise DataError(
                f"{name} is {value!r}, round {opened.round} has {expected!r}", trained.folder
            )
    if trained.weights.shapes != start.weights.shapes:
        raise DataError(
            f"its modules or their shapes are not those of {start.folder}", trained.folder
        )
    if digest(trained.folder / WEIGHTS) == digest(start.folder / WEIGHTS):
        raise DataError(f"is the adapter of {start.folder}: nothing was trained", trained.folder)


def read_increment(
    path: Path, registry: Mapping[str, Ed25519PublicKey], opened: Round, start: Start
) -> Increment:
    """An increment of this round, after size, signature, statement, digest and shapes were checked.

    In that order: nothing that its author wrote is looked at before the signature but the two lines
    that hold it, and the size before anything.

    Raises:
        DataError: it is not one; says whose it is as soon as that is known.
    """
    most = most_bytes(start)
    try:
        size = path.stat().st_size
        if path.is_symlink() or not path.is_file():
            raise DataError("not a plain file", path)
        if size > most:
            raise DataError(
                f"{size:,} bytes, an increment of this round has at most {most:,}", path
            )
        with path.open("rb") as file:
            return _read(file, path, size, registry, opened, start)
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})", path) from None
    except ValueError as error:
        raise DataError(str(error), path) from None


def most_bytes(start: Start) -> int:
    """The most bytes of a file with the start's tensors, of whatever type."""
    return len(MAGIC) + MOST_LINE + 8 + MAX_HEADER_BYTES + 4 * start.adapter.parameters


def _read(
    file: BufferedReader,
    path: Path,
    size: int,
    registry: Mapping[str, Ed25519PublicKey],
    opened: Round,
    start: Start,
) -> Increment:
    statement = _signed_statement(file, registry)
    node = statement["node"]
    stated = Round(**{name: statement[name] for name in ROUND_FIELDS})
    different = opened.differences(stated)
    if different:
        raise ValueError(f"{node}: not of this round: {different[0]}")
    if statement["versions"] != VERSIONS:
        raise ValueError(f"{node}: trained with versions {statement['versions']}, not {VERSIONS}")
    begin = file.tell()
    if _rest_digest(file) != statement["weights"]:
        raise ValueError(f"{node}: the weights are not those that were signed")
    file.seek(begin)
    tensors = {tensor.name: tensor for tensor in read_header(file, size - begin)}
    weights = Weights(path, file.tell(), tensors)
    if weights.shapes != start.weights.shapes:
        raise ValueError(f"{node}: its modules or their shapes are not those of the start")
    return Increment(path, node, statement["samples"], weights, statement["weights"])


def _rest_digest(file: BufferedReader) -> str:
    """sha256 of what comes after the first two lines, which were read."""
    return hashlib.file_digest(file, "sha256").hexdigest()


def demand_unchanged(increment: Increment) -> None:
    """Refuse an increment whose file was written to since it was checked.

    Raises:
        DataError: the weights that were read may not be those that the node signed.
    """
    with increment.path.open("rb") as file:
        file.readline(len(MAGIC))
        file.readline(MOST_LINE)
        if _rest_digest(file) != increment.sha256:
            raise DataError(
                "was changed while it was read: take the folder away from whoever writes into it",
                increment.path,
            )


def _signed_statement(
    file: BufferedReader, registry: Mapping[str, Ed25519PublicKey]
) -> dict[str, Any]:
    """The statement, signed with the key of the node that it names.

    Raises:
        ValueError: the lines are not what they should be, or the signature is not that node's.
    """
    if file.read(len(MAGIC)) != MAGIC:
        raise ValueError("not an increment: its first line is another")
    line = file.readline(MOST_LINE)
    if not line.endswith(b"\n"):
        raise ValueError(f"not an increment: its second line is longer than {MOST_LINE:,} bytes")
    envelope = checked(parse(line.decode("utf-8")), _ENVELOPE, "second line")
    text = envelope["statement"]
    owners = [node for node, key in registry.items() if key_id(key) == envelope["key"]]
    if not owners:
        raise ValueError(f"signed with the key {envelope['key']}, which no node is registered with")
    owner = owners[0]
    try:
        registry[owner].verify(bytes.fromhex(envelope["signature"]), MAGIC + text.encode("utf-8"))
    except InvalidSignature:
        raise ValueError(f"the signature is not that of {owner}") from None
    statement = checked(parse(text), _STATEMENT, f"statement of {owner}")
    if statement["node"] != owner:
        raise ValueError(f"{owner} signed it as {statement['node']}")
    return statement
