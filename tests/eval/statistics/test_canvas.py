from pathlib import Path

import cv2
from matplotlib.text import Text

from eval.statistics import canvas


def drawn(path: Path) -> list[float]:
    """Pixels of each text of a figure, as a phone of 390 pixels shows it."""
    figure, (first, second) = canvas.panels([1.5, 2.0], "a title of more than one line " * 4)
    first.plot([0, 1], [0, 1], label="a line")
    first.set(xlabel="x", ylabel="y")
    canvas.legend(first, loc="upper left")
    canvas.titled(second, "what to see")
    canvas.beside(second, 0.5, "0.123")
    canvas.save(figure, path)
    texts = [t for t in figure.findobj(Text) if isinstance(t, Text) and t.get_text()]
    return [text.get_fontsize() * 390 / (72 * figure.get_figwidth()) for text in texts]


def test_every_kind_of_text_is_legible_on_a_phone(tmp_path: Path) -> None:
    assert min(drawn(tmp_path / "a.png")) > 10.5


def test_a_figure_is_as_wide_as_a_line_of_text_and_the_same_gives_the_same_bytes(
    tmp_path: Path,
) -> None:
    drawn(tmp_path / "a.png")
    drawn(tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert cv2.imread(str(tmp_path / "a.png")).shape[:2] == (560, 800)
