"""A weak node, a receiver that finishes and a model's server, as processes over loopback.

The model is tiny and has learnt one answer by heart, the codec has seen eight steps: what is shown
is that the parts work together, not that anything sees well.
"""

import base64
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
import yaml

pytest.importorskip("torch")

from dat_runtime import answer
from dat_runtime.offload import pack, unpack
from dat_runtime.prompt import PROMPT_VERSION, SYSTEM, task_prompt
from dat_runtime.types import Accident, Box, Detection, Size
from export.live import processes
from export.live.processes import operator, receiver, until, write_node, write_tokens
from tests.dat_runtime.edge.offloading.small_codec import write_codec

# One test process trains the models and starts their server.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.xdist_group("weak node")]

CAMERA, SEEN = Size(640, 640), Size(112, 112)
LEARNT = answer.dump(answer.target([Accident(Box(28, 14, 84, 56, SEEN), "severe")]))
GATE = Detection(Box(30, 30, 50, 40, SEEN), "severe", 0.9)
TABLE = {
    "version": 1,
    "measure": "count_em",
    "measured_on": "nothing: made up for a test",
    "rows": [
        {"name": "gate", "kind": "edge", "bytes": 0, "accuracy": 0.2},
        {"name": "webp-10", "kind": "webp", "bytes": 1500, "accuracy": 0.5, "quality": 10},
        {
            "name": "code-8", "kind": "code", "bytes": 500, "accuracy": 0.8, "edge_s": 0.02,
            "offload_point": 1, "channels": 8,
        },
    ],
}  # fmt: skip
_REST = {"edge_s": 0.0, "encode_s": 0.0, "decode_s": 0.0, "server_s": 0.0, "offload_point": None}
_REST |= {"spatial": False, "channels": None, "quality": None}


def write_table(path: Path, codec: Path) -> Path:
    id = json.loads((codec / "codec.json").read_text())["id"]
    rows = [_REST | row for row in TABLE["rows"]]  # type: ignore[attr-defined]
    path.write_text(json.dumps(TABLE | {"rows": rows, "codec": id}))
    return path


def learn_by_heart(folder: Path) -> None:
    """A tiny base that answers whatever it is shown with the one answer that it has learnt."""
    import torch
    from PIL import Image

    from eval.answers.model import load
    from train.mllm import tiny_model
    from train.offloading.samples import Sample, questions_with_answers

    torch.set_num_threads(1)
    prompts = [task_prompt(SEEN, found) for found in ([GATE], [GATE], [GATE], [], None)]
    tiny_model.build(folder, [SYSTEM, *prompts, LEARNT] * 5, 384, SEEN.pixels, 0)
    model, processor = load(str(folder), None, None)
    processor.tokenizer.padding_side = "right"
    samples = []
    for i, prompt in enumerate(prompts):  # noise that is finer and finer, so that no picture counts
        path = folder / f"{i}.png"
        noise = np.random.default_rng(i).integers(0, 256, (7 * 2**i, 7 * 2**i, 3), np.uint8)
        Image.fromarray(noise).resize((SEEN.width, SEEN.height)).save(path)
        samples.append(Sample(path, SYSTEM, prompt, LEARNT))
    inputs = questions_with_answers(processor, samples)
    optimizer = torch.optim.AdamW(model.train().parameters(), 2e-3)
    for _ in range(80):
        loss = model(**inputs).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if loss.item() < 0.003:
            break
    for sample in samples:
        sample.image.unlink()
    model.save_pretrained(folder)


@pytest.fixture(scope="module")
def models(learnt_base: Path, learnt_codec: Path) -> tuple[Path, Path]:
    """Base and codec."""
    return learnt_base, learnt_codec


@pytest.fixture(scope="module")
def server(models: tuple[Path, Path]) -> Iterator[str]:
    """The address of `python -m eval.serve --codec`."""
    base, codec = models
    config = base.with_name("serve.yaml")
    keys = {"template": "qwen2_vl", "infer_backend": "huggingface", "infer_dtype": "float32"}
    pixels = {"image_max_pixels": SEEN.pixels, "image_min_pixels": 3136}
    config.write_text(yaml.safe_dump({"model_name_or_path": str(base), **keys, **pixels}))
    with serving(config, codec) as url:
        yield url


@contextmanager
def serving(config: Path, codec: Path) -> Iterator[str]:
    port = processes.free_port()
    command = [sys.executable, "-m", "eval.serve", str(config), "--codec", str(codec)]
    quiet = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    log = config.with_name("serve.log")
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*command, "--port", str(port)],
            cwd=processes.ROOT,
            env={**os.environ, **quiet},
            stdout=out,
            stderr=out,
        )
    try:
        until(lambda: _listens(port) or process.poll() is not None, 500)
        assert process.poll() is None, log.read_text()[-3000:]
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(30)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def weak_node(tmp_path: Path, bundle_folder: Path, models: tuple[Path, Path]) -> Any:
    """Writes a weak node's settings; its camera shows a picture twice."""
    frames = tmp_path / "frames"
    frames.mkdir()
    picture = np.random.default_rng(7).integers(0, 256, (CAMERA.height, CAMERA.width, 3), np.uint8)
    for i in range(2):
        cv2.imwrite(str(frames / f"{i}.jpg"), picture)
    write_table(tmp_path / "table.json", models[1])

    def write(url: str, **target: float) -> Path:
        offload = {"codec": str(models[1]), "table": "table.json", **target}
        cameras = [{"name": "north", "source": str(frames), "fps": 1}]
        metrics = {"listen": "127.0.0.1:0"}
        return write_node(
            tmp_path, bundle_folder, url, cameras=cameras, offload=offload, metrics=metrics
        )

    return write


