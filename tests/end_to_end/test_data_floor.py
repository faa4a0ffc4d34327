"""Columns of all types, group metrics and streaming, through a user's config folder."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest

from fuxictr.metrics import evaluate_metrics
from fuxictr.pytorch.dataloaders import parquet

from .test_user_folder import fails


@pytest.fixture
def rich(user):
    """The user's folder with one raw file: sequences, vectors, groups, buckets, pretrained rows."""
    rng = np.random.default_rng(7)
    num_rows = 1500
    item, shop = rng.integers(0, 30, num_rows), rng.integers(0, 8, num_rows)
    history = [rng.integers(0, 30, rng.integers(0, 6)) for _ in range(num_rows)]
    vectors = rng.normal(size=(num_rows, 3)).round(3)
    price = rng.gamma(2, 5, num_rows).round(2)
    seen = np.array([i in h for i, h in zip(item, history, strict=True)])
    chance = 1 / (1 + np.exp(1 - 3 * seen - vectors[:, 0] - 0.1 * (price - 10)))
    pl.DataFrame(
        {
            "click": (rng.random(num_rows) < chance).astype(int),
            "item": item,
            "shop": [f"s{i}" for i in shop],
            "history": ["|".join(map(str, h)) for h in history],
            "vector": [";".join(map(str, v)) for v in vectors],
            "price": price,
            "row": [f"r{i}" for i in range(num_rows)],
            "visitor": [f"v{i}" for i in rng.integers(0, 90, num_rows)],
        }
    ).write_csv(user.path / "all.csv", separator="\t")
    np.savez(user.path / "v.npz", key=np.arange(25), value=rng.normal(size=(25, 6)))
    user.dataset = {
        "data_root": "./encoded/",
        "train_data": "./all.csv",
        "separator": "\t",
        "valid_size": 0.2,
        "test_size": 200,
        "split_type": "random",
        "feature_cols": [
            {
                "name": "item",
                "dtype": "int",
                "pretrained_emb": "v.npz",
                "pretrain_usage": "sum",
            },
            {
                **{"name": "history", "dtype": "int", "type": "sequence", "splitter": "|"},
                **{"max_len": 4, "pooling": "sum", "share_embedding": "item"},
            },
            {"name": "shop", "category_processor": "hash_bucket", "num_buckets": 5},
            {"name": "price", "dtype": "float", "category_processor": "quantile_bucket"},
            {"name": "vector", "type": "embedding", "splitter": ";"},
            {"name": ["row", "visitor"], "type": "meta"},
        ],
        "label_col": {"name": "click", "dtype": "float"},
    }
    for expid in ("mine", "mine_gen"):
        user.model[expid].update(
            {
                "metrics": ["AUC", "logloss", "gAUC", "avgAUC", "MRR", "NDCG(k=3)"],
                "group_id": "visitor",
                "monitor": {"gAUC": 1},
            }
        )
    user.write_configs()
    return user


