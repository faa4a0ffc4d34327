"""What busy.py measures beside other programs, and what it makes of the rates."""

import json
import sys

import pytest


@pytest.fixture
def busy(script):
    return script("busy")


@pytest.mark.parametrize(
    ("programs", "num_cpus", "expected"),
    [
        (0, 2, 180.0),  # all CPUs: the best rate
        (1, 2, 100.0),  # one CPU: the rate of one thread
        (2, 2, 100.0 * 2 / 3),
        (4, 2, 100.0 * 2 / 5),
        (1, 1, 50.0),
        (1, 5, 100.0 + 80.0 * 3 / 4),  # the other program takes one CPU of five
        (100, 4, 100.0 * 4 / 101),
    ],
)
def test_the_fair_share_of_a_program(busy, programs, num_cpus, expected):
    one_thread, best = (100.0, 180.0) if num_cpus > 1 else (100.0, 100.0)
    assert busy.fair_rate(one_thread, best, programs, num_cpus) == pytest.approx(expected)


def test_medians_over_rounds_and_the_verdict(busy):
    rates = {("now", 0): [95, 98, 120], ("now", 1): [30, 20, 10], ("one thread", 0): [60, 60, 60]}
    rates |= {("before", 0): [100, 90, 100], ("one thread", 1): [60, 60, 60]}
    records = [
        {"model": "FM", "variant": "dis", "setting": setting, "programs": programs}
        | {"rows_per_second": rate}
        for (setting, programs), each in rates.items()
        for rate in each
    ]
    rows = {(r["setting"], r["programs"]): r for r in busy.summarize(records, num_cpus=2)}
    assert rows["now", 0]["of_best"] == 0.98 and busy.meets_target(rows["now", 0])
    assert rows["now", 1]["of_fair"] == round(20 / 60, 3)
    assert not busy.meets_target(rows["now", 1]) and busy.meets_target(rows["one thread", 1])
    assert not busy.meets_target({"programs": 0, "of_best": 0.96})


def test_programs_end_with_the_measurement(busy):
    with busy.busy_programs(2):
        pass
    with pytest.raises(ZeroDivisionError), busy.busy_programs(1):
        raise ZeroDivisionError


def test_rates_are_measured_and_stored(busy, monkeypatch, tmp_path, capsys, script):
    monkeypatch.chdir(tmp_path)
    argv = ["--models", "FM", "--rows", "2000", "--batch-size", "100", "--seconds", "0.05"]
    argv += ["--repeats", "1", "--programs", "1", "--results", str(tmp_path)]
    argv += ["--settings", "one thread,now"]
    monkeypatch.setattr(sys, "argv", [busy.__file__, *argv])
    busy.main()
    (path,) = tmp_path.glob("busy_*.json")
    record = json.loads(path.read_text())
    assert {run["setting"] for run in record["runs"]} == {"one thread", "now"}
    assert len(record["summary"]) == 2 * 2 * 2
    assert all(run["rows_per_second"] > 0 for run in record["runs"])
    assert {r["threads"] for r in record["runs"] if r["setting"] == "one thread"} == {1}
    assert "FM" in script("report").busy_section(record)
    assert "miss their target" in capsys.readouterr().out
