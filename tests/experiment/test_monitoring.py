"""What watches a training: it sees what it should, and changes nothing."""

import json
import logging
import sys
from types import ModuleType

import numpy as np
import pytest
import torch

from fuxictr.analysis.sampling import draw_sample, record_sample
from fuxictr.config import TrainConfig
from fuxictr.errors import ConfigError
from fuxictr.experiment.run.monitors import collapse_points, make_callbacks
from fuxictr.experiment.run.run import build_model
from fuxictr.experiment.zoo.models import ZOO, load_experiment
from fuxictr.features import FeatureMap
from fuxictr.pytorch.dataloaders import (
    BatchIterator,
    StreamingIterator,
    from_arrays,
    open_parquet,
)
from fuxictr.pytorch.torch_utils import seed_everything
from fuxictr.pytorch.training.trainer import Trainer
from tests.pytorch.encoded_rows import write_encoded

NUM_ROWS = 640
BATCH = 64
STEPS = NUM_ROWS // BATCH
RESTLESS = ["net_dropout=0.5", "cross_drop=0.5", "batch_norm=true", "target=random", "num_target=2"]


@pytest.fixture
def feature_map() -> FeatureMap:
    feature_map = FeatureMap("demo_x1")
    sizes = {"a": 20, "b": 7, "c": 4}
    specs = {name: {"type": "categorical", "vocab_size": size} for name, size in sizes.items()}
    feature_map.features = {**specs, "x": {"type": "numeric"}}
    feature_map.labels = ["click"]
    return feature_map


@pytest.fixture
def columns(feature_map) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    fields = {"a": rng.integers(1, 20, NUM_ROWS), "b": rng.integers(1, 7, NUM_ROWS)}
    fields |= {"c": rng.integers(1, 4, NUM_ROWS), "x": rng.normal(size=NUM_ROWS)}
    click = rng.random(NUM_ROWS) < 1 / (1 + np.exp(-np.sin(fields["a"]) - fields["x"]))
    return {**fields, "click": click.astype(np.float32)}


@pytest.fixture
def data(columns, feature_map):
    return from_arrays(columns, feature_map)


def load(tmp_path, *overrides, expid="DCNv2_demo_gen"):
    small = ["embedding_dim=4", f"model_root={tmp_path}", *overrides]
    small += ["parallel_dnn_hidden_units=[8]"] * expid.startswith("DCNv2")
    return load_experiment(expid, ZOO / expid.split("_")[0], overrides=small)


def fit(config, model_class, feature_map, train, valid, watch=True):
    """Returns model, fitted, callbacks of two epochs."""
    seed_everything(3)
    model = build_model(config, model_class, feature_map)
    callbacks = make_callbacks(config, model, valid) if watch else []
    settings = TrainConfig(batch_size=BATCH, epochs=2, learning_rate=0.01, early_stop_patience=9)
    trainer = Trainer(model, settings, verbose=0, callbacks=callbacks)
    return model, trainer.fit(train, valid), callbacks


def test_nothing_is_watched_unless_asked(tmp_path, feature_map, data):
    config, model_class = load(tmp_path, "analyze_every=null")
    model = build_model(config, model_class, feature_map)
    assert make_callbacks(config, model, BatchIterator(data, BATCH)) == []
    assert collapse_points([]) == []


@pytest.mark.parametrize(
    ("every", "steps"),
    [
        ("1", [(0, 0), (1, 10), (2, 20)]),
        ("2 epochs", [(0, 0), (2, 20)]),
        ("8 steps", [(0, 0), (1, 8), (2, 16)]),
        ("3", [(0, 0)]),
    ],
)
def test_points_come_when_they_are_due(tmp_path, feature_map, data, every, steps, caplog):
    caplog.set_level(logging.INFO)
    config, model_class = load(tmp_path, f"analyze_every={every}")
    batches = BatchIterator(data, BATCH), BatchIterator(data, BATCH)
    _, _, callbacks = fit(config, model_class, feature_map, *batches)
    points = collapse_points(callbacks)
    assert [(p["epoch"], p["step"]) for p in points] == steps
    assert {p["num_dimensions"] for p in points} == {16}
    lines = [m for m in caplog.messages if m.startswith("[Collapse]")]
    first = points[0]
    assert lines[0] == (
        f"[Collapse] epoch 0 step 0: RankMe {first['rankme']:.2f} - information abundance "
        f"{first['information_abundance']:.2f} - dimensions > 1e-06: "
        f"{first['effective_dimensions']} of 16"
    )
    path = tmp_path / "demo_x1" / "DCNv2_demo_gen.collapse.jsonl"
    kept = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(lines) == len(kept) == len(points)
    for line, point in zip(kept, points, strict=True):
        values = line.pop("singular_values")
        assert line == point
        assert len(values) == 16 and values == sorted(values, reverse=True)


