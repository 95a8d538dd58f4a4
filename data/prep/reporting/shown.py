"""What the report shows besides counts."""

from collections.abc import Sequence
from dataclasses import dataclass

from data.prep.importers.sources import Sources
from data.prep.prepared.kept import Kept
from data.prep.splitting.leaks import Link
from data.prep.splitting.resolution import Resolution


@dataclass(frozen=True)
class Shown:
    """The frames of the set, their twins across splits, and the contradictions.

    Attributes:
        across: `leaks.Links.across`; indices are of `kept`.
    """

    kept: Sequence[Kept]
    across: Sequence[Link]
    resolution: Resolution
    sources: Sources
