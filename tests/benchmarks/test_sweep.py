"""sweep.py on few rows, its rows and its arithmetic."""

import shutil

import pytest

from fuxictr.experiment.zoo.models import ZOO


@pytest.fixture
def data(script):
    return script("sweep_data")


def test_ratings_are_read_from_both_forms_of_file(data, tmp_path):
    atomic = tmp_path / "ml.inter"
    atomic.write_text("user_id:token\titem_id:token\trating:float\n1\t7\t3\n2\t8\t4.0\n")
    assert data.read_rows(atomic) == [("1", "7", 0), ("2", "8", 1)]
    table = tmp_path / "ml.csv"
    table.write_text("label,item_id,user_id\n1,7,1\n0,8,2\n")
    assert data.read_rows(table) == [("1", "7", 1), ("2", "8", 0)]
    table.write_text("item_id,rating\n7,1\n")
    with pytest.raises(ValueError, match=r"ml.csv: no column user_id; found \['item_id', 'rating"):
        data.read_rows(table)


def test_made_ratings_have_the_shape_of_movielens(data):
    rows = data.make_rows()
    assert len(rows) == 100_000
    assert len({user for user, _, _ in rows}) == 943
    assert len({item for _, item, _ in rows}) == 1682
    assert 0.3 < sum(label for _, _, label in rows) / len(rows) < 0.7


def test_both_sides_get_the_rows_of_a_split_once(data, tmp_path):
    rows = [(str(i), str(i), i % 2) for i in range(10)]
    data.write_splits(rows, tmp_path)
    found = []
    for split, count in (("train", 8), ("valid", 1), ("test", 1)):
        ours = (tmp_path / f"{split}.csv").read_text().splitlines()[1:]
        theirs = (tmp_path / "sweep" / f"sweep.{split}.inter").read_text().splitlines()[1:]
        assert [line.split("\t") for line in theirs] == [line.split(",") for line in ours]
        assert len(ours) == count
        found += ours
    assert sorted(found) == sorted(",".join(map(str, row)) for row in rows)


def test_the_start_of_a_run_is_what_lies_between_two_trainings(script, tmp_path):
    logs = tmp_path / "model_zoo" / "FM" / "checkpoints" / "sweep"
    logs.mkdir(parents=True)
    for name, begin, end in (("FM_sweep", 0, 2), ("FM_sweep_seed2020", 3, 5)):
        lines = [
            f"2026-12-01 04:00:0{begin},100 P1 INFO Start training: 8 rows",
            f"2026-12-01 04:00:0{begin},900 P1 INFO [Metrics] AUC: 0.5",
            f"2026-12-01 04:00:0{end},350 P1 INFO [Metrics] AUC: 0.6",
        ]
        (logs / f"{name}.log").write_text("\n".join(lines) + "\n")
    assert script("sweep").gaps(tmp_path, [2019, 2020]) == [pytest.approx(0.75)]


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_a_sweep_is_measured_both_ways_and_has_the_same_bits(run_script, tmp_path):
    before = sorted(ZOO.glob("FM/*"))
    table = tmp_path / "few.csv"
    lines = [f"{i % 9},{i % 7},{i * 7 % 11 % 2}" for i in range(300)]
    table.write_text("\n".join(["user_id,item_id,label", *lines]) + "\n")
    options = ("--data", str(table), "--runs", "3", "--few-runs", "2", "--epochs", "1")
    printed, stored = run_script("sweep", *options)
    assert sorted(ZOO.glob("FM/*")) == before
    assert [stored[side]["runs"] for side in ("forked", "fresh")] == [3, 2]
    for side in ("forked", "fresh"):
        found = stored[side]
        assert found["seconds_per_run"] == pytest.approx(found["seconds"] / found["runs"], abs=0.01)
        assert 0 < found["training_share"] < 1
        assert 0 < found["start_seconds"] < found["seconds"]
        assert 0 < found["test_auc"] < 1 and "bits" not in found
        assert f"{side}: runs {found['runs']}" in printed
    assert stored["rows"] == 300 and stored["data"] == "few.csv"
    assert "peer_loop" not in stored
