"""What the project's own base model learns from: rendered scenes, and questions about them.

    python -m data.prep.primer --out runs/base/primer

It gives a tiny Qwen2.5-VL what a real MLLM knows before it is tuned: seeing vehicles, collisions
and drawn boxes, following a JSON schema that stands in the prompt, copying what the prompt lists.
DAT's own task is not in it: its words for severities are tags or sizes of vehicles, and no listed
box helps to find an accident. The scenes show places of their own, none of which
`data.prep.scenes` renders.

Writes for the vision tower views.bin, JPEG files one after another, units.npz, where each ends and
what its units show (`rendering.units`), and units.json, what those numbers mean; for the language
model, in LLaMA-Factory's ShareGPT form, words_train.json (text alone), grounding_train.json (places
alone), questions_train.json and questions_val.json with images/*.jpg, and dataset_info.json. Boxes
are whole pixels of the image, right and bottom exclusive.
"""

import json
from collections.abc import Iterator, Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from dat_runtime import files
from dat_runtime.command import command
from dat_runtime.draw import PATCH, encode_seen
from dat_runtime.errors import ConfigError, reports_errors
from dat_runtime.stage import Stage
from data.prep.asking import questions
from data.prep.instructions.dataset_info import dataset_info
from data.prep.rendering import primer_scenes
from data.prep.rendering.frames import Scene
from data.prep.rendering.units import BIN, THINGS, TRAITS, Targets, targets

LARGEST = 8 * PATCH
"""Side of the largest view, pixels: scenes are rendered at 336."""

ASKED_SHARE = 1 / 3
"""Share of the scenes that questions are about; the vision tower never saw them."""

VIEWS = 4
"""Views of one scene that the tower sees."""

QUESTIONS = 4
"""About one scene, each about another view of it."""

PLACES = 2
"""Questions about one scene that ask for places alone, each about another view too."""

VALIDATION = 40
"""Every so many questions one is for validation."""

ASKED = (*[questions.ask] * QUESTIONS, *[questions.ground] * PLACES)
"""How a scene is asked about, one sample each."""

CHUNK = 40
"""Scenes of one task of a process."""

Seen = tuple[bytes, Targets]
Sample = dict[str, Any]


def render(folder: Path, seed: int, count: int, size: int, jobs: int) -> None:
    """Views for the tower, and questions about the other scenes."""
    (folder / "images").mkdir()
    asked_from = count - int(count * ASKED_SHARE)
    tasks = [
        (folder, seed, first, min(CHUNK, count - first), asked_from, size)
        for first in range(0, count, CHUNK)
    ]
    places: list[Sample] = []
    asked: list[Sample] = []
    ends, shown = [0], []
    with get_context("spawn").Pool(jobs) as pool, (folder / "views.bin").open("wb") as views:
        for done, (seen, about_places, others) in enumerate(pool.imap(_render, tasks), 1):
            for encoded, told in seen:
                views.write(encoded)
                ends.append(ends[-1] + len(encoded))
                shown.append(told)
            places += about_places
            asked += others
            if done % 25 == 0 or done == len(tasks):
                print(f"[primer] {min(done * CHUNK, count)}/{count} scenes", flush=True)
    columns = {name: np.stack([t._asdict()[name] for t in shown]) for name in Targets._fields}
    np.savez_compressed(folder / "units.npz", ends=np.array(ends), **columns)
    meaning = {"side": size, "unit": PATCH, "bin": BIN, "things": THINGS, "traits": dict(TRAITS)}
    files.write_json(folder / "units.json", meaning)
    held_out = asked[::VALIDATION]
    del asked[::VALIDATION]
    _write(folder / "grounding_train.json", places)
    _write(folder / "questions_train.json", asked)
    _write(folder / "questions_val.json", held_out)


def _render(
    task: tuple[Path, int, int, int, int, int],
) -> tuple[list[Seen], list[Sample], list[Sample]]:
    """Views with their targets, samples about places, and other samples: of a chunk of scenes."""
    folder, seed, first, count, asked_from, size = task
    cv2.setNumThreads(1)
    seen: list[Seen] = []
    places: list[Sample] = []
    asked: list[Sample] = []
    for i, scene in enumerate(primer_scenes.scenes(seed, first, count), first):
        rng = np.random.default_rng([seed, i])
        if i < asked_from:
            drawn = [primer_scenes.view(rng, scene, size) for _ in range(VIEWS)]
            seen += [(encode_seen(view.image), targets(view)) for view in drawn]
        else:
            samples = list(_asked(folder, rng, i, scene, size))
            asked += samples[:QUESTIONS]
            places += samples[QUESTIONS:]
    return seen, places, asked


def _asked(
    folder: Path, rng: np.random.Generator, number: int, scene: Scene, size: int
) -> Iterator[Sample]:
    for k, ask in enumerate(ASKED):
        view = primer_scenes.view(rng, scene, size)
        question = ask(rng, view)
        paths = []
        if question.image:
            paths.append(f"images/{number:06d}_{k}.jpg")
            (folder / paths[0]).write_bytes(encode_seen(view.image))
        yield _sample(question, paths)


def words(seed: int, count: int, size: int) -> Iterator[Sample]:
    """Samples without pictures: schemas, and boxes to copy."""
    rng = np.random.default_rng([seed, size])
    for _ in range(count):
        yield _sample(questions.copy(rng, size, ()), [])


def _sample(question: questions.Question, paths: list[str]) -> Sample:
    asked = "<image>" * len(paths) + question.prompt
    messages = [
        {"role": "user", "content": asked},
        {"role": "assistant", "content": question.answer},
    ]
    return {"system": question.system, "messages": messages, "images": paths}


def _write(path: Path, samples: list[Sample]) -> None:
    # Without indentation, unlike `write_json`: there are some ten thousand samples.
    files.write_atomically(path, json.dumps(samples, indent=0) + "\n")


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    parser = command("data.prep.primer", __doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    parser.add_argument("--scenes", type=int, default=48000, help="a third of them to ask about")
    parser.add_argument("--words", type=int, default=24000, help="samples without a picture")
    parser.add_argument("--size", type=int, default=6 * PATCH, help="side of the images, pixels")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="processes that render")
    options = parser.parse_args(argv)
    if options.size % PATCH or not 2 * PATCH <= options.size <= LARGEST:
        raise ConfigError(
            f"--size is a multiple of {PATCH} from {2 * PATCH} to {LARGEST}, got {options.size}"
        )
    if min(options.scenes, options.words) < 20 or options.seed < 0 or options.jobs < 1:
        raise ConfigError(
            "--scenes and --words are at least 20, --jobs 1 and --seed 0, "
            f"got {options.scenes}, {options.words}, {options.jobs} and {options.seed}"
        )
    config = {name: getattr(options, name) for name in ("scenes", "words", "size", "seed")}
    stage = Stage(options.out, kind="primer", inputs={}, config=config, code=[__file__])
    if not stage.up_to_date():
        with stage as folder:
            render(folder, options.seed, options.scenes, options.size, options.jobs)
            samples = list(words(options.seed, options.words, options.size))
            _write(folder / "words_train.json", samples)
            names = ["words_train", "grounding_train", "questions_train", "questions_val"]
            files.write_json(folder / "dataset_info.json", dataset_info(names))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
