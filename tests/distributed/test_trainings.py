"""50 steps in several processes are 50 steps in one with the same global batch, to 1e-5."""

from __future__ import annotations

import re

import numpy as np
import pytest

from fuxictr.pytorch.dataloaders import BatchIterator, Share
from tests.distributed.cases import (
    EVALUATIONS,
    EVERY_BACKBONE,
    SHORT,
    TRAININGS,
    make_map,
    make_rows,
)
from tests.distributed.checks import check_evaluation, of_ranks
from tests.distributed.jobs import JOBS
from tests.distributed.launcher import chosen_cases, run_cases

TOLERANCE = 1e-5
# bfloat16 has 8 bits, and a rank's part of a gradient is rounded to it before all are added up.
TOLERANCE_BF16 = 1e-3
# Few, since four processes are slow on two cores.
IN_FOUR = ("tiny-large-row", "clip_l2-medium-none", "batch_norm_tiny-none", "mixed_fields-row")


@pytest.fixture(scope="module")
def in_two(request, tmp_path_factory):
    return run_cases(chosen_cases(request, "name"), 2, tmp_path_factory.mktemp("two"))


@pytest.fixture(scope="module")
def in_four(request, tmp_path_factory):
    return run_cases(chosen_cases(request, "name_in_four"), 4, tmp_path_factory.mktemp("four"))


@pytest.fixture(scope="module")
def in_one(tmp_path_factory):
    """Returns what a job gives in this process, where the sharding of tables has no effect."""
    folder = tmp_path_factory.mktemp("one")
    done = {}

    def find(name: str):
        key = name.rsplit("-", 1)[0]
        if key not in done:
            done[key] = JOBS[name](folder)
        return done[key]

    return find


def is_noise(name: str, weight: str) -> bool:
    """Returns whether a weight moves by rounding alone, in one process as well.

    Batch normalisation takes away what a bias before it adds, so the gradient of that bias is zero
    but for rounding, 1e-9 to 1e-7 here. Adam makes steps of up to the learning rate of it. Nothing
    but the mean of the norm's inputs follows the bias.
    """
    layer = re.fullmatch(r"weight\.(?:parallel_dnn|mlp)\.mlp\.\d+\.(bias|running_mean)", weight)
    return name.startswith("batch_norm") and bool(layer) and not weight.endswith("mlp.6.bias")


def tolerance(name: str, weight: str) -> float:
    """Returns how far a weight may be off; a variance follows the squares of the weights."""
    if name.startswith("bf16"):
        return TOLERANCE_BF16
    return 3 * TOLERANCE if weight.endswith("running_var") else TOLERANCE


def distances(expected, found) -> dict[str, float]:
    """Returns the largest difference of each array."""
    assert found.keys() == expected.keys()
    return {
        key: float(np.abs(values.astype(np.float64) - expected[key]).max(initial=0))
        for key, values in found.items()
        if key != "readers"
    }


def check(name: str, expected, ranks) -> None:
    first, *others = of_ranks(ranks)
    for other in others:
        for key in other:
            np.testing.assert_array_equal(other[key], first[key], err_msg=key)
    np.testing.assert_array_equal(first["rows"], expected["rows"])
    assert not any(key.startswith("weight") for other in others for key in other)
    assert not {
        key: distance
        for key, distance in distances(expected, first).items()
        if not distance <= tolerance(name, key) and not is_noise(name, key)
    }


def names(chosen, in_all):
    return [pytest.param(name, marks=() if name in chosen else pytest.mark.slow) for name in in_all]


@pytest.mark.parametrize("name", names(SHORT, TRAININGS))
def test_two_processes_train_as_one(name, in_one, in_two):
    check(name, in_one(name), in_two[name])


@pytest.mark.slow
@pytest.mark.parametrize("name_in_four", IN_FOUR)
def test_four_processes_train_as_one(name_in_four, in_one, in_four):
    check(name_in_four, in_one(name_in_four), in_four[name_in_four])


def test_a_rank_has_no_rows_of_some_batches_in_the_suite():
    training = TRAININGS["tiny-large-row"]
    rows = make_rows(make_map("large"), training.num_rows)
    sizes = [
        [batch.num_rows for _ in range(5) for batch in iterator]
        for iterator in (BatchIterator(rows, 3, True, share=Share(rank, 2)) for rank in (0, 1))
    ]
    assert [min(found) for found in sizes] == [0, 0]
    assert {sum(pair) for pair in zip(*sizes, strict=True)} == {2, 3}


@pytest.mark.parametrize("name", names(SHORT, [n for n in EVERY_BACKBONE if "DeepFM" in n]))
def test_gradients_of_tables_come_together_as_their_size_asks_for(name, in_one, in_two):
    """So that the suite covers each of the ways."""
    _, size, how = name.split("-")
    kinds = {"small": "NoneType", "medium": "DenseTable", "large": "LazyTable"}
    expected = "ShardReader" if how == "row" else kinds[size]
    assert of_ranks(in_two[name])[0]["readers"].tolist() == [expected] * 2
    alone = "LazyTable" if size == "large" else "NoneType"
    assert in_one(name)["readers"].tolist() == [alone] * 2


@pytest.mark.parametrize("name", EVALUATIONS)
def test_two_processes_evaluate_as_one(name, in_two, tmp_path):
    check_evaluation(JOBS[name](tmp_path), in_two[name])
