"""What an update repository offers: one bundle a version, under terms that its keys signed.

A bundle is one TUF target per file, `bundles/NAME/VERSION/FILE`. The target of its `manifest.json`
carries the terms as `custom`. Nothing here opens a file or a connection.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from dat_runtime import fields, manifest
from dat_runtime.edge.updates.refusals import BadOffer
from dat_runtime.fields import Rule

PREFIX = "bundles/"

MOST_FILES = 64
MOST_FILE_BYTES = 8 << 30
"""Of a bundle; those of today have 8 files, a gate of 6 to 40 MB and an adapter of 10 to 300 MB."""

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_PART = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_FILE = re.compile(rf"(?:{_PART}/){{0,3}}{_PART}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_RUNTIME = re.compile(r"[0-9]{1,6}(?:\.[0-9]{1,6}){0,3}")

SHA256 = Rule(
    lambda v: isinstance(v, str) and _SHA256.fullmatch(v) is not None,
    "64 hexadecimal digits (sha256)",
)
NAMED = Rule(
    lambda v: isinstance(v, str) and _NAME.fullmatch(v) is not None,
    "1 to 64 of a-z 0-9 . _ - that begin with a letter or a digit",
)
RUNTIME = Rule(
    lambda v: isinstance(v, str) and _RUNTIME.fullmatch(v) is not None, "a version such as 0.1.0"
)
_SHORT = Rule(
    lambda v: isinstance(v, str) and 0 < len(v) <= 200 and v.isprintable(),
    "1 to 200 printable characters",
)


def decimal(low: float, high: float) -> Rule:
    """A text that writes a number: what is signed, canonical JSON, has whole numbers only."""
    return Rule(
        lambda v: (
            isinstance(v, str) and _DECIMAL.fullmatch(v) is not None and low <= float(v) <= high
        ),
        f"a text that writes a number from {low:g} to {high:g}",
    )


_DECIMAL = re.compile(r"-?[0-9]{1,20}(?:\.[0-9]{1,20})?(?:e[+-]?[0-9]{1,3})?")
_FIGURE = decimal(-1e300, 1e300)
_METRICS = Rule(
    lambda v: (
        isinstance(v, dict)
        and len(v) <= 64
        and all(_SHORT.holds(name) and _FIGURE.holds(value) for name, value in v.items())
    ),
    "at most 64 numbers by name, each a text",
)


TERMS: Mapping[str, Rule] = {
    "release": fields.whole(1, 2**53),
    "base": _SHORT,
    "base_revision": _SHORT,
    "processor": SHA256,
    "rank": fields.whole(1, 1024),
    "alpha": decimal(1e-6, 1e6),
    "modules": fields.list_of(_SHORT, 1, 256),
    "gate": SHA256,
    "prompt": fields.whole(1),
    "schema": fields.whole(1),
    "drawing": fields.whole(1),
    "runtime": RUNTIME,
    "metrics": _METRICS,
    "rollout": decimal(0, 1),
}
"""What `custom` holds. Further keys are let pass: a later publisher may say more."""


@dataclass(frozen=True)
class Terms:
    """What has to hold for a node to take a bundle, and what is known of it.

    Attributes:
        release: rises with every bundle that is published, whatever its version is called.
        base, base_revision: the model that the adapter belongs to, as in the bundle's manifest.
        processor: digest of the base's image processor, see `processor.processor_digest`.
        rank, alpha, modules: of the adapter (Eq. 5).
        gate: digest of the gate's model and settings, see `gate_digest`.
        prompt, schema, drawing: versions that the adapter was tuned with.
        runtime: the earliest version of this package that serves it.
        metrics: what `eval.score` measured, by name.
        rollout: share of the nodes that take it now.
    """

    release: int
    base: str
    base_revision: str
    processor: str
    rank: int
    alpha: float
    modules: tuple[str, ...]
    gate: str
    prompt: int
    schema: int
    drawing: int
    runtime: str
    metrics: dict[str, float]
    rollout: float

    @classmethod
    def read(cls, custom: object) -> "Terms":
        """The terms in a target's `custom`.

        Raises:
            ValueError: the first field that is missing or wrong.
        """
        found = fields.checked(custom, TERMS, "custom", further_keys=True)
        read = {
            "alpha": float(found["alpha"]),
            "modules": tuple(found["modules"]),
            "metrics": {name: float(figure) for name, figure in found["metrics"].items()},
            "rollout": float(found["rollout"]),
        }
        return cls(**{name: found[name] for name in TERMS} | read)

    def as_json(self) -> dict[str, Any]:
        """As `custom` holds it."""
        return vars(self) | {
            "alpha": repr(float(self.alpha)),
            "modules": list(self.modules),
            "metrics": {name: repr(float(figure)) for name, figure in self.metrics.items()},
            "rollout": repr(float(self.rollout)),
        }


class OfferedFile(NamedTuple):
    """A file of a bundle: its path there, its content's sha256 and its bytes."""

    path: str
    sha256: str
    length: int


