"""Single frames as HTML, to the letter; which are the worst."""

import base64
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from dat_runtime.answer import dump, target
from dat_runtime.truth import Frame
from eval.understanding.cases import case, failure, quoted, ranked
from eval.understanding.metrics import measure
from tests.eval.understanding.four_frames import (
    EVIL,
    FRAMES,
    NOWHERE,
    QUIET,
    SIZE,
    TEXTS,
    accident,
    measures,
)

CASES = """\
<article class="case">
<h4>right</h4>
<svg viewBox="0 0 200 100" role="img" aria-label="frame right with true and answered boxes">
<rect class="none" width="200" height="100"/>
<rect class="true" x="10" y="10" width="40" height="40"/>
<rect class="said severe" x="10" y="10" width="40" height="40"/></svg>
<p>true: severe, accidents: 1 · answer: severe · IoU 1.00</p>
<pre>{&quot;count&quot;: 1, &quot;severity&quot;: &quot;severe&quot;, &quot;level&quot;: 1, &quot;score&quot;: 0.66, &quot;accidents&quot;: [{&quot;bbox&quot;: [10, 10, 50, 50], &quot;severity&quot;: &quot;severe&quot;}], &quot;summary&quot;: &quot;Accidents: 1 severe.&quot;}</pre></article>
<article class="case">
<h4>wrong</h4>
<svg viewBox="0 0 200 100" role="img" aria-label="frame wrong with true and answered boxes">
<rect class="none" width="200" height="100"/>
<rect class="true" x="10" y="10" width="40" height="40"/>
<rect class="true" x="150" y="10" width="20" height="20"/>
<rect class="said moderate" x="20" y="10" width="40" height="40"/></svg>
<p>true: severe, accidents: 2 · answer: moderate · IoU 0.60, 0.00</p>
<pre>{&quot;count&quot;: 1, &quot;severity&quot;: &quot;moderate&quot;, &quot;level&quot;: 0, &quot;score&quot;: 0.16, &quot;accidents&quot;: [{&quot;bbox&quot;: [20, 10, 60, 50], &quot;severity&quot;: &quot;moderate&quot;}], &quot;summary&quot;: &quot;Accidents: 1 moderate.&quot;}</pre></article>
<article class="case">
<h4>&lt;missing&gt;</h4>
<svg viewBox="0 0 200 100" role="img" aria-label="frame &lt;missing&gt; with true and answered boxes">
<rect class="none" width="200" height="100"/>
<rect class="true" x="10" y="10" width="40" height="40"/></svg>
<p>true: moderate, accidents: 1 · answer failed · IoU 0.00</p>
<p><em>no answer</em></p></article>
<article class="case">
<h4>quiet</h4>
<svg viewBox="0 0 200 100" role="img" aria-label="frame quiet with true and answered boxes">
<rect class="none" width="200" height="100"/></svg>
<p>true: none, accidents: 0 · answer failed</p>
<pre>{&quot;&lt;b&gt;&quot;: &quot;&lt;/pre&gt;&quot;}</pre></article>"""  # noqa: E501


def lines(text: str) -> str:
    return re.sub(r"(?<=>)(?=<(?:h4|p|article|svg|rect|pre))", "\n", text)


def test_a_case_shows_both_sets_of_boxes_the_verdict_and_the_answer() -> None:
    shown = [case(FRAMES[i], TEXTS[i], measures(), i, NOWHERE) for i in range(4)]
    assert lines("".join(shown)) == CASES


def test_frames_are_ranked_by_what_is_worst_about_their_answers() -> None:
    """A failed answer weighs 4, a wrong severity 2, each wrong count 1 / 2, lost overlap 1."""
    assert ranked(measures()) == [2, 3, 1, 0]
    assert ranked(measures(QUIET)) == [1, 0, 2, 3]  # 2 + 1 + 1, then 2 + 1 / 2 + 1 twice
    severe = accident(10, "severe")
    frames = [Frame(name, "", SIZE, (severe,)) for name in "abc"]
    texts = [TEXTS[0], *(dump(target([accident(x, "severe")])) for x in (40, 15))]
    assert ranked(measure(frames, texts)) == [1, 2, 0]


def test_a_failure_names_up_to_five_problems() -> None:
    assert failure(FRAMES[3], EVIL) == (
        '<article class="failure"><h4>quiet</h4><p>schema: unknown key &#x27;&lt;b&gt;&#x27;, '
        "expected count, severity, level, score, accidents, summary; schema: count is missing; "
        "schema: severity is missing; schema: level is missing; schema: score is missing; …</p>"
        "<pre>{&quot;&lt;b&gt;&quot;: &quot;&lt;/pre&gt;&quot;}</pre></article>"
    )
    assert "…" not in failure(FRAMES[3], '{"count": 0, "severity": "none"}')


def test_the_end_of_a_long_answer_is_left_off() -> None:
    assert quoted("<" * 700) == f"<pre>{'&lt;' * 700}</pre>"
    assert quoted("x" * 702) == f"<pre>{'x' * 700} … and 2 more characters</pre>"


def test_a_box_far_outside_is_drawn_at_the_edge_and_one_turned_over_has_no_size() -> None:
    text = (TEXTS[0] or "").replace("[10, 10, 50, 50]", f"[-{10**400}, 60, {10**6}, 50]")
    shown = case(FRAMES[0], text, measures(), 0, NOWHERE)
    assert '<rect class="said severe" x="-100000" y="60" width="200000" height="0"/>' in shown


@pytest.mark.parametrize(("width", "shown"), [(420, (420, 30)), (840, (420, 15))])
def test_a_wide_picture_is_made_smaller(width: int, shown: tuple[int, int], tmp_path: Path) -> None:
    folder = tmp_path / "images" / "raw" / "test"
    folder.mkdir(parents=True)
    cv2.imwrite(str(folder / "right.png"), np.full((30, width, 3), 200, np.uint8))
    text = case(FRAMES[0], None, measures(), 0, tmp_path)
    found = re.search(r'<image href="data:image/jpeg;base64,([^"]+)" ([^>]*)/>', text)
    assert found
    assert found[2] == 'width="200" height="100" preserveAspectRatio="none"'
    pixels = cv2.imdecode(np.frombuffer(base64.b64decode(found[1]), np.uint8), cv2.IMREAD_COLOR)
    assert pixels is not None
    assert (pixels.shape[1], pixels.shape[0]) == shown
    assert abs(float(pixels.mean()) - 200) < 2
