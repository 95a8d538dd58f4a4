from eval.uplink.parallel import in_parallel, over_seeds


def double(number):
    return 2 * number


def joined(case):
    return "/".join(map(str, case))


def test_results_come_in_the_order_of_the_jobs_with_progress_lines(capsys):
    assert in_parallel(double, range(9), "numbers") == [0, 2, 4, 6, 8, 10, 12, 14, 16]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "[transmission] numbers 2/9"
    assert lines[-1] == "[transmission] numbers 9/9"


def test_each_case_has_its_results_by_seed():
    cases = [("burst", 0.25), ("low", 1.0)]
    assert over_seeds(joined, cases, 2, "cases") == [
        ["burst/0.25/0", "burst/0.25/1"],
        ["low/1.0/0", "low/1.0/1"],
    ]