def in_process(models: tuple[Path, Path], unit: bytes, prompt: str) -> str:
    """The answer from the same bits, in this process."""
    from eval.answers.codes import CodeAnswers
    from eval.answers.model import load

    base, codec = models
    loaded = load(str(base), None, None)
    answers = CodeAnswers(loaded.model, loaded.processor, codec, str(base), None)
    return answers.answer(unit, SYSTEM, prompt, 1024).text


def test_the_gate_tells_at_once_and_the_receiver_finishes_from_codes_also_after_a_kill(
    tmp_path: Path, weak_node: Any, models: tuple[Path, Path], server: str
) -> None:
    store = f"sqlite:///{tmp_path}/events.sqlite"
    tokens = ("--tokens", write_tokens(tmp_path))
    port = processes.free_port()
    listen = f"127.0.0.1:{port}"
    path = weak_node(f"http://{listen}", max_latency=2.0)
    with ExitStack() as running:
        # Before the node: over a link that is down it counts on the gate alone.
        first = running.enter_context(receiver(store, *tokens, listen=listen))
        node = running.enter_context(processes.running("edge", "run", path))
        with operator(first.url) as client:
            (event,) = until(lambda: client.get("/v1/events").json()["events"], 60)
            data = event["data"]
            assert (data["source"], data["degraded"]) == ("gate", "the cloud finishes")
            assert data["revision"] == 0
            until(lambda: "code" in _one(client, event).get("questions", ()), 60)
            first.kill()  # the code is acknowledged, and nobody has finished
        (stored,) = [p for p in (tmp_path / "visuals").rglob("*") if _is_code(p)]
        unit = stored.read_bytes()
        finishing = receiver(store, *tokens, "--finish", server, listen=listen)
        second = running.enter_context(finishing)
        with operator(second.url) as client:
            told = until(lambda: _finished(client, event), 60)
            node.wait(30)
    data = told["data"]
    assert (data["source"], data["degraded"], data["conflict"]) == ("mllm", None, False)
    prompt = task_prompt(SEEN, [GATE])
    text = in_process(models, unit, prompt)
    assert text == LEARNT
    assert answer.as_json(_moved(text)) == data["answer"]
    stated = json.loads((models[1] / "codec.json").read_text())
    assert data["versions"]["codec"] == stated["id"]
    assert data["versions"]["base"] == f"{stated['base']}@{stated['revision']}"
    assert data["versions"]["prompt"] == PROMPT_VERSION
    assert [one["revision"] for one in told["history"]] == [1, 0]


def test_a_server_refuses_what_its_codec_did_not_write(
    models: tuple[Path, Path], server: str
) -> None:
    stated = json.loads((models[1] / "codec.json").read_text())
    bits = np.ones((8, 64), bool)
    from dat_runtime.offload import CodeUnit

    good = pack(CodeUnit(stated["id"], (8, 8), False, bits))
    body = {"model": "m", "system": SYSTEM, "prompt": task_prompt(SEEN, [GATE]), "max_tokens": 9}

    def asked(content: bytes, **more: Any) -> httpx.Response:
        coded = base64.b64encode(content).decode()
        return httpx.post(
            f"{server}/codes/completions", json=body | {"unit": coded} | more, timeout=60
        )

    other = pack(CodeUnit("0" * 16, (8, 8), False, bits))
    assert asked(good).status_code == 200
    for unit, status, words in (
        (other, 422, "a code unit of codec 0000000000000000"),
        (good[:-1], 422, "a code unit of 87 bytes"),
        (good[:-1] + b"\0", 422, "checksum"),
        (b"", 422, "its header alone is 24"),
    ):
        answered = asked(unit)
        assert answered.status_code == status
        assert words in answered.json()["detail"]
    for more, words in (
        ({"unit": "%"}, "no question about a code"),
        ({"prompt": 3}, "prompt is 3"),
    ):
        answered = asked(good, **more)
        assert answered.status_code == 400
        assert words in answered.json()["detail"]
    assert unpack(good, stated["id"]).channels == 8


def test_a_picture_goes_in_a_codes_place_where_the_encoder_fails(
    tmp_path: Path, weak_node: Any, models: tuple[Path, Path], server: str
) -> None:
    broken = write_codec(tmp_path / "broken", b"no graph", grids=[[8, 8]])
    store = f"sqlite:///{tmp_path}/events.sqlite"
    with receiver(store, "--tokens", write_tokens(tmp_path), "--finish", server) as receiving:
        path = weak_node(receiving.url, max_latency=2.0)
        settings = json.loads(path.read_text())
        settings["offload"]["codec"] = str(broken)
        path.write_text(json.dumps(settings))
        write_table(tmp_path / "table.json", broken)
        with processes.running("edge", "run", path) as node, operator(receiving.url) as client:
            (event,) = until(lambda: client.get("/v1/events").json()["events"], 60)
            told = until(lambda: _finished(client, event), 60)
            assert (told["data"]["source"], told["data"]["degraded"]) == ("mllm", None)
            assert "codec" not in told["data"]["versions"]
            node.wait(30)
            assert "a picture in a code's place" in node.said


def _one(client: httpx.Client, event: dict[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = client.get(f"/v1/events/{event['id']}").json()
    return told


def _finished(client: httpx.Client, event: dict[str, Any]) -> dict[str, Any] | None:
    told = _one(client, event)
    return told if told["data"]["revision"] == 1 else None


def _is_code(path: Path) -> bool:
    return path.is_file() and path.read_bytes()[:4] == b"DATC"


def _moved(text: str) -> Any:
    from dataclasses import replace

    from dat_runtime.schema import check

    found = check(text, SEEN.width, SEEN.height).assessment
    assert found is not None
    accidents = tuple(Accident(a.box.to(CAMERA), a.severity) for a in found.accidents)
    return replace(found, accidents=accidents)
