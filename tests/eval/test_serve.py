"""The settings of the local server; what it answers is tested in test_predict_model.py."""

from pathlib import Path

import pytest
import yaml

from eval import serve
from eval.answers.server import read_config


def test_the_shipped_settings_are_read() -> None:
    path = Path(serve.__file__).parents[1] / "configs/endpoints/serve.yaml"
    assert read_config(path) == yaml.safe_load(path.read_text("utf-8"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "cannot be read"),
        ("{", "is not YAML"),
        ("- 1", "expected LLaMA-Factory's keys"),
        ("template: llama3", "with template: qwen2_vl"),
    ],
)
def test_other_settings_are_refused_before_any_model_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None, words: str
) -> None:
    path = tmp_path / "serve.yaml"
    if text is not None:
        path.write_text(text)
    assert serve.main([str(path)]) == 1
    assert words in capsys.readouterr().err
