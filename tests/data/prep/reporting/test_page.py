import re
from html.parser import HTMLParser

from data.prep.build import main
from tests.data.prep.source_builder import jpeg, picture


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.sources, self.open, self.tags = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href")]


def test_the_report_stands_alone_and_escapes_what_it_shows(source, tmp_path):
    source.frame("bad", "1 0.95 0.5 0.2 0.2\n", jpeg(picture(60)))
    source.negative("<script>alert(1)<.lnk", b"x")
    assert main(["--source", str(source.root), "--out", str(tmp_path / "data")]) == 0
    text = (tmp_path / "data/report.html").read_text()
    page = Page(text)
    assert "script" not in page.tags
    assert all(s.startswith("data:image/jpeg;base64,") for s in page.sources)
    assert 'name="viewport"' in text
    for words in ("outside-frame: 1", "stray-file: 1", "published split", "test in train"):
        assert words in text
    assert page.tags.count("img") >= 12
    assert str(tmp_path) not in text
    assert not re.search(r"https?://", text)
