"""The demo log: its form, its planted model, its rules of reuse."""

import json
import math
import shutil

import numpy as np
import polars as pl
import pytest

from fuxictr.datasets import demo, planted_model
from fuxictr.datasets.demo import generate, load_bayes_ceiling
from fuxictr.datasets.planted_model import NUM_FACTORS, PAIRS, TRIPLES, draw_values, plant_model
from fuxictr.errors import ConfigError, DataError
from fuxictr.files import DiskFullError
from fuxictr.metrics import auc, logloss

AVAZU_COLUMNS = (
    "id,click,hour,C1,banner_pos,site_id,site_domain,site_category,app_id,app_domain,"
    "app_category,device_id,device_ip,device_model,device_type,device_conn_type,"
    "C14,C15,C16,C17,C18,C19,C20,C21"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "demo_x1"
    assert generate(path, rows=20_000, seed=7)
    return path


def read(folder, split: str) -> pl.DataFrame:
    return pl.read_csv(folder / f"{split}.csv", infer_schema=False)


def test_columns_and_values_have_avazus_form(folder):
    assert (folder / "train.csv").read_text().splitlines()[0] == AVAZU_COLUMNS
    rows = pl.concat([read(folder, split) for split in ("train", "valid", "test")])
    assert rows.height == 20_000
    assert [read(folder, s).height for s in ("train", "valid", "test")] == [16_000, 2_000, 2_000]
    assert rows["id"].n_unique() == 20_000
    assert rows["hour"].str.contains(r"^1410(2[1-9]|30)([01]\d|2[0-3])$").all()
    for name in ("site_id", "app_domain", "device_ip", "device_model"):
        assert rows[name].str.contains(r"^[0-9a-f]{8}$").all()
    assert rows.null_count().sum_horizontal().item() == 0


def test_values_of_a_field_follow_a_zipf_law(folder):
    counts = read(folder, "train")["device_model"].value_counts(sort=True)["count"].to_list()
    expected = [1 / (rank + 2) ** planted_model.ZIPF_EXPONENT for rank in range(20)]
    ratios = np.array(counts[:10]) / np.array(expected[:10])
    assert ratios.max() / ratios.min() < 1.5


def test_true_probabilities_explain_the_clicks(folder):
    for split in ("train", "valid", "test"):
        click = read(folder, split)["click"].cast(pl.Float64).to_numpy()
        chance = pl.read_parquet(folder / f"true_ctr_{split}.parquet")["true_ctr"].to_numpy()
        assert len(click) == len(chance)
        for group in np.array_split(np.argsort(chance), 5):
            deviation = math.sqrt((chance[group] * (1 - chance[group])).sum())
            assert abs(click[group].sum() - chance[group].sum()) < 4 * deviation
    assert 0.15 < click.mean() < 0.19


def test_bayes_ceiling_is_that_of_the_files(folder):
    click = read(folder, "test")["click"].cast(pl.Float64).to_numpy()
    chance = pl.read_parquet(folder / "true_ctr_test.parquet")["true_ctr"].to_numpy()
    ceiling = load_bayes_ceiling(folder)
    assert ceiling == {"AUC": auc(click, chance), "logloss": logloss(click, chance)}
    assert 0.70 < ceiling["AUC"] < 0.85
    with pytest.raises(DataError, match="run: bash 1.prepare.sh demo"):
        load_bayes_ceiling(folder / "nowhere")


def test_logit_is_the_documented_sum():
    model = plant_model(20_000, seed=7)
    values = draw_values(model, np.random.default_rng(1), 40)
    found = model.logit(values)
    for row in range(40):
        x = {name: int(column[row]) for name, column in values.items()}
        expected = model.bias
        for name in model.sizes:
            expected += model.main[name][x[name]]
        for i, j in PAIRS:
            left, right = model.pairs[i, j]
            expected += sum(left[x[i], r] * right[x[j], r] for r in range(NUM_FACTORS))
        for i, j, k in TRIPLES:
            p, q, s = model.triples[i, j, k]
            expected += sum(p[x[i], r] * q[x[j], r] * s[x[k], r] for r in range(NUM_FACTORS))
        assert found[row] == pytest.approx(expected, abs=1e-9)


def test_all_orders_of_interaction_matter():
    model = plant_model(50_000, seed=3)
    values = draw_values(model, np.random.default_rng(1), 20_000)
    parts = {
        "main": planted_model.PlantedModel(model.sizes, {}, model.main, {}, {}, 0.0),
        "pairs": planted_model.PlantedModel(model.sizes, {}, {}, model.pairs, {}, 0.0),
        "triples": planted_model.PlantedModel(model.sizes, {}, {}, {}, model.triples, 0.0),
    }
    variances = {name: part.logit(values).var() for name, part in parts.items()}
    assert variances["main"] == pytest.approx(planted_model.MAIN, rel=0.25)
    assert variances["pairs"] == pytest.approx(planted_model.PAIR, rel=0.25)
    assert variances["triples"] == pytest.approx(planted_model.TRIPLE, rel=0.25)


def test_same_seed_same_bytes_and_nothing_is_done_twice(folder, tmp_path):
    other = tmp_path / "demo_x1"
    assert generate(other, rows=20_000, seed=7)
    for path in sorted(folder.iterdir()):
        assert (other / path.name).read_bytes() == path.read_bytes(), path.name
    assert not generate(other, rows=20_000, seed=7)
    before = (other / "train.csv").read_bytes()
    assert generate(other, rows=20_000, seed=8)
    assert (other / "train.csv").read_bytes() != before
    (other / "valid.csv").unlink()
    assert generate(other, rows=20_000, seed=8)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["demo_x1"]


def test_another_planted_model_is_generated_anew(tmp_path, monkeypatch):
    assert generate(tmp_path / "d", rows=2_000)
    assert not generate(tmp_path / "d", rows=2_000)
    monkeypatch.setattr(planted_model, "TRIPLE", 0.5)
    assert generate(tmp_path / "d", rows=2_000)
    (tmp_path / "d" / "true_ctr_test.parquet").unlink()
    assert generate(tmp_path / "d", rows=2_000)
    (tmp_path / "d" / "ground_truth.json").write_text("[]")
    assert generate(tmp_path / "d", rows=2_000)


def test_files_tell_the_rows_of_the_model(folder):
    """Rows read back from the csv give the probabilities that are recorded for them."""
    model, rows = plant_model(20_000, seed=7), read(folder, "test").head(50)
    values = {"hour": rows["hour"].str.tail(2).cast(pl.Int64).to_numpy()}
    for name in model.sizes:
        if name != "hour":
            index = {t: i for i, t in enumerate(demo._tokens(name, model.sizes[name]).tolist())}
            values[name] = np.array([index[token] for token in rows[name]])
    chance = pl.read_parquet(folder / "true_ctr_test.parquet")["true_ctr"].head(50).to_numpy()
    logit = np.log(chance / (1 - chance))
    assert logit == pytest.approx(model.logit(values), abs=1e-9)


def test_chunks_do_not_show_in_the_values(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "_CHUNK_ROWS", 3_000)
    generate(tmp_path / "a", rows=10_000, seed=1)
    ids = read(tmp_path / "a", "train")["id"].cast(pl.UInt64)
    assert (ids.diff().drop_nulls() == 1).all()
    assert read(tmp_path / "a", "train").height == 8_000


def test_an_interrupted_generation_leaves_nothing(tmp_path, monkeypatch):
    def broken(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "auc", broken)
    with pytest.raises(KeyboardInterrupt):
        generate(tmp_path / "demo_x1", rows=2_000)
    assert list(tmp_path.iterdir()) == []


def test_sizes_shrink_with_the_rows():
    small, full = planted_model.field_sizes(200_000), planted_model.field_sizes(40_428_967)
    assert full["device_ip"] == 2_903_320
    assert 10_000 < small["device_ip"] < 20_000
    assert small["C21"] == full["C21"] == 60
    truth = json.dumps(small)
    assert json.loads(truth) == small


def test_disk_is_checked_before_anything_is_written(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=100_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(DiskFullError, match=r"GB are needed\); free some space"):
        generate(tmp_path / "d", rows=2_000)
    assert list(tmp_path.iterdir()) == []


def test_too_few_rows(tmp_path):
    with pytest.raises(ConfigError, match="--rows 10: allowed: >= 1000"):
        generate(tmp_path / "d", rows=10)
