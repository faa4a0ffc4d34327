"""How a run is found in the results, and what is printed of it."""

import json

import pytest

from fuxictr.cli import show
from fuxictr.errors import ConfigError
from fuxictr.experiment.results.config_record import config_record
from fuxictr.experiment.results.environment import environment_record
from fuxictr.experiment.verify.describe import describe_run, list_runs
from fuxictr.experiment.zoo.models import ZOO, load_experiment
from fuxictr.files import file_sha256

from .result_rows import make_failed, make_row, records


def numbered(expid: str, seed: int, run_id: str, **changes):
    return make_row(expid, seed, 0.7, run_id=run_id, time=f"2026-01-0{seed}T10:00:00", **changes)


ROWS = [
    numbered("FM_demo", 1, "aaaa1111"),
    numbered("FM_demo", 2, "aaaa2222"),
    numbered("FM_demo_gen", 1, "bbbb1111"),
    numbered("FM_demo", 1, "cccc1111"),
    {**make_failed("FM_demo", 2, "NotFiniteError: nan"), "run_id": "dddd1111"},
    {**make_failed("PNN_demo", 2, "ended by SIGKILL"), "run_id": "eeee1111"},
    make_row("FwFM_demo", 1, 0.6),
]
RECORDS = records(ROWS)


@pytest.fixture
def command(tmp_path, capsys):
    """Runs the command on rows; returns status, stdout and stderr."""

    def call(*arguments: str, rows=ROWS) -> tuple[int, str, str]:
        path = tmp_path / "results.jsonl"
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        with pytest.raises(SystemExit) as ended:
            show.main([*arguments, "--results", str(path)])
        captured = capsys.readouterr()
        return ended.value.code, captured.out, captured.err

    return call


# --- which run ---


@pytest.mark.parametrize(
    ("name", "seed", "run_id"),
    [
        ("aaaa2222", None, "aaaa2222"),
        ("aaaa2", None, "aaaa2222"),
        ("bbbb", None, "bbbb1111"),
        ("FM_demo", None, "cccc1111"),
        ("FM_demo", 2, "aaaa2222"),
        ("FM_demo_gen", None, "bbbb1111"),
        ("PNN_demo", None, "eeee1111"),
        ("eeee", None, "eeee1111"),
        ("last", 2, "eeee1111"),
        ("aaaa", 2, "aaaa2222"),
    ],
)
def test_a_run_is_found(name, seed, run_id):
    assert show.find_run(RECORDS, name, seed).run_id == run_id


def test_last_is_the_last_whatever_became_of_it():
    assert show.find_run(RECORDS, "last") is RECORDS[-1]
    assert show.find_run(RECORDS[:-1], "last") is RECORDS[-2]


def test_the_beginning_of_several_runs_lists_them():
    with pytest.raises(ConfigError, match="'aaaa' is the beginning of several runs") as error:
        show.find_run(RECORDS, "aaaa")
    first, second = str(error.value).splitlines()[2:]
    for text in ("aaaa1111", "2026-01-01 10:00:00", "FM_demo", "AUC 0.700000 logloss 0.500000"):
        assert text in first
    assert "aaaa2222" in second and "2026-01-02" in second


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("FM_dmo", "FM_demo"), ("FwFM", "FwFM_demo"), ("aaaa3", "aaaa"), ("bb", "bbbb1111")],
)
def test_an_unknown_run_names_the_nearest(name, nearest):
    with pytest.raises(ConfigError, match=f"no run '{name}' .* 4 or more .*; nearest: .*{nearest}"):
        show.find_run(RECORDS, name)


def test_an_unknown_seed_names_those_there_are():
    with pytest.raises(ConfigError, match="--seed 7: 'FM_demo' has no run of it; its seeds: 1, 2"):
        show.find_run(RECORDS, "FM_demo", 7)


# --- the command ---


