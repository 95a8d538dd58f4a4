"""The tables on a terminal, to the letter."""

from eval.understanding.terminal import terminal
from tests.eval.understanding.small_tables import small_tables

TERMINAL = """\
ours: 12 frames

Table 1. Structured accident understanding
                               Count EM↑  Count MAE↓     SevAcc↑      SevF1↑  BBox mIoU↑ Recall@0.5↑
Ours Boxed LoRA       paper       75.00%      0.7500      75.00%      75.00%      75.00%      75.00%
tiny Qwen Boxed LoRA  ours       50.00%†      0.5000      50.00%      50.00%           -      50.00%
  n = 12              95 %     25.0–62.5 0.250–0.625   25.0–62.5   25.0–62.5               25.0–62.5
GPT-5 Boxed None      paper       75.00%      0.7500      75.00%      75.00%      75.00%      75.00%
                      ours    not run
a|b                   ours        50.00%      0.5000      50.00%      50.00%           -      50.00%
  n = 12              95 %     25.0–62.5 0.250–0.625   25.0–62.5   25.0–62.5               25.0–62.5

Table 2. Structured output format compliance
                                  Parse↑     Schema↑       Rule↑      Viol.↓
Ours Boxed LoRA       paper       0.7500      0.7500      0.7500      0.7500
tiny Qwen Boxed LoRA  ours       0.5000†      0.5000      0.5000      0.5000
  n = 12              95 %   0.250–0.625 0.250–0.625 0.250–0.625 0.250–0.625
GPT-5 Boxed None      paper       0.7500      0.7500      0.7500      0.7500
                      ours    not run
a|b                   ours        0.5000      0.5000      0.5000      0.5000
  n = 12              95 %   0.250–0.625 0.250–0.625 0.250–0.625 0.250–0.625

Table 3. Transmission
                                   W-Alarm (s)     VTR@0.5s (%)       VTR@1s (%) Visual delay (s)
Block B
  DAT                 paper             0.0531            98.33            99.17                -
                      ours     0.5000 ± 0.2500      0.50 ± 0.25      0.50 ± 0.25                -

Table 1 by split
                                 n  Count EM↑  Count MAE↓  SevAcc↑   SevF1↑  BBox mIoU↑  Recall@0.5↑
boxed-lora, of these, without a twin
                                12     50.00%      0.5000   50.00%   50.00%           -       50.00%

What the answers took
                  Answers  Missing      Cut  Prompt tokens  Completion tokens      USD  ms per token
boxed-lora             11        1        2           1200                500   0.2500          4.00
gpt-5                  11        1        2              -                  -        -             -

- boxed-lora against a|b: is better in Count EM.
- One note of 100 %.
- Another & long long long long long long long long long long long long long long long long long
  long one."""


def test_the_terminal_shows_every_table_and_what_is_said_of_the_main_row() -> None:
    assert terminal(small_tables()) == TERMINAL


def test_what_there_is_not_takes_no_line() -> None:
    none = {"table_3": None, "by_split": [], "usage": {}, "comparisons": []}
    shown = terminal(small_tables() | none)
    for title in ("Table 3", "by split", "What the answers took", "against"):
        assert title in TERMINAL
        assert title not in shown