@pytest.mark.parametrize("streaming", [False, True])
def test_watching_changes_no_bit_of_the_training(tmp_path, feature_map, columns, data, streaming):
    """Dropout, drawn targets and batch statistics would show any number drawn or row too many."""
    path = write_encoded(tmp_path / "valid.parquet", columns, row_group_size=100)

    def train(watch):
        valid = BatchIterator(data, BATCH)
        if streaming:
            valid = StreamingIterator(open_parquet(path, feature_map), BATCH)
        config, model_class = load(tmp_path, *RESTLESS, "analyze_every=1 steps")
        shuffled = BatchIterator(data, BATCH, shuffle=True)
        return fit(config, model_class, feature_map, shuffled, valid, watch)

    watched, with_points, callbacks = train(True)
    plain, without, _ = train(False)
    assert len(collapse_points(callbacks)) == 1 + 2 * STEPS
    assert with_points.history == without.history
    for (name, one), two in zip(
        watched.state_dict().items(), plain.state_dict().values(), strict=True
    ):
        assert torch.equal(one, two), name


def test_recording_draws_no_number_even_where_the_model_does(tmp_path, feature_map, data):
    config, model_class = load(tmp_path)
    model = build_model(config, model_class, feature_map)
    model.head.register_forward_hook(lambda *_: torch.rand(1) and None)
    sample = draw_sample(data)
    for mode in (True, False):
        model.train(mode)
        state = torch.get_rng_state()
        record_sample(model, sample, torch.device("cpu"))
        assert torch.equal(torch.get_rng_state(), state)
        assert {module.training for module in model.modules()} == {mode}
        assert not model.analyzing
        assert model.cross_net.layers[0].record_gen == []


def test_the_sample_is_the_same_from_memory_and_from_disk(tmp_path, feature_map, columns, data):
    path = write_encoded(tmp_path / "valid.parquet", columns, row_group_size=70)
    first = next(iter(BatchIterator(data, NUM_ROWS, shuffle=True, seed=5)))
    for count in (1, 100, NUM_ROWS, 10 * NUM_ROWS):
        for rows in (data, open_parquet(path, feature_map)):
            sample = draw_sample(rows, count, seed=5)
            assert sample.num_rows == min(count, NUM_ROWS)
            assert torch.equal(sample.ids, first.ids[:count])
            assert torch.equal(sample.values_matrix, first.values_matrix[:count])


def test_records_of_pieces_are_those_of_the_whole(tmp_path, feature_map, data):
    config, model_class = load(tmp_path)
    model = build_model(config, model_class, feature_map)
    sample = draw_sample(data, 300)
    device = torch.device("cpu")
    whole = record_sample(model, sample, device)
    pieces = record_sample(model, sample, device, pass_rows=77)
    assert list(whole) == list(pieces)
    for key, array in whole.items():
        assert len(array) == 300
        np.testing.assert_allclose(pieces[key], array, rtol=1e-5, atol=1e-12)
    chosen = record_sample(model, sample, device, names=("gen",))
    assert list(chosen) == ["cross_net.layers.0/gen", "cross_net.layers.1/gen"]


def test_numbers_are_those_of_the_plain_formulas(tmp_path, feature_map, data):
    """FM: z = gamma relu(v W); eigenvalues of numpy's covariance of all validation rows."""
    config, model_class = load(tmp_path, "analyze_every=1", expid="FM_demo_gen")
    batches = BatchIterator(data, BATCH), BatchIterator(data, BATCH)
    seed_everything(3)
    untrained = build_model(config, model_class, feature_map)
    point = collapse_points(fit(config, model_class, feature_map, *batches)[2])[0]
    with torch.no_grad():
        v = untrained.embedding_layer(data.rows(slice(None))).flatten(1).double().numpy()
    weight = untrained.generator.encoder.weight.detach().double().numpy()
    z = 6.0 * np.maximum(v @ weight.T, 0)
    values = np.linalg.eigvalsh(np.cov(z, rowvar=False, bias=True))
    share = values / values.sum() + 1e-7
    assert point["rankme"] == pytest.approx(np.exp(-(share * np.log(share)).sum()), rel=1e-4)
    assert point["information_abundance"] == pytest.approx(values.sum() / values.max(), rel=1e-4)
    assert point["effective_dimensions"] == (values > 1e-6 * values.max()).sum()