def test_without_a_run_the_newest_are_listed(command):
    rows = [numbered("FM_demo", i % 9 + 1, f"{i:08d}") for i in range(30)]
    status, out, _ = command(rows=[*rows, ROWS[4]])
    lines = out.splitlines()
    assert status == 0 and len(lines) == 22
    assert "FAILED: NotFiniteError: nan" in lines[1]
    assert [line.split()[0] for line in lines[2:21]] == [f"{i:08d}" for i in range(29, 10, -1)]
    assert lines[-1].startswith("20 of 31 runs of ")
    assert command("--seed", "9", rows=rows)[1].splitlines()[-1].startswith("3 of 3 runs")


def test_json_is_the_row(command):
    assert json.loads(command("bbbb", "--json")[1]) == ROWS[2]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--json",), "a RUN is missing"),
        (("--verify",), "a RUN is missing"),
        (("last", "--verify", "--json"), "allowed: one of them"),
        (("last", "--verify", "--tolerance", "-1"), "--tolerance -1.0: allowed: >= 0"),
        (("last", "--verify", "--tolerance", "nan"), "--tolerance nan: allowed: >= 0"),
        (("nothing",), "no run 'nothing'"),
        (("PNN_demo", "--verify"), "it failed (ended by SIGKILL)"),
    ],
)
def test_mistakes_get_a_line(command, arguments, text):
    status, _, err = command(*arguments)
    assert status == 1 and text in err
    assert err.startswith("ConfigError: ")


def test_no_results_yet(command, tmp_path, capsys):
    assert "no runs yet" in command(rows=[])[2]
    with pytest.raises(SystemExit, match="1"):
        show.main(["last", "--results", str(tmp_path / "none.jsonl")])
    assert "no results yet" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("part", "value", "reason"),
    [
        ("environment", [], "'environment' is list"),
        ("encoded", {"train": 3}, "'encoded.train' is int"),
        ("resumes", [{}, 3], "'resumes.1' is int"),
        ("environment", {"packages": 3}, "'environment.packages' is int"),
        ("config", {"zoo": "/", "overrides": [], "keys": []}, "'config.keys' is list"),
        ("config", {"zoo": "/", "overrides": [1], "keys": {}}, "'config.overrides.0' is int"),
    ],
)
def test_a_record_changed_by_another_hand(command, caplog, part, value, reason):
    for option in ([], ["--verify"]):
        changed = numbered("FM_demo", 1, "x", **{part: value})
        status, _, err = command("x", *option, rows=[ROWS[0], changed])
        assert status == 1 and err.startswith("ConfigError: no run 'x' in the results")
        assert f"line 2 is no row of results ({reason}) and was skipped" in caplog.text


# --- the report ---


@pytest.fixture
def full(tmp_path):
    """A row with its record, and the checkpoint that it left."""
    config, model_class = load_experiment("FM_demo_gen", ZOO / "FM", overrides=["gamma=3"], seed=5)
    checkpoint = tmp_path / "FM_demo_gen.model"
    checkpoint.write_bytes(b"weights")
    metrics = {"AUC": 0.71, "logloss": 0.4}
    entry = {"step": 10, "train_loss": 0.5, "learning_rate": 1e-3, "metrics": metrics}
    return {
        **numbered("FM_demo_gen", 5, "f" * 32),
        "model": "FM",
        "valid": {"AUC": 0.71, "logloss": float("nan")},
        "history": [{"epoch": i, **entry} for i in range(1, 31)],
        "epochs": 30,
        "code_version": "1.0-abc+dirty",
        "resumes": [{"epoch": 2, "step": 20, "time": "2026-01-05"}, {"epoch": 3, "step": 30}],
        "config": vars(config_record(config, model_class)),
        "environment": {**environment_record(), "device": {}},
        "encoded": {"train": str(tmp_path / "train.parquet"), "valid": str(tmp_path)},
        "checkpoint": str(checkpoint),
        "checkpoint_sha256": file_sha256(checkpoint),
    }


