"""What startup.py runs, and what it makes of the seconds."""

import json
import sys

import pytest


@pytest.fixture
def startup(script):
    return script("startup")


def test_every_command_of_the_repository_is_asked_for_help(startup):
    names = set(startup.own_commands())
    assert {"import fuxictr", "python model_zoo/FM/run_expid.py --help"} <= names
    assert {f"bash {n}.sh --help" for n in ("1.prepare", "2.reproduce", "3.analyze")} <= names
    assert sum("plot_paper_" in name for name in names) == 7


def test_commands_take_turns_and_the_first_round_does_not_count(startup, tmp_path):
    log = tmp_path / "log"
    write = f"open({str(log)!r}, 'a').write"
    commands = {
        ("ours", "a"): [sys.executable, "-c", f"{write}('a')"],
        ("peer", "a"): [sys.executable, "-c", f"{write}('A')"],
    }
    records = startup.measure(commands, repeats=2)
    assert log.read_text() == "aAaAaA"
    assert [len(record["seconds_each"]) for record in records] == [2, 2]
    assert [record["within_limit"] for record in records] == [True, None]


def test_seconds_are_medians_and_only_our_own_commands_have_a_limit(startup, monkeypatch):
    seconds = iter([9.0, 9.0, 9.0, 0.1, 2.0, 3.0, 0.9, 2.0, 5.0, 0.6, 2.0, 1.0])
    monkeypatch.setattr(startup, "seconds_of", lambda command: next(seconds))
    names = [("ours", "import fuxictr"), ("ours", "import torch"), ("peer", "import fuxictr")]
    records = startup.measure({name: [] for name in names}, repeats=3)
    assert [record["seconds"] for record in records] == [0.6, 2.0, 3.0]
    assert [record["within_limit"] for record in records] == [False, None, None]
    assert startup.ratios(records) == {"import fuxictr": 5.0}


def test_a_command_that_fails_is_no_measurement(startup, script):
    with pytest.raises(script("common").ChildError, match="exit status 3"):
        startup.seconds_of([sys.executable, "-c", "raise SystemExit(3)"])


def test_what_is_measured_is_stored(startup, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(startup, "own_commands", lambda: {"nothing": [sys.executable, "-c", ""]})
    monkeypatch.setattr(sys, "argv", ["startup.py", "--repeats", "1", "--results", str(tmp_path)])
    monkeypatch.setenv("PYTHON", "python")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    startup.main()
    (path,) = tmp_path.glob("startup_*.json")
    record = json.loads(path.read_text())
    assert record["benchmark"] == "startup"
    assert [command["name"] for command in record["commands"]] == ["nothing"]
    assert {"machine", "versions", "command", "code", "ratios"} <= set(record)
    assert "above 0.5 s: none" in capsys.readouterr().out


def test_another_package_than_the_peer_is_refused(script):
    common = script("common")
    with pytest.raises(common.ChildError, match="not 2.3.10"):
        common.peer_versions(sys.executable)
