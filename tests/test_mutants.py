"""`make mutants`: which tests it runs, its sample, and the list of changes that change nothing."""

from collections import Counter
from pathlib import Path

import pytest

from benchmarks.mutants import (
    EQUIVALENT,
    _summary,
    change_in,
    changes_of,
    draw,
    files_that_test,
    is_equivalent,
    main,
    read_equivalent,
)
from dat_runtime.errors import DataError
from dat_runtime.stage import ROOT


def test_what_is_listed_as_equivalent_is_a_change_of_the_code_as_it_is() -> None:
    for file, was, _ in read_equivalent(EQUIVALENT):
        assert was in {line.strip() for line in (ROOT / file).read_text("utf-8").splitlines()}


@pytest.mark.parametrize("text", ["--- a.py\n-x\n+y\n", "= a reason\n", "--- a.py\n= a reason\n"])
def test_a_change_without_a_reason_and_a_reason_without_a_change_are_refused(
    text: str, tmp_path: Path
) -> None:
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(DataError, match="reason"):
        read_equivalent(tmp_path / "list.txt")


@pytest.mark.parametrize(
    ("was", "becomes", "is_listed"),
    [
        ('ask("SELECT a FROM b", "json")', 'ask("select a from b", "json")', True),
        ('ask("SELECT a FROM b", "json")', 'ask("SELECT A FROM B", "json")', True),
        ('ask("SELECT a FROM b", "json")', 'ask("SELECT a FROM b", "JSON")', False),
        ('ask("SELECT a FROM b", "json")', 'ask("XXSELECT a FROM bXX", "json")', False),
        ('ask("SELECT a FROM b", "json")', 'ask(None, "json")', False),
        ('drop("a = ?", 1)', 'drop("A = ?", 1)', True),
        ('drop("a = ? AND b <= ?", 1)', 'drop("a = ? and b <= ?", 1)', True),
        ('ask("SELECT a FROM b", 1)', 'ask("select a from b", 2)', False),
        ('say("told from afar")', 'say("TOLD FROM AFAR")', False),
    ],
)
def test_sql_in_capitals_or_not_is_the_same_and_no_other_text(
    was: str, becomes: str, is_listed: bool
) -> None:
    diff = f"--- a.py\n+++ a.py\n@@ -1 +1 @@\n-    {was}\n+    {becomes}\n"
    assert is_equivalent(change_in(diff), {}) is is_listed


def test_a_guard_of_lengths_is_equivalent_and_another_change_of_its_line_is_not() -> None:
    def is_listed(becomes: str) -> bool:
        diff = f"--- a.py\n+++ a.py\n@@ -1 +1 @@\n-    zip(a, b, strict=True)\n+    {becomes}\n"
        return is_equivalent(change_in(diff), {})

    assert is_listed("zip(a, b, strict=False)")
    assert is_listed("zip(a, b, )")
    assert not is_listed("zip(a, strict=True)")


def test_a_room_is_tested_by_its_mirror_and_by_the_tests_beside_it_that_reach_it() -> None:
    planning = set(map(str, files_that_test(Path("dat_runtime/planning"))))
    assert planning >= {"tests/dat_runtime/planning", "tests/dat_runtime/test_schedule.py"}
    assert set(map(str, files_that_test(Path("dat_runtime/schema.py")))) >= {
        "tests/dat_runtime/test_event.py",
        "tests/dat_runtime/test_schema.py",
    }


def test_the_changes_of_a_room_are_those_of_its_files_and_folders(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.mutmut]\nsource_paths = ['room']\n")
    (tmp_path / "room" / "inner").mkdir(parents=True)
    (tmp_path / "room" / "b.py").write_text("def f(x):\n    return x < 2\n")
    (tmp_path / "room" / "inner" / "a.py").write_text("def g(x):\n    return not x\n")
    of_b = ["room.b.x_f__mutmut_1", "room.b.x_f__mutmut_2"]  # `<=`, and 3
    assert changes_of(tmp_path, Path("room/b.py")) == of_b
    assert changes_of(tmp_path, Path("room")) == [*of_b, "room.inner.a.x_g__mutmut_1"]


def test_a_sample_is_the_same_each_time_and_no_larger_than_the_room() -> None:
    names = [f"{n:03}" for n in range(100)]
    assert draw(names, 4) == draw(names[::-1], 4) == ["049", "097", "053", "005"]
    assert set(draw(names, 4, seed=1)) != set(draw(names, 4))
    assert sorted(draw(names[:3], 4)) == names[:3]


def test_the_share_of_a_sample_has_its_interval_and_that_of_a_whole_room_has_none() -> None:
    counts = Counter(noticed=20, unnoticed=4, equivalent=1)
    last = "; 1 more change nothing (benchmarks/equivalent_mutants.txt)"
    assert _summary(counts, 26) == (
        f"20 of 24 changes noticed (83 %, 95 % interval 64-93 %), a sample of 25 from 26{last}"
    )
    assert _summary(counts, 25) == f"20 of 24 changes noticed (83 %){last}"
    assert _summary(Counter(equivalent=1), 2).startswith(
        "0 of 0 changes noticed (100 %, 95 % interval 0-100 %), a sample of 1 from 2;"
    )


@pytest.mark.parametrize("size", ["0", "-1"])
def test_a_sample_of_nothing_is_refused(size: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dat_runtime/event.py", "--sample", size]) != 0
    assert "at least one change" in capsys.readouterr().err