def test_everything_is_reported(full):
    full["environment"]["variables"] = {"OMP_NUM_THREADS": "3"}
    text = describe_run(*records([full]))
    assert text.startswith("FM_demo_gen, seed 5: finished\n")
    env = full["environment"]
    for expected in (
        "  model        FM (gen)\n",
        "  resumed      epoch 2, step 20, time 2026-01-05; epoch 3, step 30\n",
        "  valid  0.710000  nan\n",
        "  test   0.700000  0.500000\n",
        "1,500",
        f"torch {env['packages']['torch']}",
        f"commit {env['git']['commit']}" if env["git"] else "no repository",
        env["platform"]["cpu"],
        f"intra op {env['threads']['intra_op']}",
        f"cpu capability {env['numerics']['cpu_capability']}",
        "  variables  OMP_NUM_THREADS=3\n",
        "800 train, 100 valid, 100 test",
        "train.parquet (gone)\n",
        f"{full['checkpoint']}\n",
        f"is what the run left (sha256 {full['checkpoint_sha256']})\n",
        "FM_demo_gen.log (gone)\n",
        "--expid FM_demo_gen --seed 5 --gpu -1 --set gamma=3.0",
    ):
        assert expected in text, expected
    assert all(
        len(line) <= 120 or " " not in line.strip() for line in text.split("Files")[0].splitlines()
    )


def test_a_long_history_is_cut_in_the_middle(full):
    lines = describe_run(*records([full])).splitlines()
    head = next(i for i, line in enumerate(lines) if line.split()[:2] == ["epoch", "step"])
    shown = [line.split()[0] for line in lines[head + 1 : head + 14]]
    assert shown == ["1", "2", "(18", *(str(i) for i in range(21, 31))]
    assert lines[head + 14] == ""


def test_what_differs_from_the_default_comes_first(full):
    lines = describe_run(*records([full])).split("\nConfig\n")[1].split("\n\n")[0].splitlines()
    heads = {line.strip(): i for i, line in enumerate(lines) if not line.startswith("    ")}
    gamma = lines.index(next(line for line in lines if line.split() == ["gamma", "3.0"]))
    assert gamma == heads["from command line (--set)"] + 1
    default = heads["default"]
    given = [i for head, i in heads.items() if head.startswith("as the default, from")]
    assert gamma < min(given) < max(given) < default
    optimizer = next(i for i, line in enumerate(lines) if line.split() == ["optimizer", "adam"])
    assert min(given) < optimizer < default
    amp = next(i for i, line in enumerate(lines) if line.split() == ["amp", "none"])
    assert amp > default


def test_a_checkpoint_that_was_overwritten_or_removed(full, tmp_path):
    (tmp_path / "FM_demo_gen.model").write_bytes(b"others")
    assert "is NOT what the run left: sha256" in describe_run(*records([full]))
    (unknown,) = records([{**full, "checkpoint_sha256": None}])
    assert "whether it is what the run left is not known" in describe_run(unknown)
    (tmp_path / "FM_demo_gen.model").unlink()
    assert "\n              is gone\n" in describe_run(*records([full]))


def test_a_row_of_an_older_version_says_what_is_not_known():
    versions = {"python": "3.10", "torch": "2.4"}
    text = describe_run(*records([make_row("FM_demo", 1, 0.7, versions=versions)]))
    for expected in ("python 3.10, torch 2.4", "cpu (x86_64, 2 threads)", "AUC", "0.700000"):
        assert expected in text, expected
    environment, config, again = (
        text.split(f"\n{title}\n")[1].split("\n\n")[0]
        for title in ("Environment", "Config", "To repeat it")
    )
    assert all("of an older version" in part for part in (environment, config, again))


def test_a_failed_run_is_reported_with_its_reason(full):
    kept = ("expid", "dataset_id", "seed", "config", "environment", "run_id")
    row = {key: full[key] for key in kept}
    row |= {"failed": "NotFiniteError: the training loss is nan", "command": "python x y"}
    (failed,) = records([row])
    text = describe_run(failed)
    assert "FM_demo_gen, seed 5: FAILED: NotFiniteError: the training loss is nan\n" in text
    assert text.endswith("\nTo repeat it\n  python x y")
    assert "  data hash    not known\n" in text
    (line,) = list_runs([failed]).splitlines()[1:]
    assert "FAILED: NotFiniteError" in line
