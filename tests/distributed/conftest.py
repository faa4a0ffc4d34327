"""What the tests of several processes share."""

import functools

import pytest

from fuxictr.config import loading


@pytest.fixture(autouse=True, scope="module")
def _parse_each_yaml_file_once():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loading, "read_yaml", functools.cache(loading.read_yaml))
        yield
