"""The launcher of the other tests in this folder: it shows why processes failed and leaves none."""

from __future__ import annotations

import pytest

from tests.distributed.launcher import LaunchError, launch, processes_of, run_cases

pytestmark = pytest.mark.slow


def test_a_case_that_fails_is_named_and_the_others_are_done(tmp_path):
    found = run_cases(["draw", "fail", "reject_one_row"], 2, tmp_path)
    assert [len(found[name]) for name in ("draw", "reject_one_row")] == [2, 2]
    assert isinstance(found["fail"], LaunchError)
    assert "RuntimeError: this rank fails" in str(found["fail"])
    assert processes_of(tmp_path) == []


def test_processes_that_hang_are_ended(tmp_path):
    with pytest.raises(LaunchError, match="2 processes took more than 15 s and were ended"):
        launch([str(tmp_path), "hang"], 2, tmp_path, timeout=15)
    assert processes_of(tmp_path) == []
