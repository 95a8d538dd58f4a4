"""Changes of a room's code that no test notices: mutmut on one folder or file.

    make mutants ROOM=dat_runtime/planning
    python -m benchmarks.mutants dat_runtime/planning --jobs 2
    python -m benchmarks.mutants eval/uplink --sample 80 --seed 1

mutmut changes one operator, number, argument or text of a function at a time and runs the tests
that reach it: of those of the mirrored folder or file, and of those beside it that import the room.
What they do not notice is printed as a diff. It calls for a sharp test or, where nothing can notice
it, for an entry with the reason in benchmarks/equivalent_mutants.txt. Tests marked slow are left
out, and Hypothesis draws the same examples each time. Of a sample, the same for each seed, the
share that is noticed has an interval (Wilson's). Tests that were written for what one draw showed
flatter its share; the next seed's says where a room stands.
"""

import random
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import chdir
from pathlib import Path

from dat_runtime.command import command
from dat_runtime.errors import ConfigError, DataError, reports_errors
from dat_runtime.stage import ROOT

EQUIVALENT = Path(__file__).with_name("equivalent_mutants.txt")
TOPS = ("benchmarks", "configs", "data", "eval", "export", "tests", "train", "dat_runtime")
NOTICED = frozenset({"killed", "timeout", "segfault", "suspicious"})
NOT_TRIED = "not checked"
PROFILE = """\
import os
import sys

from hypothesis import HealthCheck, Phase, settings


def without_polars():
    # Its threads end with a fork, and a training of Ultralytics that asks them waits for ever:
    # each change would be noticed by the clock.
    trainer = sys.modules.get("ultralytics.engine.trainer")
    if trainer is not None:
        trainer.BaseTrainer.read_results_csv = lambda self: {}


os.register_at_fork(after_in_child=without_polars)

# What only many examples notice is not noticed each time; a failure need not be shrunk.
settings.register_profile(
    "mutants",
    database=None,
    deadline=None,
    derandomize=True,
    max_examples=25,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
settings.load_profile("mutants")
"""

_STRICT = re.compile(r"(, strict=\w+|, )(?=\))")
"""Guards a length that no input can break, so nothing notices when it is gone."""

_TEXT = re.compile(r'"[^"]*"')
_SQL = re.compile(
    r"\b(?:SELECT|INSERT|UPDATE|DELETE|FROM|WHERE|ORDER BY|VALUES|PRAGMA|BEGIN|COMMIT|ROLLBACK)\b"
    r"|[=<] \?"
)
"""A statement's words: SQLite knows them, and the names of tables and columns, by either case."""

Change = tuple[str, str, str]
"""File, the lines as they are, and what they were changed to."""


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    parser = command("benchmarks.mutants", __doc__)
    parser.add_argument("room", type=Path, help="a folder or file of the repository")
    parser.add_argument("--jobs", type=int, default=2, help="processes (2)")
    parser.add_argument("--tests", type=Path, nargs="+", help="instead of those that are found")
    parser.add_argument("--sample", type=int, help="try so many changes, drawn at random (all)")
    parser.add_argument("--seed", type=int, default=0, help="of that draw (0)")
    args = parser.parse_args(argv)
    if args.sample is not None and args.sample < 1:
        raise ConfigError(f"--sample {args.sample}: a sample has at least one change")
    room = _in_repository(args.room)
    tests = args.tests or list(files_that_test(room))
    if not tests:
        raise ConfigError(f"{room} has no tests of its own: name some by --tests")
    folder = ROOT / "runs" / "mutants" / room.with_suffix("").as_posix().replace("/", ".")
    _prepare(folder, room, tests)
    print(f"[mutants] {room}: {' '.join(map(str, tests))}", flush=True)
    drawn = draw(changes_of(folder, room), args.sample, args.seed) if args.sample else []
    mutmut = Path(sys.executable).with_name("mutmut")
    run = subprocess.run([mutmut, "run", "--max-children", str(args.jobs), *drawn], cwd=folder)
    if run.returncode:
        raise ConfigError(f"mutmut did not finish in {folder}: see above")
    return _report(folder, room, drawn)


