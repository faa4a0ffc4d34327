"""3.analyze.sh draws DIS and GEN of one seed, the first whose weights both have, or says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuxictr.experiment.report import analyses
from fuxictr.experiment.results.store import read_results
from fuxictr.experiment.run import run
from fuxictr.experiment.tables.seed_runs import SeedRuns

from .conftest import UserFolder


@pytest.fixture
def zoo(tmp_path: Path, train) -> UserFolder:
    """A model folder with its own config, as those of model_zoo/."""
    folder = tmp_path / "DeepFM" / "config"
    folder.mkdir()
    user = UserFolder(folder)
    for split in ("train", "valid", "test"):
        user.dataset[f"{split}_data"] = str(folder / f"{split}.csv")
    for block in ("mine", "mine_gen"):
        user.model[block].update(epochs=1, seed=5)
    user.write_configs()
    return user


@pytest.fixture
def find(zoo, train):
    """Trains (expid, seed), and returns what one figure of mine and mine_gen shows."""

    def call(*runs: tuple[str, int], lost: tuple[tuple[str, int], ...] = ()):
        for expid, seed in runs:
            name = f"{expid}_seed{seed}" if seed != 5 else expid
            status, stderr = train(
                zoo.path, expid, "--seed", str(seed), "--set", f"model_id={name}"
            )
            assert status == 0, stderr
        rows = read_results(run.RESULTS)
        for row in rows:
            if (row.expid, row.seed) in lost:
                Path(row.checkpoint).unlink()
        sides = []
        for expid in ("mine", "mine_gen"):
            own = {row.seed: row for row in rows if row.expid == expid}
            sides.append(SeedRuns(expid, tuple(sorted(own)), own, {}))
        places = [(side.expid, zoo.path.parent) for side in sides]
        found = analyses._find_runs("DeepFM", places, sides, rows)
        assert [item.config.expid for item in found] == ["mine", "mine_gen"]
        return [item.train_seed for item in found]

    return call


def test_a_seed_that_one_side_has_alone_is_not_taken(find, capsys):
    # 5 is the configs' own seed, and the weights of DIS with it come first where they are asked for
    # alone; only 8 is of both.
    assert find(("mine", 5), ("mine", 8), ("mine_gen", 8), ("mine_gen", 9)) == [8, 8]
    assert "no seed" not in capsys.readouterr().out


def test_the_first_shared_seed_whose_weights_are_there_is_taken(find, capsys):
    runs = [(expid, seed) for expid in ("mine", "mine_gen") for seed in (6, 7)]
    assert find(*runs) == [6, 6]
    assert find(lost=(("mine_gen", 6),)) == [7, 7]


def test_where_no_seed_is_shared_it_is_said(find, capsys):
    assert find(("mine", 6), ("mine_gen", 7)) == [6, 7]
    assert (
        "DeepFM: no seed has the weights of all: mine is of seed 6, mine_gen is of seed 7.\n"
        in capsys.readouterr().out
    )
