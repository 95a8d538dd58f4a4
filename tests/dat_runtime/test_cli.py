import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dat_runtime.cli import main
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
