"""Each command of the documents runs, shrunk, and ends as the document says (`make documents`)."""

import re
from pathlib import Path

import pytest

from export.live.processes import free_port
from tests.documents import folders
from tests.documents.commands import ROOT, Command, commands
from tests.documents.rules import MADE, NOT_RUN, STORIES, Run, fits, rule_of, shrunk
from tests.documents.running import run, serving

pytestmark = pytest.mark.documents


def in_stories() -> list[object]:
    """The commands to run, story by story; each story is of one test process."""
    told = [document for story in STORIES for document in story]
    here = [c for c in commands() if not any(fits(key, c.text) for key in (*MADE, *NOT_RUN))]
    here.sort(key=lambda command: told.index(command.document))
    names = {document: story[0] for story in STORIES for document in story}
    return [
        pytest.param(
            command,
            id=f"{Path(command.document).stem}: {command.text}"[:160],
            marks=pytest.mark.xdist_group(names[command.document]),
        )
        for command in here
    ]


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all test processes share."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if base.name.startswith("popen-") else base) / "documents"


@pytest.fixture(scope="session")
def story_folders(place: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {}


@pytest.fixture
def folder(
    request: pytest.FixtureRequest,
    place: Path,
    story_folders: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The working folder of the command's story."""
    document = request.getfixturevalue("command").document
    (name,) = (story[0] for story in STORIES if document in story)
    if name not in story_folders:
        stem = Path(name).stem
        story_folders[name] = folders.story(tmp_path_factory.mktemp(stem) / "work", place)
    return story_folders[name]


def held(rule: Run, document: str, output: str) -> None:
    """What the document shows, its figures too, the command printed."""
    text = " ".join((ROOT / document).read_text("utf-8").split())
    for pattern in rule.shows:
        written, printed = re.search(pattern, text), re.search(pattern, " ".join(output.split()))
        assert written, f"{document} does not say {pattern}"
        assert printed, f"{pattern} is not in\n{output}"
        assert printed.groups() == written.groups(), pattern


@pytest.mark.timeout(400)
@pytest.mark.parametrize("command", in_stories())
def test_a_command_of_a_document_runs(command: Command, folder: Path) -> None:
    rule, port = rule_of(command.text), free_port()
    text = shrunk(command.text, rule, port)
    if rule.bring:
        rule.bring(folder)
    if rule.before:
        folders.done(rule.before.replace("{port}", str(port)), folder)
    if rule.until and not rule.beside:
        with serving(f"exec {text}", folder, rule.until, rule.seconds) as server:
            pass
        status, output = int(server["status"]), server["output"]
    elif rule.beside:
        beside = rule.beside.replace("{port}", str(port))
        with serving(f"exec {beside}", folder, rule.until, rule.seconds):
            status, output = run(text, folder, rule.seconds)
    else:
        status, output = run(text, folder, rule.seconds)
    assert status in rule.status, f"{text}\nended with {status}:\n{output}"
    held(rule, command.document, output)


@pytest.mark.parametrize("key", MADE)
def test_the_smoke_run_left_what_it_ran(key: str) -> None:
    out = folders.smoke_run()
    assert [name for name in MADE[key] if not (out / name).is_dir()] == []
