import argparse
import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dat_runtime import __version__
from dat_runtime.cascade import Band, Budget, Costs, Logistic, Routing
from dat_runtime.cli import _parser, _routing_words, main
from dat_runtime.demo.screen import Choices
from dat_runtime.prompt import PROMPT_VERSION

EVENTS = [
    {"id": "a", "priority": 0.9, "json_bytes": 450, "roi_bytes": 12000, "box_bytes": 40000},
    {"id": "b", "priority": 0.2, "json_bytes": 400, "roi_bytes": None, "box_bytes": 38000},
]


@pytest.fixture
def events(tmp_path: Path) -> Path:
    path = tmp_path / "events.jsonl"
    path.write_text("".join(json.dumps(e) + "\n" for e in EVENTS), "utf-8")
    return path


def test_a_plan_is_printed_as_json_lines(events: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(events), "--bandwidth", "20000"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        {"event_id": "a", "kind": "json", "size": 450, "done_at": 450 / 20000},
        {"event_id": "b", "kind": "json", "size": 400, "done_at": 850 / 20000},
        {"event_id": "a", "kind": "roi", "size": 12000, "done_at": 12850 / 20000},
    ]


def test_the_limits_of_a_plan_are_the_caller_s(
    events: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for limit in ("--interval", "--visual-deadline"):
        assert main(["plan", str(events), "--bandwidth", "20000", limit, "0.05"]) == 0
        kinds = [json.loads(line)["kind"] for line in capsys.readouterr().out.splitlines()]
        assert kinds == ["json", "json"]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--bandwidth", "-1"], "bandwidth"),
        (["--bandwidth", "nan"], "bandwidth"),
        (["--bandwidth", "9", "--interval", "-1"], "interval"),
        (["--bandwidth", "9", "--policy", "best"], "policy"),
    ],
)
def test_impossible_plans_are_refused_by_name(
    events: Path, flags: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", str(events), *flags]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert words in captured.err


def test_a_bad_line_of_a_batch_is_named(events: Path, capsys: pytest.CaptureFixture[str]) -> None:
    events.write_text(events.read_text() + "{}\n")
    assert main(["plan", str(events), "--bandwidth", "1"]) == 1
    assert capsys.readouterr().err == f"error: {events}:3: id is missing\n"


@pytest.mark.parametrize("field", ["priority", "json_bytes", "roi_bytes", "captured_at"])
def test_a_number_that_no_float_holds_is_named_by_its_line(
    events: Path, field: str, capsys: pytest.CaptureFixture[str]
) -> None:
    events.write_text(events.read_text() + json.dumps({**EVENTS[0], "id": "c", field: 10**400}))
    assert main(["plan", str(events), "--bandwidth", "1"]) == 1
    assert f"{events}:3: {field} is 1000" in capsys.readouterr().err


def test_a_bundle_is_described(bundle_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["verify", str(bundle_folder)]) == 0
    told = capsys.readouterr().out
    prompt = f"prompt {PROMPT_VERSION}"
    for words in ("moderate and severe", "rank 2", prompt, "adapter_model.safetensors"):
        assert words in told


def test_a_broken_bundle_is_named(bundle_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (bundle_folder / "gate" / "gate.onnx").write_bytes(b"")
    assert main(["verify", str(bundle_folder)]) == 1
    assert "gate.onnx: not a gate's model" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["send"],
        ["plan", "events.jsonl"],
        ["plan", "events.jsonl", "--bandwidth", "9", "--fast"],
        ["plan", "events.jsonl", "--band", "9"],
        ["plan", "events.jsonl", "--bandwidth", "fast"],
        ["verify"],
        ["demo", "--bundel", "x"],
    ],
)
def test_what_is_no_command_is_refused(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refusal:
        main(arguments)
    assert refusal.value.code == 2
    assert "usage: dat-runtime" in capsys.readouterr().err


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from dat_runtime.cli import main\ntry: main(['--help'])\nexcept SystemExit: "
    )
    code += "print(sorted({'numpy', 'cv2', 'onnxruntime', 'httpx'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert all(command in done.stdout for command in ("demo", "plan", "verify"))
    assert done.stdout.rstrip().endswith("[]")


