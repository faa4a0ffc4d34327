"""The results store, and the options of the commands that fill it."""

import json
from dataclasses import replace

import pytest

from fuxictr.errors import ConfigError, DataError
from fuxictr.experiment.results.record import RunRecord
from fuxictr.experiment.results.store import (
    ResultsReader,
    append_result,
    check_appendable,
    read_results,
)
from fuxictr.experiment.zoo.selection import parse_models, parse_seeds, parse_variants
from fuxictr.files import DiskFullError, WriteError

RUN = RunRecord(expid="FM_x", dataset_id="x", seed=1)


def test_a_torn_line_costs_only_itself(tmp_path, caplog):
    path = tmp_path / "results.jsonl"
    append_result(path, RUN)
    with open(path, "a") as file:
        file.write('{"number": 2, "te')
    assert read_results(path) == [RUN]
    append_result(path, replace(RUN, seed=3))
    assert [row.seed for row in read_results(path)] == [1, 3]
    assert json.loads(path.read_text().splitlines()[-1])["seed"] == 3
    assert caplog.messages == [f"{path}, line 2 is torn and was skipped"], "it is said once"


FOREIGN = {
    b"[1, 2]": "found list, expected an object",
    b"3": "found int, expected an object",
    b"null": "found NoneType, expected an object",
    b"{}": "'expid' is missing",
    b'{"dataset_id": "x", "seed": 1}': "'expid' is missing",
    b'{"expid": "FM_x", "seed": 1}': "'dataset_id' is missing",
    b'{"expid": "FM_x", "dataset_id": "x"}': "'seed' is missing",
    b'{"expid": null, "dataset_id": "x", "seed": 1}': "'expid' is missing",
    b'{"expid": ["FM_x"], "dataset_id": "x", "seed": 1}': "'expid' is list",
    b'{"expid": "FM_x", "dataset_id": "x", "seed": "1"}': "'seed' is str",
    b'{"expid": "FM_x", "dataset_id": "x", "seed": true}': "'seed' is bool",
    b'{"expid": "FM_x", "dataset_id": "x", "seed": 1, "failed": null}': "'failed' is missing",
    b'{"expid": "FM_x", "dataset_id": "x", "seed": 1, "test": [0.7]}': "'test' is list",
    b'{"expid": "FM_x", "dataset_id": "x", "seed": 1, "test": {"AUC": "0.7"}}': "'test.AUC' is str",
    b'{"expid": "FM_x", "dataset_id": "x", "seed": 1, "seconds": "7 s"}': "'seconds' is str",
    b'{"expid": "FM_x", "dataset_id": "x", "seed": 1, "history": [{"epoch": 1}]}': "'history' with",
    b'{"expid": "FM_\xff\xfe", "dataset_id": "x", "seed": 1}': "invalid start byte",
    b"[" * 100_000: "maximum recursion depth",
    b'{"seed": ' + b"1" * 5000 + b"}": "Exceeds the limit",
    b"\x00\x01\x02": "is torn",
}


@pytest.mark.parametrize(("line", "reason"), FOREIGN.items(), ids=range(len(FOREIGN)))
def test_a_line_that_is_no_row_is_skipped_and_named(tmp_path, caplog, line, reason):
    path = tmp_path / "results.jsonl"
    append_result(path, RUN)
    with open(path, "ab") as file:
        file.write(line + b"\n")
    append_result(path, replace(RUN, seed=2))
    assert [row.seed for row in read_results(path)] == [1, 2]
    (warning,) = caplog.messages
    assert f"{path}, line 2 " in warning and reason in warning and "was skipped" in warning


def test_a_file_of_something_else_is_warned_of_in_few_lines(tmp_path, caplog):
    path = tmp_path / "results.jsonl"
    path.write_bytes(bytes(range(256)) * 100)
    assert read_results(path) == []
    assert len(caplog.messages) == 11
    assert caplog.messages[-1] == f"{path}, 91 more lines were skipped"


def test_separators_of_lines_inside_a_text_end_no_line(tmp_path):
    path = tmp_path / "results.jsonl"
    row = replace(RUN, command="a\u2028b\x85c\x0cd")
    path.write_text(json.dumps(row.to_json(), ensure_ascii=False) + "\n", encoding="utf-8")
    assert read_results(path) == [row]


def test_what_cannot_be_read_or_appended_is_one_line(tmp_path):
    folder = tmp_path / "results.jsonl"
    folder.mkdir()
    with pytest.raises(DataError, match="results.jsonl: not readable .Is a directory."):
        read_results(folder)
    with pytest.raises(WriteError, match="results.jsonl: Is a directory; check"):
        append_result(folder, RUN)
    with pytest.raises(WriteError, match="results.jsonl: Is a directory; check"):
        check_appendable(folder)
    with pytest.raises(DiskFullError, match="/dev/full: the disk is full"):
        append_result("/dev/full", RUN)
    with pytest.raises(WriteError, match="File exists|Not a directory"):
        check_appendable("/dev/null/results.jsonl")


def test_looking_whether_a_row_can_be_appended_changes_nothing(tmp_path):
    path = tmp_path / "new" / "results.jsonl"
    check_appendable(path)
    assert list(path.parent.iterdir()) == []
    append_result(path, RUN)
    check_appendable(path)
    assert read_results(path) == [RUN]


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


def test_a_reader_reads_on_where_it_was(tmp_path, monkeypatch):
    path = tmp_path / "results.jsonl"
    reader = ResultsReader(path)
    assert reader.rows() == []
    parsed = []
    from_json = RunRecord.from_json.__func__
    noted = classmethod(lambda cls, line: parsed.append(line["seed"]) or from_json(cls, line))
    monkeypatch.setattr(RunRecord, "from_json", noted)

    def seeds() -> tuple[list[int], list[int]]:
        parsed.clear()
        return [row.seed for row in reader.rows()], list(parsed)

    def line(seed: int) -> str:
        return json.dumps({"expid": "FM", "dataset_id": "d", "seed": seed}) + "\n"

    path.write_text(line(1) + line(2))
    assert seeds() == ([1, 2], [1, 2])
    with path.open("a") as file:
        file.write(line(3) + line(4)[:-1])
    assert seeds() == ([1, 2, 3, 4], [3, 4]), "the last row lacks only its end"
    with path.open("a") as file:
        file.write("\n" + line(5)[:9])
    assert seeds() == ([1, 2, 3, 4], [4]), "a torn row is none"
    path.write_text(line(7) + line(8) + line(9))
    assert seeds() == ([7, 8, 9], [7, 8, 9]), "another file"
    path.unlink()
    assert seeds() == ([], [])


def test_rows_of_one_expid_and_seed_are_read_alone(tmp_path):
    path = tmp_path / "results.jsonl"
    names = [("FM", 1), ("FM", 2), ("FM_b", 1), ('"FM"', 1)]
    rows = [{"expid": expid, "dataset_id": "d", "seed": seed} for expid, seed in names]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + "no row\n")
    for expid, seed in names:
        found = read_results(path, of=(expid, seed))
        assert RunRecord.from_json({"expid": expid, "dataset_id": "d", "seed": seed}) in found
    assert [row.expid for row in read_results(path, of=("FM_b", 1))] == ["FM_b"]
