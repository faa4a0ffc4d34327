"""The results store, and the options of the commands that fill it."""

import json
import multiprocessing

import pytest

from fuxictr.errors import ConfigError, DataError
from fuxictr.experiment.options import parse_models, parse_seeds, parse_variants
from fuxictr.experiment.results import append_result, read_results


def _append_many(path: str, writer: int) -> None:
    for number in range(50):
        append_result(path, {"writer": writer, "number": number, "filler": "x" * 3000})


def test_concurrent_appends_lose_and_tear_nothing(tmp_path):
    path = tmp_path / "results" / "results.jsonl"
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_append_many, args=(str(path), i)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    found = {(r["writer"], r["number"]) for r in read_results(path)}
    assert found == {(w, n) for w in range(4) for n in range(50)}


def test_a_torn_line_costs_only_itself(tmp_path):
    path = tmp_path / "results.jsonl"
    append_result(path, {"number": 1})
    with open(path, "a") as file:
        file.write('{"number": 2, "te')
    append_result(path, {"number": 3})
    assert [r["number"] for r in read_results(path)] == [1, 3]
    assert json.loads(path.read_text().splitlines()[-1]) == {"number": 3}


def test_no_results_yet(tmp_path):
    with pytest.raises(
        DataError, match=r"results.jsonl: no results yet; run `bash 2.reproduce.sh`"
    ):
        read_results(tmp_path / "results.jsonl")


def test_options():
    assert parse_seeds("3", first=2019) == [2019, 2020, 2021]
    assert parse_seeds("7,", first=2019) == [7]
    assert parse_seeds("5,3,5", first=2019) == [5, 3]
    assert parse_variants("GEN,dis") == ["dis", "gen"]
    assert parse_models("FM, DeepFM,FM") == ["FM", "DeepFM"]
    for wrong in ("0", "-1", "x", "1,x", ""):
        with pytest.raises(ConfigError, match="--seeds"):
            parse_seeds(wrong, first=1)
    with pytest.raises(ConfigError, match="--variants both: allowed"):
        parse_variants("both")
