"""The rows of Tables 1 and 2: which, in which order, called what."""

from typing import Any

import pytest

from eval.paper import printed
from eval.understanding.assembly import assemble, in_order, main_row, measured_on
from tests.eval.understanding.small_tables import scored

WORKS = (
    "This shows that the pipeline works; it is not the paper's accuracy and is not comparable "
    "with it"
)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("smoke", ""), f"rendered scenes, a tiny Qwen2.5-VL (profile smoke). {WORKS}"),
        (("smoke", "a"), f"frames of 'a', a tiny Qwen2.5-VL (profile smoke). {WORKS}"),
        (("paper", ""), f"rendered scenes, models of the paper's size (profile paper). {WORKS}"),
        (("paper", "a"), "frames of 'a', models of the paper's size (profile paper)"),
        (
            ("paper", "a", "leak-free"),
            "frames of 'a', leak-free split, models of the paper's size (profile paper)",
        ),
    ],
)
def test_what_ours_was_measured_on(given: tuple[str, ...], words: str) -> None:
    assert measured_on(*given) == f"ours: {words}"


def shown(row: dict[str, Any]) -> list[Any]:
    has = ["paper" if row["paper"] else "", "ours" if row["ours"] else row["note"]]
    names = ("row", "model", "our_model", "input", "tuning")
    return [*(row[name] for name in names), *has]


SCORES = {
    name: scored()
    for name in ("mine-ruled", "boxed-lora-constrained", "boxed-lora", "raw-none", "boxed-none")
}
QWEN, TINY = "Qwen2.5-VL-7B-Instruct", "tiny Qwen2.5-VL"
RAW, BOXED = "Raw image", "Boxed image"
RULED, BOUND = "decoding that keeps the rules", "constrained decoding"


def test_ours_stands_beside_the_papers_in_its_order() -> None:
    found = assemble(SCORES, "ours: x")
    assert found["measured_on"] == "ours: x"
    assert [shown(row) for row in found["table_1"]] == [
        ["raw-none", QWEN, TINY, RAW, "None", "paper", "ours"],
        ["raw-lora", QWEN, QWEN, RAW, "LoRA", "paper", "not run"],
        ["gpt-5", "GPT-5", "GPT-5", BOXED, "None", "paper", "no endpoint was given"],
        ["boxed-none", TINY, TINY, BOXED, "None", "", "ours"],
        ["boxed-lora", "Ours", TINY, BOXED, "LoRA", "paper", "ours"],
        ["mine-ruled", "mine", "mine", "", RULED, "", "ours"],
        ["boxed-lora-constrained", TINY, TINY, BOXED, f"LoRA, {BOUND}", "", "ours"],
    ]
    in_table_2 = [(row["row"], row["paper"] is not None) for row in found["table_2"]]
    assert in_table_2 == [
        ("raw-none", False),
        ("gpt-5", True),
        ("boxed-none", True),
        ("boxed-lora", True),
        ("mine-ruled", False),
        ("boxed-lora-constrained", False),
    ]
    assert found["table_1"][0]["paper"] == printed.table(1)[0]
    assert found["table_1"][0]["ours"] is SCORES["raw-none"]
    assert {row["note"] for row in found["table_1"] if row["ours"]} == {""}
    assert all(row["marks"] == [] for row in found["table_1"] + found["table_2"])


def test_a_model_of_the_papers_size_has_its_name() -> None:
    found = assemble(SCORES | {"gpt-5": scored()}, "", tiny=False)
    called = {row["row"]: row["our_model"] for row in found["table_1"]}
    assert (called["raw-none"], called["boxed-lora"]) == (QWEN, "Ours")
    assert (called["gpt-5"], called["boxed-lora-constrained"]) == ("GPT-5", "Ours")
    tiny = assemble({"gpt-5": scored()}, "")["table_1"]
    assert [row["our_model"] for row in tiny if row["ours"]] == ["GPT-5"]


def test_trivial_rows_come_last_and_marks_are_those_of_table_1() -> None:
    difference = {"low": 0.0, "high": 1.0}
    marks = {"raw-none": {"sev_f1": {"trivial": "never", "difference": difference}}}
    trivial = {"never": scored(), "gate": scored()}
    found = assemble(SCORES, "", trivial=trivial, marks=marks)
    for table in ("table_1", "table_2"):
        never, gate = found[table][-2:]
        assert never == {
            "row": "trivial-never",
            "model": "Never an alert",
            "our_model": "Never an alert",
            "input": "",
            "tuning": "",
            "paper": None,
            "note": "",
            "marks": [],
            "ours": trivial["never"],
        }
        assert gate["row"] == "trivial-gate"
    assert [row["marks"] for row in found["table_1"][:2]] == [["sev_f1"], []]
    assert found["table_2"][0]["marks"] == []
    assert found["notes"][2].startswith("†: no better than the best row that needs no MLLM (Never ")


def test_table_3_is_taken_in_with_what_it_shows() -> None:
    assert assemble(SCORES, "")["table_3"] is None
    found = assemble(SCORES, "", [{"method": "DAT"}])
    assert found["table_3"] == [{"method": "DAT"}]
    assert found["notes"][-1] == (
        "Table 3: calibration, not evidence: its setting was fitted to the paper's Table 3. "
        "Evidence is what holds on perturbed settings and other traces (eval.transmission)."
    )
    assert len(found["notes"]) == len(assemble(SCORES, "")["notes"]) + 1


def test_rows_have_one_order_and_one_of_them_is_shown_most() -> None:
    assert in_order(["b", "boxed-lora", "a", "raw-none", "b"]) == [
        "raw-none",
        "boxed-lora",
        "b",
        "a",
    ]
    assert main_row(["boxed-lora", "a"]) == "boxed-lora"
    assert main_row(["raw-none", "a"]) == "a"