def test_a_model_that_records_nothing_is_refused_before_the_first_step(
    tmp_path, feature_map, data, monkeypatch
):
    config, model_class = load(tmp_path, "analyze_every=2")
    model = build_model(config, model_class, feature_map)
    monkeypatch.setattr(type(model.cross_net.layers[0]), "record_all", lambda self, **_: None)
    valid = BatchIterator(data, BATCH)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    settings = TrainConfig(batch_size=BATCH, epochs=1)
    trainer = Trainer(model, settings, verbose=0, callbacks=make_callbacks(config, model, valid))
    with pytest.raises(ConfigError, match="key 'analyze_every': .*no module recorded 'gen'"):
        trainer.fit(BatchIterator(data, BATCH), valid)
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())


def test_no_validation_split_is_an_error_that_names_the_key(tmp_path, feature_map):
    config, model_class = load(tmp_path, "analyze_every=3 steps")
    model = build_model(config, model_class, feature_map)
    with pytest.raises(
        ConfigError, match="'analyze_every': found '3 steps', but dataset 'demo_x1'"
    ):
        make_callbacks(config, model, None)


@pytest.mark.parametrize("value", ["0", "-2", "1.5", "never", "2 weeks", "true"])
def test_an_interval_that_is_none_is_an_error(tmp_path, value):
    with pytest.raises(ConfigError, match="key 'analyze_every'"):
        load(tmp_path, f"analyze_every={value}")


def test_watching_is_no_part_of_what_is_computed(tmp_path):
    hashes = {
        load(tmp_path, *keys)[0].config_hash()
        for keys in ([], ["analyze_every=1"], ["tensorboard=true"])
    }
    assert len(hashes) == 1


@pytest.fixture
def fake_tensorboard(monkeypatch):
    """Stands for torch.utils.tensorboard; returns what is written."""
    written = []

    class SummaryWriter:
        def __init__(self, log_dir, purge_step=None):
            written.append(("open", log_dir, purge_step))

        def add_scalar(self, tag, scalar_value, global_step):
            written.append((tag, scalar_value, global_step))

        def flush(self):
            pass

        def close(self):
            written.append(("close",))

    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = SummaryWriter
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return written


def test_tensorboard_gets_every_scalar_by_step(tmp_path, feature_map, data, fake_tensorboard):
    config, model_class = load(tmp_path, "tensorboard=true", "analyze_every=1")
    batches = BatchIterator(data, BATCH), BatchIterator(data, BATCH)
    _, fitted, callbacks = fit(config, model_class, feature_map, *batches)
    folder = tmp_path / "demo_x1" / "tensorboard" / "DCNv2_demo_gen"
    assert fake_tensorboard[0] == ("open", str(folder), 0)
    assert fake_tensorboard[-1] == ("close",)
    scalars = {(tag, step): value for tag, value, step in fake_tensorboard[1:-1]}
    expected = {}
    for entry in fitted.history:
        expected["train/train_loss", entry["step"]] = entry["train_loss"]
        expected["train/learning_rate", entry["step"]] = entry["learning_rate"]
        for name, value in entry["metrics"].items():
            expected[f"valid/{name}", entry["step"]] = value
    for point in collapse_points(callbacks):
        for name in ("rankme", "information_abundance", "effective_dimensions"):
            expected[f"collapse/{name}", point["step"]] = point[name]
    assert scalars == expected
    assert len(expected) == 2 * 4 + 3 * 3


def test_without_tensorboard_the_error_says_how_to_install_it(
    tmp_path, feature_map, data, monkeypatch
):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    config, model_class = load(tmp_path, "tensorboard=true")
    model = build_model(config, model_class, feature_map)
    with pytest.raises(ConfigError, match="key 'tensorboard'.*pip install tensorboard"):
        make_callbacks(config, model, BatchIterator(data, BATCH))


def test_a_killed_run_keeps_its_points(tmp_path, feature_map, data, monkeypatch):
    config, model_class = load(tmp_path, "analyze_every=4 steps")
    real = Trainer.train_step
    steps = []

    def train_step(self, batch):
        steps.append(1)
        if len(steps) > 9:
            raise KeyboardInterrupt
        return real(self, batch)

    monkeypatch.setattr(Trainer, "train_step", train_step)
    with pytest.raises(KeyboardInterrupt):
        fit(
            config, model_class, feature_map, BatchIterator(data, BATCH), BatchIterator(data, BATCH)
        )
    path = tmp_path / "demo_x1" / "DCNv2_demo_gen.collapse.jsonl"
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [0, 4, 8]
