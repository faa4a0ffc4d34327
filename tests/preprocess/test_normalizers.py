from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import preprocessing

from fuxictr.errors import ConfigError
from fuxictr.preprocess.columns.normalizers import NORMALIZERS, normalizer_from_json

VALUES = st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=60)


@pytest.mark.parametrize("name", NORMALIZERS)
@given(values=VALUES, cut=st.integers(0, 60))
def test_fitted_by_frames_equals_scikit_learn(name, values, cut):
    x = np.array(values)
    normalizer = NORMALIZERS[name]()
    for frame in (x[:cut], x[cut:]):
        if len(frame):
            normalizer.observe(frame)
    normalizer.finish()
    expected = getattr(preprocessing, name)().fit_transform(x[:, None])[:, 0]
    # Where values are all but equal, scikit-learn takes them for equal and we divide.
    if np.ptp(x) == 0 or np.ptp(x) > 1e-6 * max(np.abs(x).max(), 1):
        np.testing.assert_allclose(normalizer.apply(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NORMALIZERS)
def test_json_round_trip_is_exact(name):
    normalizer = NORMALIZERS[name]()
    normalizer.observe(np.array([0.1, 0.7, 1 / 3]))
    normalizer.finish()
    again = normalizer_from_json(json.loads(json.dumps(normalizer.to_json())))
    x = np.linspace(-1, 1, 7)
    assert (again.apply(x) == normalizer.apply(x)).all()


def test_unknown_name():
    with pytest.raises(ConfigError, match="'Robust': allowed: StandardScaler, MinMaxScaler"):
        normalizer_from_json({"normalizer": "Robust", "shift": 0, "scale": 1})
