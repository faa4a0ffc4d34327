"""The formulas of benchmarks/scaling against counted bytes, and the benchmarks' arithmetic."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from fuxictr.pytorch.distributed.ranks import Ranks
from fuxictr.pytorch.layers.embeddings import FeatureEmbedding
from fuxictr.pytorch.optim.sparse_lookup import TableReader, UniqueRows
from fuxictr.pytorch.sharding.replicated import RowExchange
from fuxictr.pytorch.sharding.row_wise import ShardGroup, ShardReader

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
FIELDS = {"a": 5, "b": 40, "c": 300}


@pytest.fixture
def scaling(script, monkeypatch):
    """Imports a script of benchmarks/scaling by its name."""
    monkeypatch.syspath_prepend(BENCHMARKS / "scaling")
    return script


@pytest.fixture
def formulas(scaling):
    return scaling("formulas")


class CountingRanks(Ranks):
    """One of several ranks that all hold the same rows; counts what a ring would let it send."""

    def __init__(self, size: int) -> None:
        super().__init__(0, size)
        self.sent = 0

    def gather_rows(self, rows):
        self.sent += (self.size - 1) * rows.nbytes
        return [rows] * self.size

    def exchange_counts(self, counts):
        self.sent += 8 * (self.size - 1)
        return [counts[0]] * self.size

    def exchange_rows(self, rows, counts, received):
        row_bytes = rows.nbytes // max(len(rows), 1)
        self.sent += row_bytes * sum(counts[1:])
        own = rows[: counts[0]]
        return torch.cat([own] * self.size) if sum(received) == self.size * counts[0] else rows


@pytest.fixture
def rows():
    generator = torch.Generator().manual_seed(1)
    columns = [torch.randint(size, (64,), generator=generator) for size in FIELDS.values()]
    offsets = torch.tensor([0, 7, 49])
    return torch.stack(columns, dim=1) + 1 + offsets


@pytest.mark.parametrize("num_ranks", [2, 3, 8])
def test_touched_rows_send_what_the_formula_says(formulas, rows, num_ranks):
    table = torch.nn.Parameter(torch.randn(351, 6))
    layer = FeatureEmbedding(formulas.feature_map_of(FIELDS), 6)
    (block,) = (module for module in layer.modules() if hasattr(module, "num_table_rows"))
    reader, ranks = TableReader(table, UniqueRows()), CountingRanks(num_ranks)
    exchange = RowExchange([(block, reader)], ranks)
    reader.look_up(rows).sum().backward()
    exchange.exchange()
    group = formulas.TableGroup(num_rows=351, widths=(6,), num_lookups=3)
    sizes = formulas.Sizes(dense_weights=0, groups=(group,))
    distinct = [len(rows.unique())]
    assert ranks.sent == formulas.traffic(sizes, "touched", num_ranks, distinct).total


def test_rows_that_lie_elsewhere_send_what_the_formula_says(formulas):
    num_ranks, num_distinct = 4, 40
    rows = torch.arange(num_distinct).view(-1, 4)  # a quarter of them belong to each rank
    shares = [torch.nn.Parameter(torch.randn(25, width)) for width in (6, 1)]
    ranks = CountingRanks(num_ranks)
    group = ShardGroup([TableReader(share, UniqueRows()) for share in shares], ranks)
    found = [ShardReader(group, index).look_up(rows) for index in range(2)]
    sum(vectors.sum() for vectors in found).backward()
    group.send_gradients()
    tables = formulas.TableGroup(num_rows=100, widths=(6, 1), num_lookups=4)
    sizes = formulas.Sizes(dense_weights=0, groups=(tables,))
    expected = formulas.traffic(sizes, "row", num_ranks, [num_distinct]).total
    assert ranks.sent == pytest.approx(expected)


def test_dense_weights_are_reduced_in_a_ring(formulas):
    """Each of 2 (P - 1) rounds sends a P-th of the weights."""
    sizes = formulas.Sizes(dense_weights=1000, groups=())
    for num_ranks in (1, 2, 5):
        rounds = 2 * (num_ranks - 1)
        expected = rounds * 4 * 1000 / num_ranks
        assert formulas.traffic(sizes, "row", num_ranks, []).total == pytest.approx(expected)
    norms = formulas.Sizes(dense_weights=0, groups=(), norm_layers=2, norm_channels=30)
    sums = 2 * 1 + 4 * 30  # forward a count, sums and squares; backward two sums
    assert formulas.traffic(norms, "row", 2, []).total == 8 * sums


def test_one_rank_sends_nothing(formulas):
    group = formulas.TableGroup(num_rows=100, widths=(6, 1), num_lookups=4)
    sizes = formulas.Sizes(dense_weights=10, groups=(group,))
    assert [formulas.traffic(sizes, mode, 1, [50]).total for mode in formulas.MODES] == [0, 0, 0]


@pytest.mark.parametrize("expid", ["FM_avazu", "FwFM_avazu_gen", "CrossNet_avazu", "PNN_avazu"])
def test_sizes_are_those_of_the_model(formulas, expid):
    sizes, cost, batch_size = formulas.cost_of(expid, formulas.feature_map_of(FIELDS))
    assert sizes.table_weights == cost.table_parameters
    assert sizes.dense_weights == cost.dense_parameters
    assert {group.num_rows for group in sizes.groups} == {5 + 40 + 300 + 6}
    assert all(group.num_lookups == 3 for group in sizes.groups)
    assert batch_size == 10_000


def test_memory_is_that_of_the_tensors(formulas):
    group = formulas.TableGroup(num_rows=1001, widths=(16, 1), num_lookups=4)
    sizes = formulas.Sizes(dense_weights=50, groups=(group,))
    dense, table, numbers = 4 * 50, 4 * 1001 * 17, 4 * 1001 * 2
    assert formulas.memory(sizes, "row", 1, is_lazy=False) == 4 * (dense + table)
    assert formulas.memory(sizes, "touched", 2, is_lazy=True) == 5 * dense + 3 * table + numbers
    assert formulas.memory(sizes, "all-reduce", 2, is_lazy=True) == 5 * (dense + table)
    most = 4 * 501 * 17  # of an odd number of rows the first rank has one more
    assert formulas.memory(sizes, "row", 2, is_lazy=False) == 5 * dense + 4 * most


def test_distinct_rows_are_those_of_draws(formulas, scaling):
    options = scaling("sharding_options")
    for num_rows in (100, 3000):
        drawn = [len(options.draw_rows(num_rows, seed)[0].unique()) for seed in range(3)]
        expected = formulas.expected_distinct(formulas.avazu_fields().values(), num_rows)
        assert expected == pytest.approx(sum(drawn) / 3, rel=0.03)


def test_fields_above_a_million_values_are_summed_in_runs(formulas, monkeypatch):
    exact = formulas.expected_distinct([900_000], 5000)
    monkeypatch.setattr(formulas, "_DIRECT", 10_000)
    assert formulas.expected_distinct([900_000], 5000) == pytest.approx(exact, rel=1e-3)


def test_figures_are_medians_of_steps_and_bytes_of_all_ranks(scaling):
    measure = scaling("measure")
    rank = {
        "by_formula": {"touched": 4, "row": 4},
        "memory_by_formula": {},
        "training_mb": 5.0,
        "peak_mb": 7.0,
    }
    rank |= {"distinct": [10.0], "dense_weights": 1, "table_weights": 2, "num_rows": 500}
    times = [0.0, 9.0, 10.0, 12.0, 13.0]
    noted = [(time, 1000 * step) for step, time in enumerate(times)]
    other = {"distinct": [14.0], "by_formula": {"touched": 6, "row": 6}}
    ranks = [{**rank, "noted": noted}, {**rank, "noted": noted, **other}]
    found = measure.figures(ranks, batch_size=100)
    assert found["steps"] == 3  # the first two are left out
    assert found["rows_per_second"] == 100
    assert found["bytes_sent_per_rank"] == 500
    assert found["distinct_rows"] == [12]
    assert found["by_formula"] == {"touched": 6, "row": 5}


def test_efficiency_is_taken_within_a_round(scaling):
    measure = scaling("measure")
    blank = {"model": "FM", "variant": "dis", "step_milliseconds": 1, "training_mb": 1}
    blank |= {"bytes_sent_per_rank": None}
    rates = {"one": [100, 200], "threads": [150, 300], "none": [180, 320]}
    records = [
        {**blank, "run": run, "ranks": 2 if run == "none" else 1, "rows_per_second": rates[run][r]}
        for r in range(2)
        for run in rates
    ]
    found = {line["run"]: line for line in measure.summarize(records)}
    assert found["none"]["efficiency"] == pytest.approx((0.9 + 0.8) / 2)
    assert found["none"]["of_threads"] == pytest.approx((180 / 150 + 320 / 300) / 2, abs=1e-3)
    assert found["one"]["efficiency"] == 1


@pytest.mark.skipif(sys.platform != "linux", reason="counts bytes of a network namespace")
def test_measured_bytes_are_those_of_the_formula(run_script, tmp_path):
    options = ("--models", "DeepFM", "--variants", "gen", "--batch-size", "600", "--steps", "4")
    options += ("--runs", "none,row")
    _, stored = run_script("scaling/measure", *options, "--work", str(tmp_path / "work"))
    if not stored["is_counted"]:
        pytest.skip("no right to make a network namespace")
    runs = {run["run"]: run for run in stored["summary"]}
    for run, mode in (("none", "touched"), ("row", "row")):
        measured, expected = runs[run]["bytes_sent_per_rank"], runs[run]["by_formula"][mode]
        assert expected == pytest.approx(measured, rel=0.03)
    assert runs["row"]["training_mb"] < runs["none"]["training_mb"]


def test_ways_to_share_a_table_give_the_same_numbers(run_script):
    """The script compares vectors and gradients itself."""
    options = ("--ranks", "2", "--rounds", "1", "--batch-size", "500")
    _, stored = run_script("scaling/sharding_options", *options, "--ways", "rows,touched,dense")
    sent = {line["way"]: line["bytes_sent_per_rank"] for line in stored["lines"]}
    if sent["rows"] is None:
        pytest.skip("no right to make a network namespace")
    assert 200 * sent["rows"] < sent["dense"]
    assert sent["rows"] == pytest.approx(sent["touched"], rel=0.2)


def test_the_page_is_made_from_the_kept_results(scaling):
    page = scaling("page")
    kept = json.loads((page.KEPT / "measure.json").read_text())
    if kept["versions"]["torch"] != torch.__version__:
        pytest.skip("another torch may count other operations")
    assert page.PAGE.read_text() == page.page(), "run: python benchmarks/scaling/page.py"
