"""Room on the disk of a node, which its spool needs too."""

import shutil
from pathlib import Path

from dat_runtime.edge.updates.refusals import UpdateError

SPARE_BYTES = 50_000_000
"""Of the disk that stay free."""


def demand_space(folder: Path, size: int) -> None:
    """Refuse a bundle that would fill the disk.

    Raises:
        UpdateError: says how much is free.
    """
    free = shutil.disk_usage(folder).free
    if free < size + SPARE_BYTES:
        raise UpdateError(
            f"the disk has {free:,} bytes left, the bundle takes {size:,} and {SPARE_BYTES:,} are "
            "to stay free",
            folder,
        )
