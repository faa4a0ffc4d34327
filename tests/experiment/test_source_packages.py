"""A model's class is found in its file, or through the package src/."""

import pytest

from fuxictr.errors import ConfigError
from fuxictr.experiment.zoo.models import load_model_class


@pytest.fixture
def folder(tmp_path):
    source = tmp_path / "zoo" / "src"
    source.mkdir(parents=True)
    (source / "__init__.py").write_text("from .Both import *\nfrom .Other import *\n")
    (source / "parts.py").write_text("WIDTH = 3\n")
    (source / "Both.py").write_text(
        "from .parts import WIDTH\n\nclass Both:\n    width = WIDTH\n\n"
        "class Twin(Both):\n    pass\n"
    )
    (source / "Other.py").write_text("class Other:\n    pass\n")
    return tmp_path / "zoo"


def test_a_file_of_its_own_comes_first(folder):
    assert load_model_class("Both", folder).width == 3


def test_a_second_class_of_a_file_is_found_through_the_package(folder):
    twin = load_model_class("Twin", folder)
    assert (twin.__name__, twin.width) == ("Twin", 3)
    assert load_model_class("Twin", folder) is twin


def test_a_class_that_the_package_does_not_import_is_an_error(folder):
    with pytest.raises(ConfigError, match=r"no model 'Triplet'; looked for .*src/Triplet.py"):
        load_model_class("Triplet", folder)


def test_an_error_in_the_package_is_raised_each_time(folder):
    (folder / "src" / "__init__.py").write_text("raise ValueError('broken')\n")
    for _ in range(2):
        with pytest.raises(ValueError, match="broken"):
            load_model_class("Twin", folder)


def test_folders_of_one_name_are_told_apart(folder, tmp_path):
    other = tmp_path / "elsewhere" / "zoo" / "src"
    other.mkdir(parents=True)
    (other / "__init__.py").write_text("class Twin:\n    width = 7\n")
    assert load_model_class("Twin", other.parent).width == 7
    assert load_model_class("Twin", folder).width == 3
