"""The figures that the paper prints in Tables 1, 2 and 3: the one place that reads them."""

from pathlib import Path
from typing import Any

from dat_runtime.files import read_json

FILE = Path(__file__).parents[1] / "paper.json"
"""A stage that shows these figures lists this file in its `code`, so that a change remakes it."""


def table(number: int) -> list[dict[str, Any]]:
    """The rows of Table 1, 2 or 3, in the paper's order.

    Rows of Tables 1 and 2 have the name `row`, those of Table 3 `block` and `method`. Rates of
    Tables 1 and 2 are fractions; Table 3 is in seconds and percent, as printed.

    Raises:
        DataError: the file is missing or not JSON.
    """
    rows: list[dict[str, Any]] = read_json(FILE)[f"table_{number}"]
    return rows
