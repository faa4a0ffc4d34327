"""peers.py: our side on few rows, the watch of a training, and the arithmetic of the table.

A peer's side runs where its environment lies beside the repository, see benchmarks/README.md.
"""

import argparse
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
PEERS = ROOT.parent / "peers"
TINY = ("--size", "1m", "--rows", "3000", "--batch-size", "500", "--epochs", "2", "--repeats", "1")


@pytest.fixture
def summary(script):
    return script("peers_summary")


def job(**keys):
    return {"rows": {"train": 10}, "batch_size": 4, "epochs": 2, "limit_seconds": None, **keys}


def step_often(num_steps):
    """Does the steps of a training, as a library's fit would."""
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    weight.grad = torch.ones(1)
    for _ in range(num_steps):
        optimizer.step()


def run(model, side, seed=1, rate=1000, seconds=10.0, history=((1.0, 0.5),), auc=0.5, **keys):
    return {
        "model": model,
        "side": side,
        "seed": seed,
        "train_rows_per_second": rate,
        "evaluate_rows_per_second": rate * 2,
        "wall_seconds": seconds,
        "tree_peak_mb": seconds * 10,
        "train_rows": 800,
        "is_stopped": False,
        "parameters": 7,
        "test_auc": auc,
        "history": [{"seconds": s, "auc": a} for s, a in history],
        **keys,
    }


def test_our_side_runs_and_a_missing_library_is_named(run_script, tmp_path):
    options = ("--sides", "ours,recbole", "--models", "FM,xDeepFM", "--peers", str(tmp_path))
    printed, stored = run_script("peers", *TINY, *options)
    assert f"not installed below {tmp_path}, left out: recbole" in printed
    assert stored["missing"] == ["recbole"]
    assert [(r["model"], r["side"]) for r in stored["runs"]] == [
        ("FM", "ours"),
        ("xDeepFM", "ours"),
    ]
    for found in stored["runs"]:
        assert found["train_rows"] == 2 * 2400 and found["evaluate_rows"] == 2 * 300 + 300
        assert [0 < entry["auc"] < 1 for entry in found["history"]] == [True, True]
        assert 0 < found["train_seconds"] < found["fit_seconds"] < found["wall_seconds"]
        assert not found["is_stopped"]
    assert "| xDeepFM | this project |" in printed


def test_a_training_is_stopped_at_a_whole_batch(run_script):
    options = ("--sides", "ours", "--models", "FM", "--limit-seconds", "0")
    printed, stored = run_script("peers", *TINY, *options)
    (found,) = stored["runs"]
    assert found["is_stopped"] and found["train_rows"] == 500
    assert len(found["history"]) == 1 and found["evaluate_rows"] == 600
    assert "Stopped after 0 s" in printed and "- FM, this project: 500" in printed


@pytest.mark.slow
@pytest.mark.parametrize(
    "side", ["fuxictr", "recbole", "deepctr", "rechub", "lightgbm", "catboost"]
)
def test_a_library_trains_the_same_rows(run_script, script, side):
    python = script("peers").python_of(side, PEERS)
    if not python.exists():
        pytest.skip(f"no {python.parents[1].name} beside the repository")
    _, stored = run_script("peers", *TINY, "--sides", side, "--peers", str(PEERS))
    is_trees = side in script("peers_summary").TREES
    models = script("peers").SIDE_MODELS.get(side, script("peers").MODELS)
    assert [found["model"] for found in stored["runs"]] == list(models)
    for found in stored["runs"]:
        assert found["train_rows"] == 2400 * (found["trees"] if is_trees else 2)
        assert 0 < found["test_auc"] < 1 and len(found["history"]) >= 2


