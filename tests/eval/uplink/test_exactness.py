from dataclasses import replace
from pathlib import Path

from eval.uplink.exactness import exact_properties
from eval.uplink.setting import load_setting

C0 = Path("configs/transmission/c0.yaml")


def test_the_exact_properties_hold_in_the_plans_of_c0():
    setting = replace(load_setting(C0), events=60)
    rates = [1.9e6 * (0.5 + second % 3 / 2) for second in range(100)]
    assert set(exact_properties(setting, rates, 2).values()) == {0}