def _in_repository(room: Path) -> Path:
    path = room.resolve()
    if not path.exists() or not path.is_relative_to(ROOT) or path == ROOT:
        raise ConfigError(f"{room} is no folder or file of {ROOT}")
    return path.relative_to(ROOT)


def files_that_test(room: Path) -> Iterator[Path]:
    """The mirrored tests of a room, then the test files beside them that import it.

    A folder is often reached by a module in front of it, so for a folder that is followed too.
    """
    mirrored = Path("tests") / room
    if room.suffix:
        mirrored = mirrored.with_name(f"test_{room.name}")
    if (ROOT / mirrored).exists():
        yield mirrored
    wanted = {_dotted(room)}
    if not room.suffix:
        fronts = (ROOT / room.parent).glob("*.py")
        wanted |= {_dotted(path.relative_to(ROOT)) for path in fronts if _imports(path, wanted)}
    for path in sorted((ROOT / mirrored.parent).glob("test_*.py")):
        if path != ROOT / mirrored and _imports(path, wanted):
            yield path.relative_to(ROOT)


def _dotted(path: Path) -> str:
    return path.with_suffix("").as_posix().replace("/", ".")


def _imports(path: Path, modules: set[str]) -> bool:
    text = path.read_text("utf-8")
    forms = [f"from {m} import" for m in modules] + [f"from {m}." for m in modules]
    for module in modules:
        package, _, name = module.rpartition(".")
        forms.append(f"from {package} import {name}\n")
    return any(form in text for form in forms)


def _prepare(folder: Path, room: Path, tests: Sequence[Path]) -> None:
    """A copy of the repository in which mutmut works, with its settings for this room."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    without = shutil.ignore_patterns("__pycache__")
    for top in TOPS:
        shutil.copytree(ROOT / top, folder / top, ignore=without)
    (folder / "mutation_profile.py").write_text(PROFILE)
    top, only = room.parts[0], room.as_posix() + ("" if room.suffix else "/*")
    copied = [name for name in TOPS if name not in (top, "tests")]
    options = ["-p", "mutation_profile", "-p", "no:cacheprovider", "-m", "not gpu and not slow"]
    settings = {
        "source_paths": [top],
        "only_mutate": [only],
        "also_copy": [*copied, "mutation_profile.py"],
        "pytest_add_cli_args": options,
        "pytest_add_cli_args_test_selection": [test.as_posix() for test in tests],
        "timeout_multiplier": 5.0,
        "use_git_change_detection": False,
    }
    lines = [f"{name} = {_toml(value)}" for name, value in settings.items()]
    own = (ROOT / "pyproject.toml").read_text("utf-8")
    (folder / "pyproject.toml").write_text(own + "\n[tool.mutmut]\n" + "\n".join(lines) + "\n")


def changes_of(folder: Path, room: Path) -> list[str]:
    """The names of all changes that mutmut makes to a room's code, of which none is tried here."""
    with chdir(folder):
        from mutmut.mutation.file_mutation import mutate_file_contents
        from mutmut.utils.format_utils import get_mutant_name

        names = []
        for file in [room] if room.suffix else sorted(room.rglob("*.py")):
            changed = mutate_file_contents(str(file), file.read_text("utf-8"))
            names += [get_mutant_name(file, name) for name in changed.mutant_names]
        return names


def draw(names: Sequence[str], size: int, seed: int = 0) -> list[str]:
    """So many of the names, or all where there are fewer; of one seed the same each time."""
    return random.Random(seed).sample(sorted(names), min(size, len(names)))


def _toml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value).replace("'", '"')


