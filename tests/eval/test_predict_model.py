"""Rows of answers from a tiny Qwen2.5-VL: in this process, constrained, and behind a server.

The model has learnt four pictures by heart; the prompt is the same for all, so an answer is right
only if the picture's pixels and their positions came through.
"""

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import yaml

from dat_runtime import answer, schema
from dat_runtime.draw import encode_png
from dat_runtime.errors import ConfigError, ModelError
from dat_runtime.event import question
from dat_runtime.prompt import SYSTEM, task_prompt
from dat_runtime.stage import Stage
from dat_runtime.types import Accident, Box, Size
from eval import predict
from eval.answers import sizes
from eval.answers.asks import read_asks

# One test process makes the model and starts the server.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.xdist_group("learnt")]

SENT, CAMERA = Size(112, 112), Size(640, 480)
PICTURES = 4

MISLEADING = {
    "do_sample": True,
    "temperature": 9.0,
    "top_k": 3,
    "top_p": 0.1,
    "repetition_penalty": 5.0,
    "no_repeat_ngram_size": 2,
    "min_new_tokens": 100,
    "num_beams": 2,
}
"""Defaults of a base as bad as they can be; Qwen2.5-VL-7B's are of the same kind, and milder."""


def learnt(number: int) -> str:
    """The answer about a picture, in pixels of the image sent."""
    box = Box(8 + 14 * number, 20, 60 + 12 * number, 70 + 8 * number, SENT)
    severity: Any = "severe" if number % 2 else "moderate"
    return answer.dump(answer.target([Accident(box, severity)]))


def write_instructions(out: Path) -> None:
    """Four raw pictures of different colours."""
    with Stage(out, kind="instructions", inputs={}, config={}) as folder:
        samples = []
        for i in range(PICTURES):
            image = np.full((SENT.height, SENT.width, 3), 30 + 60 * i, np.uint8)
            image[:, :, i % 3] = 255 - 60 * i
            (folder / f"p{i}.png").write_bytes(encode_png(image))
            samples.append(
                {
                    "image_id": f"p{i}",
                    "system": SYSTEM,
                    "messages": [
                        {"content": f"<image>{task_prompt(SENT, None)}"},
                        {"content": learnt(i)},
                    ],
                    "images": [f"p{i}.png"],
                    "frame": [SENT.width, SENT.height],
                    "original": [CAMERA.width, CAMERA.height],
                }
            )
        (folder / "raw_test.json").write_text(json.dumps(samples))