def test_a_reader_that_goes_away_is_no_error() -> None:
    done = subprocess.run(
        f"{sys.executable} -m dat_runtime.cli demo | head -1",
        shell=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.startswith("DAT: ")
    assert done.stderr == ""


def test_a_clock_makes_the_age_of_a_visual_count(
    events: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for now, visuals in (("0", ["roi"]), ("0.8", ["roi"]), ("0.9", [])):
        assert main(["plan", str(events), "--bandwidth", "20000", "--now", now]) == 0
        kinds = [json.loads(line)["kind"] for line in capsys.readouterr().out.splitlines()]
        assert kinds == ["json", "json", *visuals]


@pytest.mark.parametrize("policy", ["dat", "dat_plus", "dat_live"])
@pytest.mark.parametrize("far", [1.79e18, -1.79e18, 1e300])
def test_times_far_apart_are_planned_at_once(policy: str, far: float, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    times = [0.0, far, 1.79e18, 1.79e18 + 512]
    lines = [json.dumps(EVENTS[0] | {"id": str(i), "captured_at": t}) for i, t in enumerate(times)]
    path.write_text("\n".join(lines))
    flags = ["--bandwidth", "1e9", "--interval", "1e9", "--now", "1.79e18", "--policy", policy]
    assert main(["plan", str(path), *flags]) == 0


def ran(arguments: list[str], **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dat_runtime.cli", *arguments]
    return subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=60, **options)  # type: ignore[call-overload]


def test_an_output_that_is_full_is_one_line(events: Path) -> None:
    with open("/dev/full", "w") as full:
        done = ran(["plan", str(events), "--bandwidth", "20000"], stdout=full)
    assert done.returncode == 1
    assert done.stderr == "error: the output cannot be written (No space left on device)\n"


def test_an_output_of_ascii_holds_every_id(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text(json.dumps(EVENTS[1] | {"id": "Straße"}))
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = ran(["plan", str(path), "--bandwidth", "9000"], stdout=subprocess.PIPE, env=environment)
    assert json.loads(done.stdout.splitlines()[0])["event_id"] == "Straße"


def test_what_is_no_plain_file_is_no_batch(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path, words in (
        ("/dev/zero", "is not a plain file"),
        (str(tmp_path / "fifo"), "is not a plain file"),
        (str(tmp_path), "cannot be read (Is a directory)"),
    ):
        done = ran(["plan", path, "--bandwidth", "9000"], stdout=subprocess.PIPE)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert words in done.stderr


def test_an_answer_that_would_never_come_is_not_waited_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert main(["demo", "--answer", str(tmp_path / "fifo")]) == 1
    assert "is not a plain file" in capsys.readouterr().err


@pytest.mark.parametrize("character", ["\x7f", "\x9b", "\u202e"])
def test_nothing_that_a_terminal_obeys_is_printed_raw(
    character: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = {"count": 0, "severity": "none", "accidents": [], "summary": f"a{character}2J"}
    (tmp_path / "answer").write_text(json.dumps(answer, ensure_ascii=False), "utf-8")
    assert main(["demo", "--answer", str(tmp_path / "answer")]) == 0
    (tmp_path / "events").write_text(json.dumps(EVENTS[1] | {"id": f"ä{character}"}))
    assert main(["plan", str(tmp_path / "events"), "--bandwidth", "9000"]) == 0
    told = capsys.readouterr().out
    assert character not in told
    assert json.loads(told.splitlines()[-1])["event_id"] == f"ä{character}"


WITHOUT = """
import sys
class Windows:
    def find_spec(name, *more):
        if name in ("fcntl", "resource", "termios"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Windows)
from dat_runtime.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_windows_has_demo_plan_and_verify_and_is_told_so(
    bundle_folder: Path, events: Path, tmp_path: Path
) -> None:
    def windows(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", WITHOUT, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    for fine in (["demo"], ["plan", str(events), "--bandwidth", "9"], ["verify", bundle_folder]):
        done = windows(*map(str, fine))
        assert (done.returncode, done.stderr) == (0, ""), fine
    receive = ("receive", "--store", str(tmp_path), "--tokens", str(tmp_path))
    for refused in (("status", "node.yaml"), ("edge", "run", "node.yaml"), receive):
        done = windows(*refused)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
        assert f"{refused[0]} needs Linux or another POSIX system" in done.stderr


OPTIONS = """\
demo: show one frame's way from the gate to the plan
    --bundle Path: run this bundle's gate (default: recorded)
    --frame Path: a JPEG or PNG (needs --bundle)
    --answer Path: a file that holds the MLLM's answer
    --endpoint str: ask an OpenAI-compatible server, http://host:port/v1
    --model str: the model's name at the endpoint
    --bandwidth float: bytes per second (default: 200e3 and 20e3)
    --out Path: save boxed.jpg, roi.jpg, alert.json, and event.json for plan
plan: print what to send from a batch of events, in order
    events Path: a file of JSON lines, one waiting event each
    --bandwidth float required: bytes per second
    --interval float = 1.0: seconds to plan for (default: 1)
    --visual-deadline float = 1.5: D_vis, seconds (default: 1.5)
    --now float: seconds on captured_at's clock: a visual's age then counts (default: not)
    --policy str = dat: dat (Algorithm 1, the default), dat_plus or dat_live
verify: check a bundle and print what it holds
    bundle Path: None
edge: the node: run, check, status
edge run: run a node until it is stopped
    node Path: the node's settings, node.yaml
edge check: say what is wrong with a node's settings, without starting it
    node Path: the node's settings, node.yaml
edge status: ask a running node how it is; exit status 1 when it is not well
    node Path: the node's settings, node.yaml
receive: the receiver: keep what nodes send, show it to operators
install: bring the newest bundle that fits, try it and switch to it; 3 when it is refused
    node Path: the node's settings, node.yaml
    --from str (URL|FOLDER): a repository, or a bundle's folder (default: updates.url of node.yaml)
    --unsigned flag: take a bundle's folder although node.yaml names a root of trust
    --unblock str (VERSION): try again one that failed before
rollback: return to the previous bundle; the current one stays blocked
    node Path: the node's settings, node.yaml
status: say which bundle is at work and how the node is; exit status 1 when it is not well
    node Path: the node's settings, node.yaml
    --json flag: as one JSON object
"""


def described(parser: argparse.ArgumentParser) -> Iterator[str]:
    """A line for each option and command; those of `receive` are not the command line's own."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            assert action.required, parser.prog
            words = {choice.dest: choice.help for choice in action._choices_actions}
            for name, command in action.choices.items():
                assert command.allow_abbrev is False, command.prog
                yield f"{command.prog.removeprefix('dat-runtime ')}: {words[name]}"
                if name in ("receive", "install", "rollback", "status", "run", "check"):
                    assert command.description == words[name]
                if name != "receive":
                    yield from described(command)
        elif not {"--help", "--version"} & set(action.option_strings):
            name = " ".join(action.option_strings) or action.dest
            kind = "flag" if action.nargs == 0 else getattr(action.type, "__name__", "str")
            known = [f"({action.metavar})"] if action.metavar else []
            known += ["required"] if action.required and action.option_strings else []
            known += [f"= {action.default}"] if action.default not in (None, False) else []
            yield f"    {' '.join([name, kind, *known])}: {action.help}"


def test_the_options_and_their_words_are_these() -> None:
    assert "\n".join(described(_parser())) + "\n" == OPTIONS
    assert _parser().prog == "dat-runtime"
    assert "the field from" in str(_parser().description)


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"dat-runtime {__version__}\n"


NODE = Path("node.yaml")
HANDED: list[tuple[list[str], str, tuple[object, ...], dict[str, object]]] = [
    (["edge", "run", "node.yaml"], "edge.run.run", (NODE,), {}),
    (["edge", "check", "node.yaml"], "edge.checkup.check", (NODE,), {}),
    (["edge", "status", "node.yaml"], "edge.status.status", (NODE,), {}),
    (["status", "node.yaml"], "edge.status.versions_status", (NODE,), {"as_json": False}),
    (["status", "node.yaml", "--json"], "edge.status.versions_status", (NODE,), {"as_json": True}),
    (["rollback", "node.yaml"], "edge.updates.updating.rollback", (NODE,), {}),
    (
        ["install", "node.yaml"],
        "edge.updates.updating.install",
        (NODE, None),
        {"unsigned": False, "unblock": None},
    ),
    (
        ["install", "node.yaml", "--from", "there", "--unsigned", "--unblock", "0a"],
        "edge.updates.updating.install",
        (NODE, "there"),
        {"unsigned": True, "unblock": "0a"},
    ),
]


@pytest.mark.parametrize(("arguments", "name", "values", "named"), HANDED)
def test_a_command_hands_its_options_over_and_its_status_back(
    arguments: list[str],
    name: str,
    values: tuple[object, ...],
    named: dict[str, object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: list[tuple[tuple[object, ...], dict[str, object]]] = []

    def command(*values: object, **named: object) -> int:
        given.append((values, named))
        return 7

    monkeypatch.setattr(f"dat_runtime.{name}", command)
    assert main(arguments) == 7
    assert given == [(values, named)]


def test_the_receiver_gets_all_its_options(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}

    def receive(**named: Any) -> int:
        given.update(named)
        return 7

    monkeypatch.setattr("dat_runtime.cloud.serve.receive", receive)
    options = {
        "listen": "0.0.0.0:1",
        "store": "sqlite:///a",
        "tokens": "b",
        "workers": "2",
        "data": "c",
        "keep-bytes": "9",
    }
    assert main(["receive", *(word for n, v in options.items() for word in (f"--{n}", v))]) == 7
    assert given.pop("also").keep_bytes == 9
    assert given == {
        "listen": "0.0.0.0:1",
        "store": "sqlite:///a",
        "tokens": Path("b"),
        "workers": 2,
        "data": Path("c"),
    }


def stops_with(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A command that ends with an error; the list grows when its output is forgotten."""
    forgotten: list[int] = []

    def command(_: Path) -> int:
        raise error

    monkeypatch.setattr("dat_runtime.edge.status.status", command)
    monkeypatch.setattr("dat_runtime.cli.forget_output", lambda: forgotten.append(1))
    return forgotten


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG, errno.EDQUOT])
def test_an_output_that_finds_no_room_is_an_error_of_one_line(
    number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    forgotten = stops_with(OSError(number, "no room"), monkeypatch)
    assert main(["edge", "status", "node.yaml"]) == 1
    assert capsys.readouterr().err == "error: the output cannot be written (no room)\n"
    assert forgotten == [1]


def test_a_reader_that_went_away_ends_a_command_and_other_errors_keep_their_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    forgotten = stops_with(BrokenPipeError(), monkeypatch)
    assert main(["edge", "status", "node.yaml"]) == 1
    assert (forgotten, capsys.readouterr().err) == ([1], "")
    forgotten = stops_with(OSError(errno.EIO, "a defect"), monkeypatch)
    with pytest.raises(OSError, match="a defect"):
        main(["edge", "status", "node.yaml"])
    stops_with(ModuleNotFoundError("no", name="yaml"), monkeypatch)
    with pytest.raises(ModuleNotFoundError):
        main(["edge", "status", "node.yaml"])
    assert forgotten == []
    stops_with(ModuleNotFoundError("no", name="fcntl"), monkeypatch)
    assert main(["edge", "status", "node.yaml"]) == 1
    assert capsys.readouterr().err == (
        "error: edge needs Linux or another POSIX system (Python's fcntl); demo, plan and verify"
        " do not\n"
    )


@pytest.mark.parametrize("missing", ["sqlalchemy", "fcntl"])
def test_a_receiver_without_its_packages_says_how_they_come(
    missing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Without:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "dat_runtime.cloud.serve":
                raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)

    monkeypatch.delitem(sys.modules, "dat_runtime.cloud.serve", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Without(), *sys.meta_path])
    assert main(["receive", "--store", "sqlite:///a"]) == 1
    words = {
        "sqlalchemy": "the receiver needs packages (sqlalchemy): pip install",
        "fcntl": "receive needs Linux or another POSIX system (Python's fcntl); demo, plan",
    }[missing]
    assert capsys.readouterr().err.startswith(f"error: {words}")


def test_the_demo_gets_all_its_options(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given: list[Choices] = []

    def show(choices: Choices) -> Iterator[str]:
        given.append(choices)
        yield "a line"

    monkeypatch.setattr("dat_runtime.demo.screen.show", show)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert main(["demo"]) == 0
    assert given == [Choices()]
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    files = ["--bundle", "a", "--frame", "b", "--out", "d", "--bandwidth", "9"]
    assert main(["demo", *files, "--answer", "c"]) == 0
    assert main(["demo", *files, "--endpoint", "http://h", "--model", "m"]) == 0
    of_all = Choices(Path("a"), Path("b"), api_key="secret", bandwidths=(9.0,), out=Path("d"))
    assert given[1] == replace(of_all, answer=Path("c"))
    assert given[2] == replace(of_all, endpoint="http://h", model="m")
    assert capsys.readouterr().out == "a line\n" * 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["--frame", "x"],
            "--frame needs --bundle: the recorded detections fit one frame only",
        ),
        (
            ["--answer", "x", "--endpoint", "http://x", "--model", "m"],
            "--answer and --endpoint exclude each other: give one of them",
        ),
        (["--endpoint", "http://x"], "--endpoint and --model belong together"),
        (["--model", "m"], "--endpoint and --model belong together"),
    ],
)
def test_options_of_the_demo_that_do_not_go_together_are_refused(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", *arguments]) == 1
    assert capsys.readouterr().err == f"error: {words}\n"


@pytest.mark.parametrize(
    ("routing", "words"),
    [
        (Routing(0.1, Band(0.25, None)), "the MLLM is asked from score 0.25 on"),
        (
            Routing(0.1, Band(0.02, 0.98765), Logistic(1.0), budget=Budget(0.05, 100, Costs())),
            "the MLLM is asked from probability 0.02 on, and from 0.988 on the gate answers"
            " itself; fitted for a load of 5%",
        ),
    ],
)
def test_how_a_gate_routes_is_said_in_words(routing: Routing, words: str) -> None:
    assert _routing_words(routing) == words
