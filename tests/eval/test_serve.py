"""The settings of the local server; what it answers is tested in test_predict_model.py."""

import asyncio
import base64
import io
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
import yaml
from fastapi import FastAPI, Request
from PIL import Image

from dat_runtime import chat
from eval import serve
from eval.answers.server import TakesWebp, read_config, refuse_broken_pictures


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


@pytest.mark.parametrize(("kept", "status"), [(None, 200), (40, 422), (12, 422)])
def test_a_broken_picture_is_refused_as_a_question_and_no_fault_of_the_server(
    kept: int | None, status: int
) -> None:
    """WebP comes under the one type that LLaMA-Factory's pattern knows; cut off it is refused."""
    served = FastAPI()

    @served.post("/v1/chat/completions")
    async def complete(request: Request) -> dict[str, Any]:
        url = (await request.json())["messages"][1]["content"][0]["image_url"]["url"]
        assert url.startswith("data:image/png;base64,")
        open_picture(io.BytesIO(base64.b64decode(url.split(",")[1]))).convert("RGB")
        return {}

    # Ultralytics, where an earlier test imported it, puts an `open` of its own in this place.
    open_picture = Image.open.__globals__.get("_image_open", Image.open)
    served.add_middleware(TakesWebp)
    refuse_broken_pictures(served)
    noise = np.random.default_rng(1).integers(0, 256, (56, 56, 3), np.uint8)
    picture = bytes(cv2.imencode(".webp", noise, [cv2.IMWRITE_WEBP_QUALITY, 10])[1])[:kept]
    asked = chat.request("m", picture, "s", "p", "webp")

    async def post() -> httpx.Response:
        transport = httpx.ASGITransport(served, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            return await client.post("/v1/chat/completions", json=asked)

    response = asyncio.run(post())
    assert response.status_code == status
    if status == 422:
        said = chat.read(422, response.content)
        assert isinstance(said, chat.Problem)
        assert (said.kind, "a picture that cannot be read" in said.words) == ("refused", True)
