"""Tables of counts for the report."""

from collections.abc import Iterable, Mapping
from html import escape


def table(corner: str, heads: Iterable[str], rows: Mapping[str, Iterable[int]]) -> str:
    """One named row each."""
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    lines = [f"<tr><th>{escape(corner)}</th>{head}</tr>"]
    for name, counts in rows.items():
        cells = "".join(f"<td>{count:,}</td>" for count in counts)
        lines.append(f"<tr><td>{escape(name)}</td>{cells}</tr>")
    return f"<table>{''.join(lines)}</table>"