def learn_by_heart(folder: Path, instructions: Path) -> None:
    """Build the tiny model and train all of it on the four answers."""
    import torch

    from eval.answers.model import encode, load
    from train.mllm import tiny_model

    torch.set_num_threads(1)
    answers = [learnt(i) for i in range(PICTURES)]
    tiny_model.build(folder, [SYSTEM, task_prompt(SENT, None), *answers] * 5, 384, 112 * 112, 0)
    model, processor = load(str(folder), None, None)
    encoded = dict(encode(processor, read_asks(instructions, "raw")))
    targets = processor.tokenizer(
        [f"{text}<|im_end|>" for text in answers], padding=True, padding_side="right"
    )
    new = torch.tensor(targets["input_ids"])
    real = torch.tensor(targets["attention_mask"])
    prompt = encoded["input_ids"]
    labels = torch.cat([torch.full_like(prompt, -100), new.masked_fill(real == 0, -100)], 1)
    for name, tail in (
        ("input_ids", new),
        ("attention_mask", real),
        ("mm_token_type_ids", torch.zeros_like(new)),
    ):
        encoded[name] = torch.cat([encoded[name], tail], 1)
    optimizer = torch.optim.AdamW(model.train().parameters(), 2e-3)
    for _ in range(100):
        loss = model(**encoded, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if loss.item() < 0.01:
            break
    ends = model.generation_config.to_diff_dict()
    model.save_pretrained(folder)
    (folder / "generation_config.json").write_text(json.dumps(ends | MISLEADING))


@pytest.fixture(scope="module")
def instructions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("row") / "instructions"
    write_instructions(out)
    return out


@pytest.fixture(scope="module")
def model(instructions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("learnt") / "model"
    folder.mkdir()
    learn_by_heart(folder, instructions)
    return folder


def row(instructions: Path, name: str, *more: str) -> list[dict[str, Any]]:
    """The lines of predictions.jsonl of a new row."""
    out = instructions.parent / "predictions" / name
    assert predict.main([
        *("--instructions", str(instructions), "--inputs", "raw", "--out", str(out)),
        *("--batch-size", "3", "--max-new-tokens", "120", *more),
    ]) == 0  # fmt: skip
    lines = (out / "predictions.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_a_limit_at_which_a_right_answer_would_be_cut_is_refused(
    model: Path, instructions: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = instructions.parent / "predictions" / "short"
    assert predict.main([
        *("--instructions", str(instructions), "--inputs", "raw", "--out", str(out)),
        *("--model", str(model), "--max-new-tokens", "5"),
    ]) == 1  # fmt: skip
    assert re.search(r"the true answer of \w+ has \d+ tokens, and .* is 5", capsys.readouterr().err)


@pytest.fixture(scope="module")
def served(model: Path) -> Iterator[str]:
    """The address of `python -m eval.serve` with the model, in another process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = model.with_name("serve.yaml")
    keys = {"template": "qwen2_vl", "infer_backend": "huggingface", "infer_dtype": "float32"}
    pixels = {"image_max_pixels": SENT.pixels, "image_min_pixels": 3136}
    config.write_text(yaml.safe_dump({"model_name_or_path": str(model), **keys, **pixels}))
    log = model.with_name("serve.log")
    command = [sys.executable, "-m", "eval.serve", str(config), "--port", str(port)]
    quiet = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    root = Path(predict.__file__).parents[1]
    with log.open("wb") as out:
        server = subprocess.Popen(
            command, cwd=root, env={**os.environ, **quiet}, stdout=out, stderr=out
        )
    try:
        wait_for(port, server, log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        server.wait(30)


def wait_for(port: int, server: "subprocess.Popen[bytes]", log: Path) -> None:
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert server.poll() is None, log.read_text()[-3000:]
        time.sleep(0.1)


def mapped(texts: Sequence[str]) -> list[str]:
    return [answer.in_frame(text, SENT, CAMERA) for text in texts]


def test_a_model_in_this_process_answers_in_original_pixels(
    instructions: Path, model: Path
) -> None:
    lines = row(instructions, "local", "--model", str(model))
    assert [line["model_text"] for line in lines] == [learnt(i) for i in range(PICTURES)]
    assert [line["text"] for line in lines] == mapped([learnt(i) for i in range(PICTURES)])
    box = json.loads(lines[0]["text"])["accidents"][0]["bbox"]
    assert box == [round(v) for v in (8 * 640 / 112, 20 * 480 / 112, 60 * 640 / 112, 300)]
    counted = [line["completion_tokens"] for line in lines]
    assert max(counted) <= 120
    assert min(counted) > 20


def test_the_bases_own_defaults_would_change_every_answer(instructions: Path, model: Path) -> None:
    """Of the file that all rows here set aside."""
    from transformers import GenerationConfig

    from eval.answers import local
    from eval.answers.model import load

    loaded = load(str(model), None, None)
    asks = read_asks(instructions, "raw")
    right = [learnt(i) for i in range(PICTURES)]
    assert [answer.text for answer in local.generate(loaded, asks, 120)] == right
    loaded.model.generation_config = GenerationConfig.from_pretrained(model)
    misled = [answer.text for answer in local.generate(loaded, asks, 120)]
    assert not set(misled) & set(right)


def test_a_row_that_was_cut_off_goes_on_with_its_batches_of_like_length(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of four questions the three longest are the first batch, whatever their order."""
    cameras = {"s": Size(30, 30), "a": Size(640, 640), "b": Size(640, 640), "c": Size(640, 640)}
    write_noise(tmp_path / "instructions", cameras, SENT.pixels)
    whole = row(tmp_path / "instructions", "cut", "--model", str(model))
    assert [line["image_id"] for line in whole] == list(cameras)
    assert len({line["latency_s"] for line in whole[1:]}) == 1
    out = tmp_path / "predictions" / "cut"
    partial = out.rename(out.with_name("cut.partial"))
    # As they were written, and the last batch of one was cut off.
    kept = [json.dumps({**line, "latency_s": 99.0}) + "\n" for line in whole[1:]]
    (partial / "predictions.jsonl").write_text("".join(kept) + '{"image_id": "s", "te')
    again = row(tmp_path / "instructions", "cut", "--model", str(model))
    assert "3 answers were there already" in capsys.readouterr().out
    assert [line["latency_s"] == 99 for line in again] == [False, True, True, True]
    assert [line["text"] for line in again] == [line["text"] for line in whole]


def test_a_server_gives_the_answers_of_the_model_in_this_process(
    instructions: Path, model: Path, served: str
) -> None:
    here = row(instructions, "here", "--model", str(model))
    tiny = ("--model", "tiny", "--endpoint", served, "--base", str(model))
    there = row(instructions, "there", *tiny)
    for name in ("image_id", "model_text", "text", "prompt_tokens", "completion_tokens"):
        assert [line[name] for line in there] == [line[name] for line in here], name


def write_noise(out: Path, cameras: dict[str, Size], most_pixels: int) -> list[dict[str, Any]]:
    """A raw sample of noise by each camera, named as it is."""
    random = np.random.default_rng(0)
    with Stage(out, kind="instructions", inputs={}, config={}) as folder:
        samples = []
        for name, camera in cameras.items():
            image = random.integers(0, 256, (camera.height, camera.width, 3), np.uint8)
            asked = question(image, None, most_pixels)
            (folder / f"{name}.png").write_bytes(asked.png)
            samples.append(
                {
                    "image_id": name,
                    "system": SYSTEM,
                    "messages": [{"content": f"<image>{asked.prompt}"}],
                    "images": [f"{name}.png"],
                    "frame": [asked.frame.width, asked.frame.height],
                    "original": [camera.width, camera.height],
                }
            )
        (folder / "raw_test.json").write_text(json.dumps(samples))
    return samples


def test_a_server_sees_square_wide_and_tiny_images_as_the_model_in_this_process(
    model: Path, served: str, tmp_path: Path
) -> None:
    """A resized image has other tokens, another prompt length and gives another answer."""
    cameras = {"tiny": Size(30, 30), "wide": Size(1280, 360), "square": Size(640, 640)}
    samples = write_noise(tmp_path / "instructions", cameras, SENT.pixels)
    here = row(tmp_path / "instructions", "here", "--model", str(model))
    tiny = ("--model", "tiny", "--endpoint", served, "--base", str(model))
    there = row(tmp_path / "instructions", "there", *tiny)
    for name in ("image_id", "model_text", "text", "prompt_tokens"):
        assert [line[name] for line in there] == [line[name] for line in here], name
    assert len({line["prompt_tokens"] for line in here}) == len(cameras)
    for line, sample in zip(here, samples, strict=True):
        sizes = Size(*sample["frame"]), cameras[line["image_id"]]
        assert line["text"] == answer.in_frame(line["model_text"], *sizes)


def test_a_server_that_makes_pictures_smaller_is_found_by_its_prompt_tokens(
    model: Path, served: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_noise(tmp_path / "instructions", {"large": Size(640, 640)}, 2 * SENT.pixels)
    given = ["--instructions", str(tmp_path / "instructions"), "--inputs", "raw"]
    given += ["--out", str(tmp_path / "row"), "--model", "tiny", "--endpoint", served]
    assert predict.main([*given, "--base", str(model)]) == 1
    told = capsys.readouterr().err
    found = re.search(r"took large in (\d+) prompt tokens, .* makes (\d+) of it: .*140 x 140", told)
    assert found is not None, told
    assert int(found[2]) - int(found[1]) == (140**2 - 112**2) / 28**2
    assert not (tmp_path / "row").exists()
    (ask,) = read_asks(tmp_path / "instructions", "raw")
    with pytest.raises(ModelError, match=r"states no prompt tokens, .*: leave --base out"):
        sizes.comparison(str(model), None)(ask, None, served)


def test_what_does_not_fit_fails_before_anything_is_answered(model: Path) -> None:
    """The longest questions are asked first, and the cache is as large as it is said to be."""
    import torch

    from eval.answers.model import load

    net = load(str(model), None, None).model
    tokens = torch.full((3, 20), 5)
    with torch.inference_mode():
        cache = net(input_ids=tokens, use_cache=True).past_key_values
    kept = [tensor for layer in cache.layers for tensor in (layer.keys, layer.values)]
    expected = sum(tensor.nbytes for tensor in kept)
    assert sizes.demand_cache(net, 20, 3, free=expected) == expected
    with pytest.raises(ConfigError, match="--batch-size 2"):
        sizes.demand_cache(net, 20, 3, free=expected - 1)


def test_constrained_decoding_leaves_right_answers_alone(instructions: Path, model: Path) -> None:
    lines = row(instructions, "constrained", "--model", str(model), "--constrained")
    assert [line["model_text"] for line in lines] == [learnt(i) for i in range(PICTURES)]


def test_constrained_decoding_makes_any_choice_of_tokens_keep_the_schema(model: Path) -> None:
    """Random scores in place of a model's; rows end at different lengths and are padded."""
    import torch

    from eval.answers.constrained import AnswerConstraint
    from eval.answers.model import ends_of, load

    loaded = load(str(model), None, None)
    (end, pad), rows = ends_of(loaded.model), 8
    constraint = AnswerConstraint(loaded, rows)
    torch.manual_seed(0)
    tokens = torch.zeros((rows, 1), dtype=torch.long)
    done = torch.zeros(rows, dtype=torch.bool)
    while not done.all() and tokens.shape[1] < 1000:
        scores = torch.randn(rows, len(loaded.processor.tokenizer))
        chosen = constraint(tokens, scores).argmax(-1).masked_fill(done, pad)
        done |= (chosen == end) | (chosen == pad)
        tokens = torch.cat([tokens, chosen[:, None]], 1)
    texts = loaded.processor.batch_decode(tokens[:, 1:], skip_special_tokens=True)
    assert len(set(map(len, texts))) > 1
    for text in texts:
        jsonschema.validate(json.loads(text), schema.ANSWER_SCHEMA)


def test_decoding_that_keeps_the_rules_leaves_right_answers_alone(
    instructions: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = instructions.parent / "predictions" / "ruled"
    given = ["--instructions", str(instructions), "--inputs", "raw", "--model", str(model)]
    given += ["--constrained", "rules", "--out", str(out)]
    assert predict.main([*given, "--max-new-tokens", "200"]) == 1
    assert "has room for the true answer of p0 from --max-new-tokens" in capsys.readouterr().err
    assert predict.main(given) == 0
    lines = (out / "predictions.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["model_text"] for line in lines] == [
        learnt(i) for i in range(PICTURES)
    ]


def test_no_server_is_asked_to_keep_the_rules(
    instructions: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--instructions", str(instructions), "--inputs", "raw", "--model", "m", "--out", "x"]
    assert predict.main([*asked, "--constrained", "rules", "--endpoint", "http://h/v1"]) == 1
    assert "no server is told the rules" in capsys.readouterr().err


def test_any_choice_of_tokens_keeps_the_rules(model: Path) -> None:
    """Random scores in place of a model's, frames of different sizes in a batch."""
    import torch

    from eval.answers.asks import Ask
    from eval.answers.model import ends_of, load
    from eval.answers.ruled import RuleConstraint
    from eval.answers.rules import room_for

    loaded = load(str(model), None, None)
    end, pad = ends_of(loaded.model)
    frames = [Size(112, 112), Size(9, 1344), SENT, SENT, SENT, SENT]
    asks = [Ask("a", model, "", "", frame, frame) for frame in frames]
    limit = room_for(asks)
    constraint = RuleConstraint(loaded, asks, limit)
    torch.manual_seed(0)
    tokens = torch.zeros((len(asks), 1), dtype=torch.long)
    done = torch.zeros(len(asks), dtype=torch.bool)
    while not done.all():
        scores = torch.randn(len(asks), len(loaded.processor.tokenizer))
        chosen = constraint(tokens, scores).argmax(-1).masked_fill(done, pad)
        done |= (chosen == end) | (chosen == pad)
        tokens = torch.cat([tokens, chosen[:, None]], 1)
        assert tokens.shape[1] <= limit + 1  # the first is the prompt's
    texts = loaded.processor.batch_decode(tokens[:, 1:], skip_special_tokens=True)
    counts = set()
    for text, frame in zip(texts, frames, strict=True):
        verdict = schema.check(text, frame.width, frame.height)
        assert verdict.problems == (), text
        counts.add(json.loads(text)["count"])
    assert len(counts) > 2
    bracket = loaded.processor.tokenizer.convert_tokens_to_ids("]")
    fresh = RuleConstraint(loaded, asks[:1], limit)
    fresh(torch.tensor([[0]]), scores[:1])
    with pytest.raises(ModelError, match="breaks a rule"):
        fresh(torch.tensor([[0, bracket]]), scores[:1])


def test_a_token_that_leaves_the_schema_is_noticed(model: Path) -> None:
    import torch

    from eval.answers.constrained import AnswerConstraint
    from eval.answers.model import load

    loaded = load(str(model), None, None)
    constraint = AnswerConstraint(loaded, 1)
    scores = torch.zeros(1, len(loaded.processor.tokenizer))
    constraint(torch.tensor([[0]]), scores)
    bracket = loaded.processor.tokenizer.convert_tokens_to_ids("]")
    with pytest.raises(ModelError, match="leaves the schema"):
        constraint(torch.tensor([[0, bracket]]), scores)
