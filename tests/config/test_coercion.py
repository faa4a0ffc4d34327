"""YAML values against annotations."""

from typing import Literal

import pytest

from fuxictr.config.coercion import WrongValue, coerce, signature_annotations


@pytest.mark.parametrize(
    ("value", "annotation", "expected"),
    [
        ("1e-3", float, 1e-3),
        (1, float, 1.0),
        ("5", int, 5),
        (5.0, int, 5),
        (True, bool, True),
        (None, int | None, None),
        ("l2(1e-5)", float | str | None, "l2(1e-5)"),
        (3, int | float, 3),
        (["1", 2], list[int], [1, 2]),
        ({"AUC": 1, "logloss": "-1"}, str | dict[str, float], {"AUC": 1.0, "logloss": -1.0}),
        ("relu", Literal["relu", "tanh"], "relu"),
    ],
)
def test_value_is_converted(value, annotation, expected):
    found = coerce(value, annotation)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("value", "annotation", "message"),
    [
        ("fast", float, "float"),
        (True, int, "int"),
        (1.5, int, "int"),
        (float("nan"), float, "finite"),
        (float("inf"), float, "finite"),
        (1, bool, "true, false"),
        ("yes", bool, "true, false"),
        (1, str, "str"),
        ("400", list[int], "list of int"),
        ("rellu", Literal["relu", "tanh"], "did you mean 'relu'"),
        ([1, "x"], list[int], "int"),
    ],
)
def test_wrong_value_says_what_is_allowed(value, annotation, message):
    with pytest.raises(WrongValue, match=message):
        coerce(value, annotation)


def test_annotations_for_type_checkers_only_take_any_value():
    def init(self, feature_map: "OnlyForTypeCheckers", rate: "float" = 0.1):  # noqa: F821
        """A signature whose names are not all there at run time."""

    annotations = signature_annotations(init)
    assert coerce("anything", annotations["rate"]) == "anything"


def test_parameters_without_annotation_take_numbers_where_the_default_is_one():
    def init(self, feature_map, gamma=1, hidden_units=(64, 64), flag=False, **kwargs):
        """A signature as users of FuxiCTR write it."""

    annotations = signature_annotations(init)
    assert set(annotations) == {"gamma", "hidden_units", "flag"}
    assert coerce("1e-3", annotations["gamma"]) == 1e-3
    assert coerce("anything", annotations["hidden_units"]) == "anything"