@dataclass(frozen=True)
class Offer:
    """One version of a bundle, signed.

    Attributes:
        digest: sha256 of its `manifest.json`, which names the digests of all its files.
    """

    name: str
    version: str
    release: int
    digest: str
    files: tuple[OfferedFile, ...]
    terms: Terms

    @property
    def length(self) -> int:
        """Bytes of all files."""
        return sum(file.length for file in self.files)

    def is_for(self, node: str) -> bool:
        """Whether a node is in the share that takes it now; who is stays so as the share grows."""
        drawn = hashlib.sha256(f"{node}\n{self.name}\n{self.version}".encode()).digest()
        return int.from_bytes(drawn[:8], "big") < self.terms.rollout * 2**64


class Target(NamedTuple):
    """What signed metadata says of one target."""

    length: int
    sha256: str
    custom: object


def target_path(name: str, version: str, file: str) -> str:
    """Where a file of a bundle lies among the targets."""
    return f"{PREFIX}{name}/{version}/{file}"


def gate_digest(files: Mapping[str, str]) -> str:
    """One digest of the gate in a bundle.

    Args:
        files: path in the bundle -> sha256; those under `gate/` count.
    """
    gate = sorted((path, sha) for path, sha in files.items() if path.startswith("gate/"))
    return hashlib.sha256("".join(f"{sha}  {path}\n" for path, sha in gate).encode()).hexdigest()


def offers_in(targets: Mapping[str, Target]) -> tuple[list[Offer], list[BadOffer]]:
    """The bundles among the targets, the highest release first; and what is none, each named."""
    bundles: dict[tuple[str, str], dict[str, Target]] = {}
    refused = []
    for path, target in targets.items():
        parts = path.removeprefix(PREFIX).split("/", 2)
        if not path.startswith(PREFIX) or len(parts) != 3:
            refused.append(BadOffer(f"{path!r} is no file of a bundle: {PREFIX}NAME/VERSION/FILE"))
            continue
        bundles.setdefault((parts[0], parts[1]), {})[parts[2]] = target
    found = []
    for (name, version), files in bundles.items():
        try:
            found.append(_offer(name, version, files))
        except ValueError as error:
            refused.append(BadOffer(str(error), f"{name}/{version}"))
    return sorted(found, key=lambda offer: -offer.release), refused


def _offer(name: str, version: str, files: Mapping[str, Target]) -> Offer:
    """Raises:
    ValueError: what does not fit.
    """
    for told in (name, version):
        if not NAMED.holds(told):
            raise ValueError(f"{told!r} is no name, expected {NAMED.expected}")
    stated = files.get(manifest.NAME)
    if stated is None:
        raise ValueError(f"has no {manifest.NAME}")
    if len(files) > MOST_FILES:
        raise ValueError(f"{len(files)} files, expected at most {MOST_FILES}")
    terms = Terms.read(stated.custom)
    offered = tuple(_files(files))
    gate = gate_digest({file.path: file.sha256 for file in offered})
    if gate != terms.gate:
        raise ValueError(f"its gate's files have the digest {gate}, its terms state {terms.gate}")
    return Offer(name, version, terms.release, stated.sha256, offered, terms)


def _files(files: Mapping[str, Target]) -> Iterator[OfferedFile]:
    for path, target in sorted(files.items()):
        if not _FILE.fullmatch(path):
            raise ValueError(f"{path!r} is no path in a bundle")
        if not _SHA256.fullmatch(target.sha256):
            raise ValueError(f"{path} has no sha256")
        if not 0 <= target.length <= MOST_FILE_BYTES:
            raise ValueError(
                f"{path} has {target.length:,} bytes, expected at most {MOST_FILE_BYTES:,}"
            )
        yield OfferedFile(path, target.sha256, target.length)
