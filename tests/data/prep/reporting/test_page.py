"""The report is for reading: decisions first, sheets closed, two truths side by side."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import ImageOps

from data.prep.build import main
from data.prep.reporting.page import write_report
from tests.data.prep.reporting.small_set import in_memory
from tests.data.prep.source_builder import BOX, jpeg, picture, scene

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-gpu"]


class Page(HTMLParser):
    """The tags of a page, what it refers to, and what stands outside of closed sheets."""

    def __init__(self, text):
        super().__init__()
        self.sources, self.links, self.ids, self.tags, self.in_view = [], [], [], [], []
        self._closed = 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append(tag)
        self.sources += [attrs["src"]] if "src" in attrs else []
        self.links += [attrs["href"]] if "href" in attrs else []
        self.ids += [attrs["id"]] if "id" in attrs else []
        self._closed += tag == "details" and "open" not in attrs
        if not self._closed:
            self.in_view.append(tag)

    def handle_endtag(self, tag):
        self._closed -= tag == "details"


def report(source, out, *options):
    assert main(["--source", str(source.root), "--out", str(out), *options]) == 0
    return (out / "report.html").read_text()


@pytest.fixture
def troubled(source):
    """Contradictions, leaks and faults, and names that would be markup."""
    source.frame("bad", "1 0.95 0.5 0.2 0.2\n", jpeg(picture(60)))
    source.negative("<script>alert(1)<.lnk", b"x")
    source.frame("<b>one", BOX, jpeg(scene(1)))
    source.frame("two", BOX + "1 0.2 0.2 0.2 0.2\n", jpeg(scene(1)), "test")
    source.frame("original", BOX, jpeg(scene(2)))
    source.frame("mirrored", BOX, jpeg(ImageOps.mirror(scene(2))), "test")
    return source


def test_the_report_stands_alone_and_escapes_what_it_shows(troubled, tmp_path):
    text = report(troubled, tmp_path / "data")
    page = Page(text)
    assert "script" not in page.tags
    assert "&lt;b&gt;one" in text
    assert all(s.startswith("data:image/jpeg;base64,") for s in page.sources)
    assert 'name="viewport"' in text
    assert str(tmp_path) not in text
    assert not re.search(r"https?://", text)


def test_the_contents_lead_to_every_part_and_decisions_come_first(troubled, tmp_path):
    text = report(troubled, tmp_path / "data")
    page = Page(text)
    assert [link.removeprefix("#") for link in page.links] == page.ids
    assert page.ids[:3] == ["conflicts", "leaks", "faults"]
    assert page.ids[-1] == "notes"
    assert '<a href="#conflicts">One picture, two truths <b>2</b></a>' in text
    assert '<a href="#leaks">Leaks between splits <b>1</b></a>' in text
    assert '<a href="#faults">What was lost or repaired <b>2</b></a>' in text


def test_pictures_are_in_sheets_that_are_closed(troubled, tmp_path):
    page = Page(report(troubled, tmp_path / "data"))
    assert page.tags.count("img") >= 16
    assert "img" not in page.in_view
    assert page.in_view.count("svg") == 3


def test_two_truths_stand_side_by_side_with_what_became_of_them(troubled, tmp_path):
    text = report(troubled, tmp_path / "data")
    start = text.index('<div class="pair">')
    pair = text[start : text.index("</figure></div></div>", start)]
    assert "1 box here, 2 boxes in the other; the same pixels" in pair
    assert "train: moderate; left out" in pair
    assert "test: moderate, severe; marked" in pair
    assert pair.count("<img") == 2


def test_real_faults_stand_apart_from_harmless_notes(troubled, tmp_path):
    troubled.frame("late", BOX.rstrip(), jpeg(picture(61)))
    text = report(troubled, tmp_path / "data")
    faults, notes = text.index('id="faults"'), text.index('id="notes"')
    assert faults < text.index("outside-frame: 1") < text.index('id="splits"')
    assert notes < text.index("no-final-newline: 1")
    assert "One picture, two truths <b>" in text


def test_a_sound_set_needs_no_decision(source, tmp_path):
    text = report(source, tmp_path / "data", "--leak-free")
    for words in ("No picture has two truths", "No test frame has a twin", "Nothing was lost"):
        assert words in text
    assert "</a><b>" not in text
    assert not re.search(r"<a [^>]*>[^<]*<b>", text)


@pytest.mark.slow
def test_the_page_fits_a_phone_with_all_its_sheets_open(troubled, tmp_path):
    playwright = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM.is_file():
        pytest.skip(f"no Chromium at {CHROMIUM}")
    report(troubled, tmp_path / "data")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        page = browser.new_page(viewport={"width": 390, "height": 844})
        page.goto((tmp_path / "data/report.html").as_uri())
        closed = page.evaluate("document.documentElement.scrollHeight")
        page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true })")
        width = page.evaluate("document.documentElement.scrollWidth")
        smallest = page.evaluate(
            "Math.min(...[...document.querySelectorAll('svg text, td, figcaption')]"
            ".map(e => e.getBoundingClientRect().height))"
        )
        browser.close()
    assert width == 390
    assert closed < 5000
    assert smallest >= 10


def in_words(text: str) -> str:
    """Without its style, pictures and drawings; its elements on lines of their own."""
    text = re.sub(r"<style>.*?</style>", "STYLE", text, flags=re.S)
    text = re.sub(r'<img [^>]*src="data:image/jpeg;base64,[^"]+">', "IMG", text)
    text = re.sub(r"<svg .*?</svg>", "SVG", text)
    kinds = "h[1-3]|p|nav|a|tr|details|div|figure|table"
    return re.sub(rf"(?<=>)(?=<(?:{kinds})\b)", "\n", text)


PAGE = """\
<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1"><title>Prepared data</title>STYLE<body>
<h1>Prepared data: &lt;own&gt; split</h1>
<p>6 frames: 3 train, 1 val, 2 test. A score on this set is a score on the &lt;own&gt; split. What needs a decision comes first.</p>
<nav>
<a href="#conflicts">One picture, two truths</a>
<a href="#leaks">Leaks between splits <b>1</b></a>
<a href="#faults">What was lost or repaired <b>1</b></a>
<a href="#splits">Splits and classes</a>
<a href="#frames">Frames with their boxes</a>
<a href="#charts">Boxes and pictures</a>
<a href="#uplink">Uplink trace</a>
<a href="#notes">Notes</a></nav>
<h2 id="conflicts">One picture, two truths</h2>
<p class="good">No picture has two truths.</p>
<h2 id="leaks">Leaks between splits</h2>
<p><b class="bad">1 of 2 test frames have a twin in train.</b> A score on this split is partly a memory. <code class='opt'>--leak-free</code> makes a split without them; report scores on both.</p>
<table>
<tr><th>frames of</th><th>exact</th><th>near</th><th>reframed</th><th>same-source</th><th>same-clip</th></tr>
<tr><td>test in train</td><td>0</td><td>1</td><td>0</td><td>0</td><td>0</td></tr>
<tr><td>val in train</td><td>0</td><td>0</td><td>0</td><td>0</td><td>0</td></tr></table>
<p><small>Each frame counts by its strongest kind. Near: the same picture, even if encoded again, resized, mirrored, grey or noisy. Reframed: cropped, or turned by a few degrees. Same-source: augmented copies by Roboflow's names. Same-clip: one clip. 5 groups of frames that belong together, the largest of 2 frames; 1 lie in more than one split. Each frame's closest twin: <code>leaks.json</code>.</small></p>
<details><summary>near: 1 pairs, shown from the nearest to the farthest</summary>
<div class="sheet">
<div class="pairs">
<div class="pair">
<p>near: 7 of 256 bits differ</p>
<div>
<figure>IMG<figcaption><b>train: moderate</b><br>f1</figcaption></figure>
<figure>IMG<figcaption><b>test: moderate, moderate</b><br>f4</figcaption></figure></div></div></div></div></details>
<h2 id="faults">What was lost or repaired</h2>
<details><summary><b>polygon-row: 1</b> repaired: replaced by the box around the polygon</summary>
<div class="sheet">
<div class="grid">
<figure><figcaption>b.txt:3: x</figcaption></figure></div></div></details>
<h2 id="splits">Splits and classes</h2>
<table>
<tr><th>split</th><th>frames</th><th>accident set</th><th>negatives</th><th>moderate boxes</th><th>severe boxes</th></tr>
<tr><td>train</td><td>3</td><td>3</td><td>0</td><td>2</td><td>1</td></tr>
<tr><td>val</td><td>1</td><td>1</td><td>0</td><td>0</td><td>7</td></tr>
<tr><td>test</td><td>2</td><td>1</td><td>1</td><td>2</td><td>0</td></tr></table>
<h3>Frames by their most severe accident</h3>
<p class="stack"><b>train</b> 3: 1 moderate, 1 severe, 1 empty</p>
<div class="stack"><span style="flex:1;background:#c77700" title="moderate">moderate 33%</span><span style="flex:1;background:#c0262d" title="severe">severe 33%</span><span style="flex:1;background:#8a8f98" title="empty">empty 33%</span></div>
<p class="stack"><b>val</b> 1: 1 severe</p>
<div class="stack"><span style="flex:1;background:#c0262d" title="severe">severe 100%</span></div>
<p class="stack"><b>test</b> 2: 1 moderate, 1 negative</p>
<div class="stack"><span style="flex:1;background:#c77700" title="moderate">moderate 50%</span><span style="flex:1;background:#3b7a57" title="negative">negative 50%</span></div>
<p><small>Accident frames by split: 3/1/2 (the paper has 10,469/1,004/649). Negatives by split: 0/0/1 (the paper has 268/120/120). Negatives: 9 found, 0 exact duplicates removed, split by frame.</small></p>
<h2 id="frames">Frames with their boxes</h2>
<p class="key">Boxes:<span style="background:#c77700"></span>moderate<span style="background:#c0262d"></span>severe</p>
<details><summary>train: 3 of 3 frames, at random</summary>
<div class="sheet">
<div class="grid">
<figure>IMG<figcaption><b>severe, moderate</b><br>f0</figcaption></figure>
<figure>IMG<figcaption><b>moderate</b><br>f1</figcaption></figure>
<figure>IMG<figcaption><b>no box</b><br>f2</figcaption></figure></div></div></details>
<details><summary>val: 1 of 1 frames, at random</summary>
<div class="sheet">
<div class="grid">
<figure>IMG<figcaption><b>severe, severe, severe, severe, severe, severe, severe</b><br>f3</figcaption></figure></div></div></details>
<details><summary>test: 2 of 2 frames, at random</summary>
<div class="sheet">
<div class="grid">
<figure>IMG<figcaption><b>moderate, moderate</b><br>f4</figcaption></figure>
<figure>IMG<figcaption><b>no box</b><br>f5</figcaption></figure></div></div></details>
<h2 id="charts">Boxes and pictures</h2>
<div class="charts">
<div>
<h3>Boxes per frame</h3>SVG</div>
<div>
<h3>Brightness</h3>SVG</div>
<div>
<h3>Picture sizes</h3>
<table class="shares">
<tr><th>pixels</th><th>frames</th><th>share</th></tr>
<tr><td>64 x 48</td><td>5</td><td><i style="width:83.3%"></i></td></tr>
<tr><td>48 x 64</td><td>1</td><td><i style="width:16.7%"></i></td></tr></table></div></div>
<details><summary>Where boxes lie, and how large they are</summary>
<div class="sheet">
<div class="charts">
<div>
<h3>moderate: where 4 boxes lie in the frame</h3>SVG</div>
<div>
<h3>moderate: box sizes, in shares of the frame</h3>SVG</div>
<div>
<h3>severe: where 8 boxes lie in the frame</h3>SVG</div>
<div>
<h3>severe: box sizes, in shares of the frame</h3>SVG</div></div></div></details>
<h2 id="uplink">Uplink trace</h2>
<p><code>&lt;t&gt;.csv</code> (&lt;rates&gt;), scale 0.5, 1,200 s, mean 1,234,568 bytes per second.</p>
<div class="charts">
<div>SVG</div></div>
<h2 id="notes">Notes</h2>
<p>Each fault by file and line: <code>report.json</code>.</p>
<details><summary>1 harmless notes on the source, of 1 kinds</summary>
<div class="sheet">
<details><summary><b>empty-label: 1</b> accepted: an accident-free frame</summary>
<div class="sheet">
<div class="grid">
<figure><figcaption>c.txt: y</figcaption></figure></div></div></details></div></details></body></html>
"""  # noqa: E501


def test_the_page_of_a_small_set_to_the_letter(tmp_path: Path) -> None:
    report, shown = in_memory(tmp_path)
    write_report(tmp_path, report, shown)
    assert in_words((tmp_path / "report.html").read_text("utf-8")) == PAGE


def test_what_there_is_not_is_said(tmp_path: Path) -> None:
    report, shown = in_memory(tmp_path)
    own = {"found": {}, "paper": {"train": 1}, "is_the_papers": False}
    papers = report["negatives"] | {"split": own | {"is_the_papers": True}}
    report |= {"trace": None, "published_split": own, "negatives": papers}
    report["faults"] = {"counts": {}, "rules": {}, "list": []}
    write_report(tmp_path, report, shown)
    text = (tmp_path / "report.html").read_text("utf-8")
    assert '<h2 id="uplink">Uplink trace</h2><p>The source has none.</p>' in text
    assert "Accident frames by split: no splits of their own (the paper has 1)." in text
    assert "Negatives by split: no splits of their own (as in the paper)." in text
    assert (
        '<h2 id="faults">What was lost or repaired</h2><p class="good">Nothing was lost, and '
        "nothing had to be repaired.</p>" in text
    )
