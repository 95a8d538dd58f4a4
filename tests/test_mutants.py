"""`make mutants`: which tests it runs, and the list of changes that change nothing."""

from pathlib import Path

import pytest

from benchmarks.mutants import (
    EQUIVALENT,
    change_in,
    files_that_test,
    is_equivalent,
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