def test_a_run_that_fails_is_recorded_and_the_others_go_on(script, monkeypatch, tmp_path, capsys):
    peers = script("peers")
    outputs = {"train_seconds": 2.0, "evaluate_seconds": 1.0, "evaluate_rows": 9}

    def child(command, **keys):
        model = json.loads(Path(command[-1]).read_text())["model"]
        if model == "FM":
            raise peers.common.ChildError("exit status 1: x\nKeyError: 1")
        return peers.common.Child({**run(model, "ours"), **outputs}, 1.0, 1.0)

    monkeypatch.setattr(peers.common, "run_self", lambda step, **keys: peers.common.Child({}, 1, 1))
    monkeypatch.setattr(peers.common, "run_child", child)
    args = argparse.Namespace(size="1m", peers=tmp_path, rows=9, models=["FM", "DeepFM"])
    args.repeats = args.batch_size = args.epochs = args.limit_seconds = 1
    records, failed = peers.measure(args, ["ours"], tmp_path)
    assert [record["model"] for record in records] == ["DeepFM"]
    assert failed == [{"model": "FM", "side": "ours", "seed": 2019, "error": "KeyError: 1"}]
    assert "FM      ours      FAILED: exit status 1" in capsys.readouterr().out


def test_the_steps_of_a_fit_are_counted(script):
    watch = script("peer_watch").Watch(job())
    assert watch.fit(step_often, 6)
    assert watch.num_rows() == 20
    assert watch.figures(0.5, 3)["train_rows"] == 20
    step_often(1)  # after its end no step is counted
    assert watch.num_steps == 6


def test_a_fit_that_ends_early_by_itself_is_an_error(script):
    with pytest.raises(RuntimeError, match="ended after 5 steps, not after 6"):
        script("peer_watch").Watch(job()).fit(step_often, 5)


def test_evaluations_within_fit_are_no_training(script):
    watch = script("peer_watch").Watch(job(limit_seconds=0))
    evaluate = watch.evaluation(lambda auc: {"AUC": auc}, 5, lambda found: found["AUC"])

    def fit():
        evaluate(0.25)
        step_often(9)

    assert not watch.fit(fit)
    script("peer_watch").evaluate_splits(watch, lambda: evaluate(0.5), lambda: evaluate(0.75))
    found = watch.figures(0.75, 3)
    assert [entry["auc"] for entry in found["history"]] == [0.25, 0.5]
    assert found["evaluate_rows"] == 15 and found["train_rows"] == 4
    assert found["train_seconds"] == found["fit_seconds"] - watch.fit_evaluate_seconds


def test_movielens_is_encoded_alike_for_all(script, tmp_path):
    files = {
        "inter": "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
        + "".join(f"{n % 3}\t{n % 2}\t{1 + n % 5}\t9\n" for n in range(20)),
        "user": "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n"
        + "".join(f"{n}\t{20 + n}\tF\tother\t0{n}\n" for n in range(3)),
        "item": "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
        + '0\tThe "A"\t1990\tDrama War\n1\tB\t\tWar\n',
    }
    for name, text in files.items():
        (tmp_path / f"ml-100k.{name}").write_text(text)
    found = script("peer_data").prepare(str(tmp_path), "ml100k", 20, str(tmp_path))
    assert found["rows"] == {"train": 16, "valid": 2, "test": 2}
    assert found["fields"]["user_id"] == 3 + 2 and found["fields"]["genre"] == 2 + 2
    tables = [pq.read_table(f"{found['folder']}/{split}.parquet") for split in found["rows"]]
    assert sum(sum(table["label"].to_pylist()) for table in tables) == 8  # 4 and 5 stars
    atomic = Path(found["atomic_files"], "ml100k", "ml100k.valid.inter").read_text().splitlines()
    assert atomic[0].split("\t")[0] == "user_id:token" and atomic[0].endswith("\tlabel:float")
    cells = [[float(cell) for cell in line.split("\t")] for line in atomic[1:]]
    assert cells == [list(row.values()) for row in tables[1].to_pylist()]


