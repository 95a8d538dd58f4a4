"""How Markdown and HTML lay out the parts of a report, to the letter."""

from eval.offloading.sections import Grid, Section, markdown, page
from eval.understanding.page_style import STYLE

PARTS = [
    Section(
        "A < B",
        "It says & more.",
        plot="a",
        remarks=["One <b>.", "Two."],
        grids=[Grid(["x", "y"], [["1", "<2>"]], "First"), Grid(["z"], [["3"]])],
    ),
    Section("Bare", "Nothing."),
]

MARKDOWN = """\
# T & U

ours < theirs.

## A < B

It says & more.

- One <b>.
- Two.

First:

| x | y |
| --- | --- |
| 1 | <2> |

| z |
| --- |
| 3 |

## Bare

Nothing.
"""

HEAD = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">"""  # noqa: E501

BODY = """\
</style>
</head>
<body>
<h1>T &amp; U</h1>
<p class="measured">ours &lt; theirs.</p>
<section>
<h2>A &lt; B</h2>
<p>It says &amp; more.</p>
<figure>
<img alt="It says &amp; more." src="data:image/png;base64,cG5n">
</figure>
<ul>
<li>One &lt;b&gt;.</li>
<li>Two.</li>
</ul>
<h3>First</h3>
<div class="wide">
<table>
<thead>
<tr>
<th>x</th>
<th>y</th>
</tr>
</thead>
<tbody>
<tr>
<td>1</td>
<td>&lt;2&gt;</td>
</tr>
</tbody>
</table>
</div>
<div class="wide">
<table>
<thead>
<tr>
<th>z</th>
</tr>
</thead>
<tbody>
<tr>
<td>3</td>
</tr>
</tbody>
</table>
</div>
</section>
<section>
<h2>Bare</h2>
<p>Nothing.</p>
</section>
</body>
</html>
"""


def test_markdown_has_a_title_a_part_and_its_tables() -> None:
    assert markdown("T & U", "ours < theirs", PARTS) == MARKDOWN


def test_a_page_loads_nothing_and_escapes_what_it_shows() -> None:
    made = page("T & U", "ours < theirs", PARTS, {"a": b"png"}).replace("><", ">\n<")
    assert made.partition("\n<title>")[0] == HEAD
    assert "<title>T &amp; U</title>\n<style>" + STYLE.replace("><", ">\n<") in made
    assert made[made.index("</style>") :] == BODY
    assert "<figure>" not in page("", "", PARTS, {"b": b"png"})


def test_a_table_of_more_than_twelve_rows_is_folded() -> None:
    def shown(rows: int, title: str) -> str:
        grid = Grid(["x"], [["1"]] * rows, title)
        return page("", "", [Section("", "", grids=[grid])], {})

    assert "<details>" not in shown(12, "Many")
    assert "<h3>Many</h3>" in shown(12, "Many")
    assert "<details><summary>Many</summary><div" in shown(13, "Many")
    assert "<details><summary>All rows</summary><div" in shown(13, "")
    assert "<h3>" not in shown(13, "Many") + shown(12, "")
