from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from fuxictr.analysis.recorder import Recorder, set_analyzing
from fuxictr.errors import CheckpointError
from fuxictr.pytorch.recording import Recordable


class UserLayer(nn.Module):
    """A user's layer: the record contract by hand, without this project's classes."""

    analyzing = False

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 3)

    def init_record(self):
        self.record_gen = []
        self.record_gate = []

    def forward(self, x):
        z = self.linear(x)
        if self.analyzing:
            self.record_gen.append(z.detach().cpu())
        return z


class MixinLayer(Recordable, nn.Module):
    def forward(self, x):
        self.record("right", x * 2)
        return x


class UserModel(Recordable, nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([UserLayer(), UserLayer()])
        self.mixed = MixinLayer()

    def forward(self, x):
        self.record("feature_emb", x.view(-1, 3, 1))
        for layer in self.layers:
            x = layer(x)
        return self.mixed(x)


def lists_of(model):
    return {
        f"{path}.{name}": value
        for path, module in model.named_modules()
        for name, value in vars(module).items()
        if name.startswith("record_")
    }


def test_batches_are_concatenated_under_module_path_and_name():
    model = UserModel()
    batches = [torch.randn(4, 3), torch.randn(2, 3)]
    with Recorder(model) as recorder, torch.inference_mode():
        for batch in batches:
            model(batch)
        arrays = recorder.collect()
    rows = torch.cat(batches)
    with torch.no_grad():
        first = model.layers[0](rows)
        second = model.layers[1](first)
    assert list(arrays) == ["model/feature_emb", "layers.0/gen", "layers.1/gen", "mixed/right"]
    assert arrays["model/feature_emb"].shape == (6, 3, 1)
    np.testing.assert_array_equal(arrays["model/feature_emb"][:, :, 0], rows)
    np.testing.assert_allclose(arrays["layers.0/gen"], first, rtol=1e-6)
    np.testing.assert_allclose(arrays["layers.1/gen"], second, rtol=1e-6)
    np.testing.assert_allclose(arrays["mixed/right"], 2 * second, rtol=1e-6)
    assert all(array.dtype == np.float32 for array in arrays.values())


def test_nothing_is_recorded_outside():
    model = UserModel()
    model(torch.randn(4, 3))
    assert lists_of(model) == {}
    with Recorder(model), torch.inference_mode():
        model(torch.randn(4, 3))
    assert not any(module.analyzing for module in model.modules())
    model(torch.randn(4, 3))
    assert lists_of(model) and not any(lists_of(model).values())


def test_recording_goes_off_when_the_forward_pass_fails():
    model = UserModel()
    with pytest.raises(RuntimeError), Recorder(model):
        model(torch.randn(4, 3))
        model(torch.randn(4, 7))
    assert not any(module.analyzing for module in model.modules())
    assert not any(lists_of(model).values())


def test_old_lists_are_emptied_and_collect_takes_the_records():
    model = UserModel()
    model.mixed.record_right = [torch.zeros(9, 3)]
    with Recorder(model) as recorder:
        model(torch.randn(4, 3))
        assert recorder.collect()["mixed/right"].shape == (4, 3)
        assert recorder.collect() == {}
        model(torch.randn(2, 3))
        assert recorder.collect()["mixed/right"].shape == (2, 3)


def test_a_list_made_in_init_survives_recording():
    class InitList(nn.Module):
        def __init__(self):
            super().__init__()
            self.analyzing = False
            self.record_gen = []

        def forward(self, x):
            if self.analyzing:
                self.record_gen.append(x.to(torch.bfloat16))
            return x

    model = InitList()
    for _ in range(2):
        with Recorder(model) as recorder:
            model(torch.ones(4, 3, requires_grad=True))
            np.testing.assert_array_equal(recorder.collect()["model/gen"], np.ones((4, 3)))


def test_collected_arrays_share_no_memory_with_the_model():
    model = MixinLayer()
    source = torch.ones(2, 3)
    with Recorder(model) as recorder:
        model.record("gen", source)
        array = recorder.collect()["model/gen"]
    source.zero_()
    np.testing.assert_array_equal(array, 1.0)


def test_set_analyzing_reaches_all_submodules():
    model = UserModel()
    set_analyzing(model, True)
    assert all(module.analyzing for module in model.modules())


def test_errors_name_module_and_record():
    model = UserModel()
    model.mixed.record_right = 3
    with pytest.raises(CheckpointError, match="module 'mixed': record_right is a int"):
        Recorder(model).__enter__()
    assert not any(getattr(module, "analyzing", False) for module in model.modules())

    model.mixed.record_right = []
    with Recorder(model) as recorder:
        model.mixed.record_right += [torch.zeros(2, 3), torch.zeros(2, 4)]
        with pytest.raises(CheckpointError, match=r"'mixed': record_right .*\(3,\), \(4,\)"):
            recorder.collect()
        model.mixed.record_right[:] = [torch.tensor(1.0)]
        with pytest.raises(CheckpointError, match="record_right holds a scalar"):
            recorder.collect()
        model.mixed.record_right[:] = [np.zeros((2, 3))]
        with pytest.raises(CheckpointError, match="record_right holds a ndarray"):
            recorder.collect()
        model.mixed.record_right = torch.zeros(2, 3)
        with pytest.raises(CheckpointError, match="record_right is a Tensor"):
            recorder.collect()


def test_a_module_called_model_cannot_hide_the_model():
    outer = UserModel()
    outer.model = MixinLayer()
    with Recorder(outer) as recorder:
        outer.record("gen", torch.zeros(2, 3))
        outer.model.record("gen", torch.ones(2, 3))
        with pytest.raises(CheckpointError, match="'model/gen' exists twice"):
            recorder.collect()
