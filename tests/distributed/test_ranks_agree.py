"""What four processes must do alike: scores and metrics, batch normalisation, drawn targets."""

from __future__ import annotations

import numpy as np
import pytest

from tests.distributed.cases import EVALUATIONS
from tests.distributed.checks import check_evaluation, of_ranks
from tests.distributed.jobs import JOBS, NORMALIZED, PARTS
from tests.distributed.launcher import run_cases


@pytest.fixture(scope="module")
def in_four(tmp_path_factory):
    """Returns what each of four ranks gave of each job; the last ones have no batch of some."""
    alike = ("refuse_reads", "meet_infinity", "reject_one_row", "draw")
    names = [*EVALUATIONS, *NORMALIZED, *(name for name in JOBS if name.startswith(alike))]
    return run_cases(names, 4, tmp_path_factory.mktemp("four"), timeout=180)


@pytest.mark.parametrize("name", EVALUATIONS)
def test_metrics_are_those_of_one_process(name, in_four, tmp_path):
    check_evaluation(JOBS[name](tmp_path), in_four[name])


@pytest.mark.parametrize("name", NORMALIZED)
def test_batch_norm_is_that_of_all_rows(name, in_four, tmp_path):
    expected = JOBS[name](tmp_path)
    ranks = of_ranks(in_four[name])
    assert tuple(len(rank["output0"]) for rank in ranks) == PARTS
    tolerance = {"rtol": 0.02, "atol": 0.02} if "bf16" in name else {"rtol": 2e-5, "atol": 2e-6}
    for key, wanted in expected.items():
        parts = [rank[key] for rank in ranks]
        if key.startswith(("state", "evaluated")):
            assert all(np.array_equal(part, parts[0]) for part in parts)
            found = parts[0]
        else:
            found = sum(parts) if key.startswith("sum") else np.concatenate(parts)
        assert found.dtype == wanted.dtype
        np.testing.assert_allclose(found, wanted, **tolerance, err_msg=key)


def test_one_row_of_all_ranks_cannot_be_normalized(in_four):
    said = [str(rank["error"]) for rank in of_ranks(in_four["reject_one_row"])]
    assert all("expected more than 1 value per channel when training, got 1" in s for s in said)


@pytest.mark.parametrize("name", [name for name in JOBS if name.startswith("refuse_reads")])
def test_tables_that_ranks_share_are_read_by_lookups_only(name, in_four):
    for rank in of_ranks(in_four[name]):
        assert "something other than a lookup has read it" in str(rank["error"])


@pytest.mark.parametrize("name", [name for name in JOBS if name.startswith("meet_infinity")])
def test_numbers_gone_bad_on_one_rank_end_all_of_them(name, in_four):
    first, *others = of_ranks(in_four[name])
    assert "epoch 1, step 3: the training loss is " in str(first["error"])
    assert "column 'x'" in str(first["error"])
    assert all(str(other["error"]) == "SystemExit: 1" for other in others)
    assert all(rank["is_finite"] for rank in [first, *others])


def test_ranks_draw_the_same_targets_and_their_own_dropout(in_four, tmp_path):
    alone = JOBS["draw"](tmp_path)
    first, *others = of_ranks(in_four["draw"])
    assert np.array_equal(first["targets"], alone["targets"])
    assert len({values.tobytes() for values in first["targets"]}) > 1
    for other in others:
        assert np.array_equal(other["targets"], first["targets"])
        assert not np.array_equal(other["kept"], first["kept"])