def test_the_same_auc_is_the_lower_of_the_best(summary):
    ours = run("FM", "ours", history=((1, 0.6), (2, 0.8), (3, 0.7)))
    peer = run("FM", "recbole", history=((4, 0.5), (8, 0.7), (9, 0.65)))
    assert summary.same_auc(ours, peer) == {
        "same_auc": 0.7,
        "same_auc_seconds": 8,
        "same_auc_ours_seconds": 2,
    }


def test_ratios_are_taken_within_a_repeat(summary):
    records = [
        run("FM", "ours", seed=1, rate=300, seconds=1.0, auc=0.5),
        run("FM", "ours", seed=2, rate=100, seconds=4.0, auc=0.7),
        run("FM", "rechub", seed=1, rate=100, seconds=2.0),
        run("FM", "rechub", seed=2, rate=20, seconds=2.0),
    ]
    ours, peer = summary.summarize(records)
    assert (ours["train_rows_per_second"], ours["test_auc"]) == (200, 0.6)
    assert ours["test_auc_range"] == 0.2 and "train_rows_per_second_ratio" not in ours
    assert peer["train_rows_per_second_ratio"] == 4.0  # of 3 and 5
    assert peer["wall_seconds_ratio"] == 1.25  # of 0.5 and 2


def test_where_a_peer_is_ahead_is_said(summary):
    records = [
        run("DeepFM", "ours", rate=100, seconds=3.0),
        run("DeepFM", "recbole", rate=200, seconds=4.0, auc=0.6, history=((0.5, 0.9),)),
        run("DeepFM", "deepctr", rate=50, seconds=9.0, auc=0.4, history=((5.0, 0.4),)),
        run("DeepFM", "lightgbm", rate=999, seconds=9.0, auc=0.4, history=((5.0, 0.4),)),
    ]
    rows = summary.summarize(records)
    assert summary.ahead(rows) == [
        "DeepFM, RecBole: training, evaluation, seconds to the same AUC, test AUC",
        "DeepFM, LightGBM: evaluation",
    ]
    assert "| boosted trees | LightGBM | 999 |  | 1,998 | 0.10 |" in "\n".join(summary.table(rows))


def test_the_page_has_the_section(script, summary):
    rows = summary.summarize([run("FM", "ours"), run("FM", "recbole", is_stopped=True)])
    found = {"size": "ml100k", "rows": 100000, "batch_size": 2048, "epochs": 3, "repeats": 1}
    found |= {
        "limit_seconds": 45.0,
        "missing": ["catboost"],
        "summary": rows,
        "command": "python x",
    }
    found |= {"peer_versions": {"recbole": {"recbole": "1.2.1"}}, "versions": {"torch": "2.13.0"}}
    found |= {"machine": {"cores": 2, "cpu": "c", "memory_gb": 1}, "date": "2026-12-01T00:00:00"}
    error = {"model": "FM", "side": "deepctr", "seed": 7, "error": "KeyError: 1"}
    found |= {"failed": [error]}
    page = script("report").peers_section(json.loads(json.dumps(found)))
    assert "## Beside every peer: 100,000 real rows of MovieLens-100K" in page
    assert "Libraries: RecBole 1.2.1." in page
    assert "Not installed, so not measured: CatBoost." in page
    assert "Failed: FM, DeepCTR-Torch, seed 7: `KeyError: 1`" in page
    assert "| FM | RecBole | 1,000 * | 1.00 |" in page and "- FM, RecBole: 800" in page
    assert page.endswith("```bash\npython x\n```\n")


@pytest.mark.parametrize(("option", "allowed"), {"sides": "ours, fuxictr", "models": "FM"}.items())
def test_an_unknown_name_is_an_error(script, monkeypatch, capsys, option, allowed):
    monkeypatch.setattr("sys.argv", ["peers.py", f"--{option}", "unknown"])
    with pytest.raises(SystemExit):
        script("peers").main()
    assert f"--{option}: unknown: allowed: {allowed}" in capsys.readouterr().err
