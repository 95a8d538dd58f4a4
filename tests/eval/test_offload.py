"""`python -m eval.offload`: with and without measured codes; its page can be read anywhere."""

import json
import re
from pathlib import Path

import pytest

from dat_runtime.offload_table import read_table
from eval.offload import main
from tests.eval.offloading import measured

CHROMIUM = Path("/usr/bin/chromium")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything: a trace, and codes that were measured."""
    path = tmp_path_factory.mktemp("offload")
    lines = [f"{second},{400_000 + 1_000 * (second % 7)}\n" for second in range(60)]
    (path / "bandwidth.csv").write_text("second,uplink_bytes_per_s\n" + "".join(lines), "utf-8")
    of = {
        "instructions": measured.instructions(path / "instructions"),
        "codec": measured.codec(path / "codec"),
    }
    measured.codes(path / "codes", dict(of))
    ours = [f"--{name}={path / name}" for name in ("codes", "codec", "instructions")]
    trace = f"--trace={path / 'bandwidth.csv'}"
    assert main([trace, *ours, "--seeds=1", f"--out={path / 'offload'}"]) == 0
    return path / "offload"


def test_it_needs_no_codec_and_tells_traces_of_one_name_by_their_folders(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        trace = "second,uplink_bytes_per_s\n0,1000000\n1,900000\n2,800000\n3,1\n4,9\n5,1000000\n"
        (tmp_path / name / "bandwidth.csv").write_text(trace, "utf-8")
    traces = [str(tmp_path / name / "bandwidth.csv") for name in ("a", "b")]
    out = tmp_path / "offload"
    assert main(["--trace", *traces, "--seeds=1", f"--out={out}"]) == 0
    results = json.loads((out / "offload.json").read_text("utf-8"))
    assert sorted(results) == ["links", "paper"]
    names = [link["name"] for link in results["links"]]
    assert names == ["Fig. 9", "a/bandwidth.csv", "b/bandwidth.csv"]
    assert not (out / "table.json").exists()
    printed = capsys.readouterr().out
    assert "19 of the 23 rows whose shape is known agree within 0.1 ms" in printed
    assert "| LLaVA-OneVision-0.5B, DNN Surgery-B8, 3 Mbps | 14,440.4 | 144,404.8 |" in printed
    assert "| Video-LLaVA-7B, ApproxBit-256-NoEnc-L8, 6 Mbps | 1,719.8 | 1,791.8 |" in printed


def test_a_node_can_read_its_table(folder: Path) -> None:
    table = read_table(folder / "table.json")
    assert [row.kind for row in table.rows] == ["edge", "code", "code", "webp", "jpeg", "webp"]
    assert table.measured_on.startswith("ours: rendered scenes, a tiny Qwen2.5-VL")


def test_the_words_say_at_which_bytes_codes_beat_pictures(folder: Path) -> None:
    text = (folder / "tables.md").read_text("utf-8")
    assert (
        "Count EM, the best that fits: from 88 bytes a code (best: code, 8 channels, 88 bytes, "
        "0.400); from 250 bytes a picture (best: webp q1, 250 bytes, 0.500); from 280 bytes a code "
        "(best: code, 32 channels, 280 bytes, 0.700); from 3,000 bytes a picture (best: webp "
        "q9, camera's size, 9,000 bytes, 0.950)."
    ) in text
    assert "The gate alone, which sends no byte more: Count EM 0.750" in text
    assert "BBox mIoU, the best" not in text  # the truth of these rows has no box
    # A link of 10 Mbps carries the best picture within every target; without one the gate is left.
    picked = text.partition("## What the controller selects")[2]
    assert "| 10 | webp q50 | webp q50 | webp q50 | webp q50 |" in picked
    assert "| 0 | gate alone | gate alone | gate alone |" in picked


def test_the_page_holds_every_plot_and_loads_nothing(folder: Path) -> None:
    page = (folder / "report.html").read_text("utf-8")
    plots = {path.stem for path in folder.glob("*.png")}
    assert plots == {"shapes", "best", "link-fig-9", "link-bandwidth-csv", "curve"}
    assert len(re.findall(r'<img alt="[^"]{40,}" src="data:image/png;base64,', page)) == len(plots)
    assert not re.search(r"(src|href)=\"(?!data:)", page)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--seeds=0"], "--seeds must be at least 1, got 0"),
        (["--codes=x"], "--codes, --codec and --instructions go together"),
        (["--trace", "a/b.csv", "a/b.csv"], "--trace names a/b.csv, a/b.csv: expected different"),
        (["--trace", "nowhere.csv"], "nowhere.csv"),
    ],
)
def test_a_wrong_option_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert main([*options, f"--out={tmp_path / 'offload'}"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert not (tmp_path / "offload").exists()


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1200])
def test_the_page_is_as_wide_as_the_screen(folder: Path, width: int) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM.is_file():
        pytest.skip(f"no Chromium at {CHROMIUM}")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": 844})
        page.goto((folder / "report.html").as_uri())
        shown = page.evaluate("document.documentElement.scrollWidth")
        pictures = page.evaluate("[...document.images].filter(i => i.naturalWidth > 0).length")
        browser.close()
    assert (shown, pictures) == (width, 5)