@pytest.fixture
def rows(tmp_path):
    """Reads the results store."""
    path = tmp_path / "results.jsonl"
    return lambda: [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("expid", ["mine", "mine_gen"])
def test_all_column_types_train_and_groups_are_judged(rich, train, rows, expid):
    assert train(rich.path, expid)[0] == 0
    measured = rows()[-1]["test"]
    assert list(measured) == ["AUC", "logloss", "gAUC", "avgAUC", "MRR", "NDCG(k=3)"]
    assert measured["AUC"] > 0.62
    spec = json.loads((rich.path / "encoded/clicks/feature_map.json").read_text())
    assert [next(iter(entry)) for entry in spec["features"]][-1] == "visitor"
    assert spec["num_fields"] == 5


def test_group_metrics_are_those_of_the_scores(rich, train, rows, tmp_path):
    from fuxictr.experiment.scoring import score

    assert train(rich.path, "mine")[0] == 0
    test = pl.read_parquet(rich.path / "encoded/clicks/test.parquet")
    raw = pl.read_csv(rich.path / "all.csv", separator="\t", infer_schema=False)
    scored = score(raw, "DeepFM", "mine", rich.path, gpu=-1)
    assert scored.columns == ["click", "row", "visitor", "y_pred"]
    of_test = test.select("row").join(scored, on="row", how="left", maintain_order="left")
    assert len(of_test) == 200
    found = evaluate_metrics(
        of_test["click"].cast(int).to_numpy(),
        of_test["y_pred"].to_numpy(),
        rich.model["mine"]["metrics"],
        of_test["visitor"].to_numpy(),
    )
    assert found == pytest.approx(rows()[-1]["test"], abs=1e-6)


def test_streaming_gives_the_same_run_whatever_the_workers(rich, train, rows, monkeypatch):
    monkeypatch.setattr(parquet, "SLICE_ROWS", 100)
    rich.dataset["data_block_size"] = 150
    rich.model["Base"].update({"streaming": True, "shuffle_window": 400})
    rich.write_configs()
    for workers in (0, 1, 3):
        assert train(rich.path, "mine", "--set", f"num_workers={workers}")[0] == 0
    found = [row["test"] for row in rows()]
    assert found[0] == found[1] == found[2]
    assert found[0]["AUC"] > 0.62
    assert len(list((rich.path / "encoded/clicks/train").iterdir())) == 7


def test_streaming_without_shuffling_equals_training_from_memory(rich, train, rows):
    for streaming in ("true", "false"):
        settings = ("--set", "shuffle=false", f"streaming={streaming}")
        assert train(rich.path, "mine_gen", *settings)[0] == 0
    streamed, from_memory = rows()
    assert streamed["test"] == from_memory["test"]
    assert streamed["valid"] == from_memory["valid"]


def test_rebuild_encodes_anew(rich, train):
    def stamp():
        return (rich.path / "encoded/clicks/cache_key.json").stat().st_mtime_ns

    assert train(rich.path, "mine", "--set", "epochs=1")[0] == 0
    first = stamp()
    assert train(rich.path, "mine", "--set", "epochs=1")[0] == 0
    assert stamp() == first
    assert train(rich.path, "mine", "--set", "epochs=1", "--rebuild")[0] == 0
    assert stamp() > first


def test_what_was_encoded_trains_without_the_raw_file(rich, train, rows):
    assert train(rich.path, "mine")[0] == 0
    (rich.path / "all.csv").unlink()
    (rich.path / "encoded/clicks/cache_key.json").unlink()  # as if it came from elsewhere
    rich.dataset = {"data_root": "./encoded/", "rebuild_dataset": False}
    rich.write_configs()
    assert train(rich.path, "mine")[0] == 0
    first, again = rows()
    assert first["test"] == again["test"]


@pytest.mark.parametrize(
    ("settings", "texts"),
    [
        (["group_id=null"], ["metrics", "gAUC", "needs key 'group_id'"]),
        (["group_id=visiter"], ["'group_id'", "'visiter'", "did you mean 'visitor'?"]),
        (["metrics=[AUC,NDCG(k=0)]"], ["'metrics'", "NDCG(k=N) with N = 1, 2"]),
        (["metrics=[AUC,gauc]"], ["'metrics'", "did you mean 'gAUC'?"]),
        (["valid_data=./all.csv"], ["'valid_data' and 'valid_size'", "both are set"]),
        (["valid_size=2000"], ["'valid_size'", "leave none for training"]),
        (["data_format=xlsx"], ["'data_format'", "csv, parquet, npz, h5"]),
        (["monitor=MRR", "metrics=[AUC]"], ["'monitor'", "MRR"]),
    ],
)
def test_settings_that_do_not_fit_are_one_line(rich, train, settings, texts):
    fails(train(rich.path, "mine", "--set", *settings), *texts)


def test_groups_of_a_feature_are_warned_about(rich, train, caplog):
    settings = ("--set", "group_id=shop", "epochs=1")
    assert train(rich.path, "mine", *settings)[0] == 0
    assert "'shop' is no meta column" in caplog.text
    caplog.clear()
    rich.dataset["feature_cols"].append({"name": "group", "dtype": "int", "type": "numeric"})
    rich.write_configs()
    rows = pl.read_csv(rich.path / "all.csv", separator="\t", infer_schema=False)
    rows = rows.with_columns(group=pl.Series([2**24 + i % 9 for i in range(len(rows))]))
    rows.write_csv(rich.path / "all.csv", separator="\t")
    settings = ("--set", "group_id=group", "epochs=1")
    fails(train(rich.path, "mine", *settings), "column 'group'", "ids of 2^24 or more merge")
    assert "'group' is numeric: its values are float32" in caplog.text


def test_backbones_say_that_they_need_one_vector_a_field(rich, train):
    rich.dataset["feature_cols"][1]["pooling"] = None
    rich.write_configs()
    fails(train(rich.path), "'history'", "found null, allowed: average, sum")
