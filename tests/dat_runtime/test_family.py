"""What each family of models is asked in, and that an answer comes back to the camera's pixels."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dat_runtime import manifest
from dat_runtime.answer import dump, in_frame, target
from dat_runtime.cli import main
from dat_runtime.draw import encode_jpeg
from dat_runtime.edge import checkup
from dat_runtime.edge.bundle import open_bundle
from dat_runtime.edge.node_settings import NodeSettings
from dat_runtime.edge.source import header_size
from dat_runtime.edge.updates import at_work
from dat_runtime.edge.updates.switch import State
from dat_runtime.errors import ConfigError, ManifestError
from dat_runtime.event import event_of, question
from dat_runtime.family import BY_TEMPLATE, FAMILIES, QWEN2_5_VL, QWEN3_VL
from dat_runtime.prompt import PROMPT_VERSION, SYSTEM, prompt_version, system_message, task_prompt
from dat_runtime.stage import Stage
from dat_runtime.types import Accident, Box, Detection, Size
from export.bundle import make_bundle

CAMERA = Size(1280, 720)
IMAGE = np.full((720, 1280, 3), 90, np.uint8)
DETECTION = Detection(Box(128, 72, 640, 360, CAMERA), "severe", 0.91)


def test_the_families_are_told_apart_by_name_and_by_template() -> None:
    assert list(FAMILIES) == ["qwen2_5_vl", "qwen3_vl"]
    assert list(BY_TEMPLATE) == ["qwen2_vl", "qwen3_vl_nothink"]
    assert len({prompt_version(family) for family in FAMILIES.values()}) == len(FAMILIES)


def test_qwen3_vl_is_asked_in_thousandths_about_a_picture_of_its_own_cells() -> None:
    asked = question(IMAGE, [DETECTION], family=QWEN3_VL)
    assert header_size(asked.png) == Size(1280, 704)
    assert asked.frame == Size(1000, 1000)
    assert asked.prompt == (
        "Image 1000 x 1000. Gate boxes (orange moderate, red severe): severe 0.91 "
        "[100, 100, 500, 500]"
    )
    assert asked.system == SYSTEM.replace(
        "in pixels of the image", "from 0 to 1000, relative to the image"
    )
    small = question(IMAGE, [DETECTION], 2 * QWEN3_VL.least_pixels, QWEN3_VL)
    assert header_size(small.png) == Size(480, 256)
    assert small.prompt == asked.prompt


def test_the_prompts_of_qwen3_vl_are_those_that_its_adapters_were_tuned_with() -> None:
    assert prompt_version(QWEN2_5_VL) == PROMPT_VERSION
    assert (
        prompt_version(QWEN3_VL) == 2125903712
    )  # another number: its adapters have to be tuned again
    other = replace(QWEN3_VL, coordinates="from 0 to 999, relative to the image")
    assert prompt_version(other) != prompt_version(QWEN3_VL)
    assert prompt_version(replace(QWEN3_VL, scale=999)) != prompt_version(QWEN3_VL)


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_an_answer_is_read_in_the_coordinates_of_its_question(family) -> None:
    asked = question(IMAGE, [DETECTION], family=family)
    accident = Accident(Box(256, 144, 512, 432, CAMERA).to(asked.frame), "severe")
    told = dump(target([accident]))
    assert system_message(family) == asked.system
    assert task_prompt(asked.frame, [DETECTION]) == asked.prompt
    event = event_of("e", IMAGE, [DETECTION], told, asked.frame)
    assert event.source == "mllm"
    (box,) = (a.box for a in event.assessment.accidents)
    assert box.frame == CAMERA
    assert np.abs(np.subtract(box.pixels(), (256, 144, 512, 432))).max() <= 1
    (moved,) = json.loads(in_frame(told, asked.frame, CAMERA))["accidents"]
    assert np.abs(np.subtract(moved["bbox"], (256, 144, 512, 432))).max() <= 1


def instructions(folder: Path, *versions: str) -> Path:
    with Stage(folder, kind="instructions", inputs={}, config={}, versions=versions) as made:
        (made / "boxed_test.json").write_text("[]")
    return folder


def test_a_folder_states_a_family_and_hands_it_on_and_none_means_qwen2_5_vl(tmp_path: Path) -> None:
    before = instructions(tmp_path / "before", *manifest.VERSIONS, QWEN2_5_VL.name)
    stated = manifest.verify(before)
    assert (stated.family, stated.versions) == (QWEN2_5_VL, manifest.VERSIONS)

    other = instructions(tmp_path / "other", *manifest.VERSIONS, QWEN3_VL.name)
    assert manifest.verify(other).family is QWEN3_VL
    with Stage(tmp_path / "lora", kind="lora", inputs={"instructions": other}, config={}) as made:
        (made / "weights").write_bytes(b"")
    assert manifest.verify(tmp_path / "lora").family is QWEN3_VL


def test_prompts_of_a_family_that_are_not_this_librarys_are_refused(tmp_path: Path) -> None:
    folder = instructions(tmp_path / "made", *manifest.VERSIONS, QWEN3_VL.name)
    path = folder / manifest.NAME
    for name, version in (("qwen3_vl", 1), ("qwen4_vl", prompt_version(QWEN3_VL))):
        value = json.loads(path.read_text())
        value["versions"] = {**manifest.VERSIONS, name: version}
        path.write_text(json.dumps(value))
        with pytest.raises(ManifestError, match=rf"made with versions \{{'{name}': {version}\}}"):
            manifest.verify(folder)


@pytest.fixture
def qwen3_bundle(
    tmp_path: Path, gate_folder: Path, base_folder: Path, make_lora: Callable[..., Path]
) -> Path:
    lora = make_lora(**{"config.yaml": "image_max_pixels: 131072\n"})
    path = lora / manifest.NAME
    value = json.loads(path.read_text())
    path.write_text(json.dumps(value | {"versions": {QWEN3_VL.name: prompt_version(QWEN3_VL)}}))
    make_bundle(gate_folder, lora, str(base_folder), tmp_path / "bundle")
    return tmp_path / "bundle"


def settings(tmp_path: Path, bundle: Path, **parts: object) -> NodeSettings:
    """Of a node with that bundle, read from its node.yaml."""
    from dat_runtime.edge.node_file import read_node
    from export.live.processes import write_node, write_tokens

    write_tokens(tmp_path)
    cameras = [{"name": "north", "source": str(tmp_path), "fps": 5}]
    path = write_node(tmp_path, bundle, "http://127.0.0.1:1", cameras=cameras, **parts)
    return read_node(path)


def test_a_node_asks_as_its_bundle_says_and_its_alerts_state_what_they_did(
    tmp_path: Path, qwen3_bundle: Path
) -> None:
    assert open_bundle(qwen3_bundle).family is QWEN3_VL
    opened = at_work.open_version(qwen3_bundle, settings(tmp_path, qwen3_bundle), State())
    assert (opened.gate.family, opened.gate.max_pixels) == (QWEN3_VL, 131072)
    assert opened.gate.versions == {"bundle": opened.version, **manifest.VERSIONS}


def test_a_weak_node_takes_no_bundle_whose_coordinates_the_receiver_does_not_know(
    tmp_path: Path, qwen3_bundle: Path
) -> None:
    weak = replace(settings(tmp_path, qwen3_bundle), offload=object())
    words = "is for Qwen3-VL; what a weak node sends"
    with pytest.raises(ConfigError, match=words):
        at_work.open_version(qwen3_bundle, weak, State())
    checked = next(checkup.examine(weak))
    assert (checked.verdict, checked.about, words in checked.words) == ("WRONG", "bundle", True)


def test_the_demo_tells_of_the_picture_that_is_sent_and_reads_thousandths(
    tmp_path: Path, qwen3_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "frame.jpg").write_bytes(encode_jpeg(IMAGE))
    accident = Accident(Box(400, 400, 600, 600, Size(1000, 1000)), "severe")
    (tmp_path / "answer.json").write_text(dump(target([accident])))
    given = ["--bundle", qwen3_bundle, "--frame", tmp_path / "frame.jpg"]
    given += ["--answer", tmp_path / "answer.json", "--out", tmp_path / "saved"]
    assert main(["demo", *map(str, given)]) == 0
    told = capsys.readouterr().out
    assert "drawn on the frame at 480 x 256" in told
    alert = json.loads((tmp_path / "saved" / "alert.json").read_text())["data"]
    assert alert["source"] == "mllm"
    assert alert["answer"]["accidents"][0]["bbox"] == [512, 288, 768, 432]
