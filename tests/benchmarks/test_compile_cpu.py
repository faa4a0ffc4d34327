"""compile_cpu.py: its arithmetic, and a run at tiny size."""

import json
import shutil

import pytest


@pytest.fixture
def compile_cpu(script):
    return script("compile_cpu")


def test_the_summary_pairs_steps_and_says_when_compiling_pays(compile_cpu):
    found = {
        "first_seconds": 11.0,
        "plain": [2.0, 4.0, 2.0, 2.0, 2.0],
        "compiled": [1.0, 2.0, 1.0, 1.0, 1.0],
        "loss_difference": 1e-6,
    }
    record = compile_cpu.summary(found, again_seconds=3.0, batch_size=100)
    assert (record["plain_rows_per_second"], record["compiled_rows_per_second"]) == (50, 100)
    assert record["ratio"] == 2.0
    assert (record["compile_seconds"], record["again_seconds"]) == (10.0, 2.0)
    # A step of 100 rows is 1 s shorter: ten steps make up for 10 s.
    assert record["pays_after_rows"] == 1000
    assert "pays after 1,000 rows" in compile_cpu.line({"model": "FM", "side": "dis", **record})


@pytest.mark.parametrize("compiled", [[1.0, 1.0, 1.0, 1.0, 1.5], [0.5, 0.5, 0.5, 0.5, 1.5]])
def test_what_is_not_faster_in_nearly_all_pairs_never_pays(compile_cpu, compiled):
    found = {
        "first_seconds": 5.0,
        "plain": [1.0] * 5,
        "compiled": compiled,
        "loss_difference": 0.0,
    }
    record = compile_cpu.summary(found, again_seconds=2.0, batch_size=10)
    assert record["pays_after_rows"] is None
    assert compile_cpu.line({"model": "FM", "side": "gen", **record}).endswith("pays never")


def test_losses_that_differ_are_no_measurement(compile_cpu, monkeypatch, tmp_path):
    def training(folder, model, keys):
        while True:
            yield (0.7 if keys.get("compile") else 0.69), 0.1

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")
    monkeypatch.setattr(compile_cpu, "training", training)
    with pytest.raises(ValueError, match=r"found a relative difference of 0.014, allowed: 0.001"):
        compile_cpu.train("folder", "FM", {}, 1, str(tmp_path))


def test_an_earlier_record_is_taken_over_only_if_it_was_measured_alike(compile_cpu, tmp_path):
    record = {"rows": 10, "batch_size": 5, "steps": 2, "full_vocab": False, "versions": {}}
    record["machine"] = {"cpu": "one", "cores": 2}
    path = tmp_path / "earlier.json"
    path.write_text(json.dumps({**record, "summary": [{"model": "FM"}]}))
    assert compile_cpu.earlier(path, record) == [{"model": "FM"}]
    with pytest.raises(ValueError, match="found steps 2, allowed: 3"):
        compile_cpu.earlier(path, {**record, "steps": 3})
    with pytest.raises(ValueError, match="another machine, by its cpu"):
        compile_cpu.earlier(path, {**record, "machine": {"cpu": "two", "cores": 2}})


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_a_backbone_is_compiled_and_measured(run_script):
    options = ("--models", "FM", "--rows", "6000", "--batch-size", "1000", "--steps", "2")
    printed, stored = run_script("compile_cpu", *options)
    assert [(row["model"], row["side"]) for row in stored["summary"]] == [
        ("FM", "dis"),
        ("FM", "gen"),
    ]
    for row in stored["summary"]:
        assert row["compile_seconds"] > row["again_seconds"] > 0
        assert 0 <= row["loss_difference"] <= 1e-3
        assert f"ratio {row['ratio']:.2f}" in printed
