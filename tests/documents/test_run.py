"""Each command of the documents runs, shrunk, and ends as the document says (`make documents`)."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from export.live.processes import free_port
from tests.documents import folders
from tests.documents.commands import Command, commands, documents_with
from tests.documents.rules import MADE, NOT_RUN, STORIES, fits, held, placed, rule_of, shrunk
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
def story_folders() -> Iterator[dict[str, Path]]:
    """Stories that have begun. Nothing that they do may change the run itself."""
    before = folders.files_of(folders.smoke_run())
    yield {}
    assert folders.files_of(folders.smoke_run()) == before


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


@pytest.mark.timeout(400)
@pytest.mark.parametrize("command", in_stories())
def test_a_command_of_a_document_runs(command: Command, folder: Path) -> None:
    rule, ports = rule_of(command.text), (free_port(), free_port())
    text, until = shrunk(command.text, rule, ports), placed(rule.until, ports)
    if rule.bring:
        rule.bring(folder, ports)
    if rule.before:
        folders.done(placed(rule.before, ports), folder)
    if rule.until and not rule.beside:
        with serving(text, folder, until, rule.seconds) as server:
            pass
        status, output = int(server["status"]), server["output"]
    elif rule.beside:
        with serving(placed(rule.beside, ports), folder, until, rule.seconds):
            status, output = run(text, folder, rule.seconds)
    else:
        status, output = run(text, folder, rule.seconds)
    assert status in rule.status, f"{text}\nended with {status}:\n{output}"
    held(rule, " ".join(documents_with(command.text)), output)


@pytest.mark.parametrize("key", MADE)
def test_the_smoke_run_left_what_it_ran(key: str) -> None:
    out = folders.smoke_run()
    assert [name for name in MADE[key] if not (out / name).is_dir()] == []
