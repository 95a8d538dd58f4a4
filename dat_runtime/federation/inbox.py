"""The increments that came in for a round: one for each node, the others refused by name."""

import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from dat_runtime.errors import ConfigError, DataError
from dat_runtime.federation.factors import Start
from dat_runtime.federation.increment import SUFFIX, Increment, most_bytes, read_increment
from dat_runtime.federation.round import Round


@dataclass(frozen=True)
class Refusal:
    """A file that does not count.

    Attributes:
        file: its name.
        reason: in words, with the node where it is known.
    """

    file: str
    reason: str


@dataclass(frozen=True)
class Inbox:
    """What is in a folder: increments in the order of their nodes' names, and refusals."""

    increments: tuple[Increment, ...]
    refusals: tuple[Refusal, ...]


def candidates(folder: Path, start: Start) -> dict[str, Path]:
    """What of a folder is read at all, by name: plain files no larger than an increment can be.

    Raises:
        ConfigError: there is no such folder.
    """
    _demand_folder(folder)
    most = most_bytes(start)
    found = {}
    for path in sorted(folder.iterdir()):
        about = path.lstat()
        if path.suffix == SUFFIX and stat.S_ISREG(about.st_mode) and about.st_size <= most:
            found[path.name] = path
    return found


def read_inbox(
    folder: Path, registry: Mapping[str, Ed25519PublicKey], opened: Round, start: Start
) -> Inbox:
    """All files of a folder; none of them can keep another one out, but for a node's own.

    A copy of an increment counts once. A node that signed two different ones for the same round is
    not heard: nobody can say which one it meant.

    Raises:
        ConfigError: there is no such folder.
    """
    _demand_folder(folder)
    by_node: dict[str, list[Increment]] = {}
    refusals = []
    for path in sorted(folder.iterdir()):
        if path.suffix != SUFFIX:
            refusals.append(Refusal(path.name, f"its name does not end in {SUFFIX}"))
            continue
        try:
            increment = read_increment(path, registry, opened, start)
        except DataError as error:
            refusals.append(Refusal(path.name, str(error).removeprefix(f"{path}: ")))
            continue
        by_node.setdefault(increment.node, []).append(increment)
    increments = []
    for node in sorted(by_node):
        kept, refused = _one(node, by_node[node])
        increments += kept
        refusals += refused
    return Inbox(tuple(increments), tuple(refusals))


def _demand_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise ConfigError(f"{folder} is no folder of increments NODE{SUFFIX}")


def _one(node: str, sent: list[Increment]) -> tuple[list[Increment], list[Refusal]]:
    """The increment of a node, if it is one; and the files that do not count."""
    first = sent[0]
    different = [one for one in sent if one.sha256 != first.sha256 or one.samples != first.samples]
    if different:
        names = ", ".join(one.path.name for one in sent)
        reason = f"{node}: signed {len(sent)} different increments for this round ({names})"
        return [], [Refusal(one.path.name, reason) for one in sent]
    reason = f"{node}: a copy of {first.path.name}"
    return [first], [Refusal(one.path.name, reason) for one in sent[1:]]