def _report(folder: Path, room: Path, drawn: Sequence[str]) -> int:
    """Print what no test noticed, of the drawn or else of all; 1 where there is such a change."""
    equivalent = read_equivalent(EQUIVALENT)
    counts: Counter[str] = Counter()
    outcomes = _outcomes(folder)
    for name, status in outcomes:
        if drawn and name not in drawn:
            continue
        if status in NOTICED or status == NOT_TRIED:
            counts[status if status == NOT_TRIED else "noticed"] += 1
            continue
        diff = _diff(folder, name)
        if is_equivalent(change_in(diff), equivalent):
            counts["equivalent"] += 1
            continue
        counts["unnoticed"] += 1
        print(f"\n{status}: {name}\n{diff.rstrip()}")
    print(f"\n[mutants] {room}: {_summary(counts, len(outcomes))}")
    return 1 if counts["unnoticed"] else 0


def _summary(counts: Counter[str], changes: int = 0) -> str:
    """In words. Where there are more changes than were counted, the counts are a sample's."""
    noticed, judged = counts["noticed"], counts["noticed"] + counts["unnoticed"]
    share = noticed / judged if judged else 1.0
    words = f"{noticed} of {judged} changes noticed ({100 * share:.0f} %"
    if counts.total() < changes:
        low, high = _interval(noticed, judged)
        words += f", 95 % interval {100 * low:.0f}-{100 * high:.0f} %)"
        words += f", a sample of {counts.total()} from {changes}"
    else:
        words += ")"
    if counts["equivalent"]:
        words += f"; {counts['equivalent']} more change nothing ({EQUIVALENT.relative_to(ROOT)})"
    if counts[NOT_TRIED]:
        words += f"; {counts[NOT_TRIED]} were not tried"
    return words


def _interval(noticed: int, judged: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson's); all shares where nothing was judged."""
    if not judged:
        return 0.0, 1.0
    from scipy.stats import binomtest

    low, high = binomtest(noticed, judged).proportion_ci(method="wilson")
    return float(low), float(high)


def is_equivalent(change: Change, listed: Mapping[Change, str]) -> bool:
    _, was, becomes = change
    if change in listed or _STRICT.sub("", was) == _STRICT.sub("", becomes):
        return True
    return _sql_in_lower_case(was, was) == _sql_in_lower_case(becomes, was)


def _sql_in_lower_case(line: str, was: str) -> str:
    """A line whose texts are in lower case, each that is SQL in the line as it was."""
    is_sql = [_SQL.search(text) is not None for text in _TEXT.findall(was)]
    if len(is_sql) != len(_TEXT.findall(line)):
        return line
    sql = iter(is_sql)
    return _TEXT.sub(lambda text: text[0].lower() if next(sql) else text[0], line)


def _outcomes(folder: Path) -> list[tuple[str, str]]:
    mutmut = Path(sys.executable).with_name("mutmut")
    lines = subprocess.run(
        [mutmut, "results", "--all", "true"], cwd=folder, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    return [tuple(line.strip().rsplit(": ", 1)) for line in lines if ": " in line]  # type: ignore[misc]


def _diff(folder: Path, name: str) -> str:
    with chdir(folder):
        from mutmut.mutation.diff_apply import get_diff_for_mutant

        return str(get_diff_for_mutant(name))


def change_in(diff: str) -> Change:
    """The change that a diff makes, without its place in the file."""
    file, was, becomes = "", [], []
    for line in diff.splitlines():
        if line.startswith("--- "):
            file = line[4:].strip()
        elif line.startswith("-"):
            was.append(line[1:].strip())
        elif line.startswith("+") and not line.startswith("+++"):
            becomes.append(line[1:].strip())
    return file, " ".join(was), " ".join(becomes)


def read_equivalent(path: Path) -> dict[Change, str]:
    """Change -> why nothing can notice it. An entry: `--- file`, `-` and `+` lines, `= reason`.

    Raises:
        DataError: an entry has no reason, or a reason no change.
    """
    entries: dict[Change, str] = {}
    diff: list[str] = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        if line.startswith("= "):
            change = change_in("\n".join(diff))
            if not change[0] or change[1] == change[2]:
                raise DataError("a reason without a change above it", path, number)
            entries[change] = line[2:]
            diff = []
        elif line.startswith(("-", "+")):
            diff.append(line)
    if diff:
        raise DataError("the last change has no reason (`= ...`)", path)
    return entries


if __name__ == "__main__":
    raise SystemExit(main())
