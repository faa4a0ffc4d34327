from __future__ import annotations

import numpy as np
import pytest

from fuxictr.analysis.fields import field_summary, record_spectra, shared_fields
from fuxictr.analysis.records import RecordMeta, Records
from fuxictr.errors import CheckpointError, DataError

META = RecordMeta(
    model="DCNv2",
    expid="DCNv2_demo",
    variant="dis",
    dataset_id="demo_x1",
    split="valid",
    num_rows=50,
    seed=2019,
    fields=("hour", "site_id", "price"),
    embedding_dim=4,
    checkpoint_sha256="f",
    cardinalities=(24, 1000, 0),
)


def make_layers(num_layers=2, trailing=(3, 4)):
    rng = np.random.default_rng(0)
    scale = np.exp(-np.arange(4.0))
    return [
        (rng.normal(size=(50, 3, 4)) * scale + 7).reshape(50, *trailing) for _ in range(num_layers)
    ]


def make_records(num_layers=2, trailing=(3, 4), **other):
    layers = enumerate(make_layers(num_layers, trailing))
    arrays = {f"net.layers.{number}/gen": layer for number, layer in layers}
    values = {name: getattr(META, name) for name in META.__dataclass_fields__}
    return Records(arrays, RecordMeta(**values | other))


def plain_values(matrix):
    """Eigenvalues of the covariance, row by row in a loop."""
    mean = sum(matrix) / len(matrix)
    total = np.zeros((matrix.shape[1], matrix.shape[1]))
    for row in matrix:
        total += np.outer(row - mean, row - mean)
    return np.sort(np.linalg.eigvalsh(total / len(matrix)))[::-1]


@pytest.mark.parametrize("trailing", [(3, 4), (12,)])
@pytest.mark.parametrize("num_layers", [1, 2])
def test_each_fields_numbers_come_from_its_own_columns(num_layers, trailing):
    summaries = field_summary(make_records(num_layers, trailing))
    assert [summary.field for summary in summaries] == list(META.fields)
    assert [summary.cardinality for summary in summaries] == [24, 1000, 0]
    rows = np.concatenate(make_layers(num_layers))
    for number, summary in enumerate(summaries):
        values = plain_values(rows[:, number])
        p = values / values.sum() + 1e-7
        assert summary.rankme == pytest.approx(np.exp(-(p * np.log(p)).sum()), rel=1e-9)
        assert summary.information_abundance == pytest.approx(values.sum() / values[0], rel=1e-9)
        assert summary.effective_dimensions == (values > 1e-6 * values[0]).sum()


def test_spectra_are_one_line_a_field():
    spectra = record_spectra(make_records(1))
    assert spectra.shape == (3, 4)
    for number in range(3):
        expected = plain_values(make_layers(1)[0][:, number])
        np.testing.assert_allclose(spectra[number], expected, rtol=1e-9)


def test_a_constant_field_has_collapsed_to_nothing():
    records = make_records(1)
    records.arrays["net.layers.0/gen"][:, 1] = 2.5
    summary = field_summary(records)[1]
    assert (summary.rankme, summary.information_abundance, summary.effective_dimensions) == (
        0,
        0,
        0,
    )


def test_older_recordings_have_no_cardinalities():
    assert [f.cardinality for f in field_summary(make_records(cardinalities=()))] == [0, 0, 0]


def test_widths_that_do_not_fit_the_fields():
    with pytest.raises(CheckpointError, match="width 12 do not fit 3 fields of 5 dimensions"):
        record_spectra(make_records(embedding_dim=5))


def test_only_runs_of_the_same_fields_are_compared():
    other = RecordMeta("FM", "FM_x", "dis", "d", "valid", 1, 1, ("a",), 4, "f")
    assert shared_fields([META, META]) == META.fields
    with pytest.raises(DataError, match=r"fields of FM_x \(a\) are not those of DCNv2_demo"):
        shared_fields([META, other])
    with pytest.raises(DataError, match="no runs"):
        shared_fields([])
