"""The report is for reading: decisions first, sheets closed, two truths side by side."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import ImageOps

from data.prep.build import main
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
