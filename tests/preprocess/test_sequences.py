from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fuxictr.errors import ConfigError, DataError
from fuxictr.preprocess import FeatureProcessor, prepare_dataset
from tests.preprocess.tables import (
    categorical,
    config,
    plain_encode,
    plain_vocabulary,
    read,
    write_csv,
)

ELEMENT = st.sampled_from(["a", "b", "c", "B", "é", "10", "", "__PAD__"])
CELL = st.lists(ELEMENT, max_size=6)


def sequence(name="h", **keys):
    return {"name": name, "type": "sequence", "splitter": "|", **keys}


def frame(cells, **columns):
    return pl.DataFrame({"h": cells, **columns, "click": [1] * len(cells)})


def fitted(rows, *columns):
    processor = FeatureProcessor(
        feature_cols=columns, label_col={"name": "click", "dtype": "float"}, dataset_id="d"
    )
    return processor.fit(rows)


def plain_pad(ids, length, padding):
    if padding == "pre":
        return [0] * (length - len(ids)) + ids[max(len(ids) - length, 0) :]
    return ids[:length] + [0] * (length - len(ids))


def elements(cell):
    """What a written cell holds: nothing but an empty element is no element at all."""
    return [] if cell == [""] else cell


@settings(max_examples=60, deadline=None)
@given(
    st.lists(CELL, min_size=1, max_size=12),
    st.lists(CELL, min_size=1, max_size=8),
    st.integers(0, 4),
    st.sampled_from(["pre", "post"]),
    st.integers(1, 2),
)
def test_ids_and_padding_equal_a_plain_loop(train, valid, max_len, padding, min_count):
    assume(any(e for cell in train for e in cell))
    column = sequence(max_len=max_len, padding=padding, min_categr_count=min_count)
    processor = fitted(frame(["|".join(cell) for cell in train]), column)
    vocabulary = plain_vocabulary([e for cell in train for e in cell], min_count)
    assert processor.columns[0].vocabulary.to_dict() == vocabulary
    longest = max(len(elements(cell)) for cell in train)
    spec = processor.feature_map.features["h"]
    assert spec["max_len"] == (max_len or longest)
    assert spec["vocab_size"] == len(vocabulary)
    for cells in (train, valid):
        encoded = processor.transform(frame(["|".join(cell) for cell in cells]))["h"].to_list()
        for cell, found in zip(cells, encoded, strict=True):
            ids = plain_encode(elements(cell), vocabulary)
            ids = [i if e else 0 for e, i in zip(elements(cell), ids, strict=True)]
            assert found == plain_pad(ids, spec["max_len"], padding)


def test_lists_and_texts_encode_alike():
    cells = [["3", "1"], [], ["1", "2", "3"], None, ["7"]]
    texts = frame([None if c is None else "|".join(c) for c in cells])
    lists = frame(pl.Series([None if c is None else [int(e) for e in c] for c in cells]))
    column = sequence(dtype="int", max_len=2)
    expected = fitted(texts, column).transform(texts)
    assert fitted(lists, column).transform(lists).equals(expected)
    assert expected["h"].to_list()[1] == expected["h"].to_list()[3] == [0, 0]
    floats = frame(pl.Series([None if c is None else [float(e) for e in c] for c in cells]))
    assert fitted(floats, column).transform(floats).equals(expected)


def test_elements_are_read_by_dtype_and_a_wrong_one_names_its_row():
    rows = frame(["1|02", "2|x", "3"])
    with pytest.raises(DataError, match=r"row 2, column 'h': found 'x', allowed: an integer"):
        fitted(rows, sequence(dtype="int"))
    processor = fitted(frame(["1|02", "2|1"]), sequence(dtype="int"))
    assert set(processor.columns[0].vocabulary.to_dict()) == {"__PAD__", "1", "2", "__OOV__"}


def test_a_sequence_without_its_splitter_is_refused(tmp_path):
    write_csv(tmp_path / "train.csv", "click,h\n1,a|b\n0,b|c\n")
    column = {"name": "h", "type": "sequence"}
    with pytest.raises(DataError) as error:
        prepare_dataset(config(tmp_path, [column]), verbose=0)
    text = str(error.value)
    assert "column 'h': no cell of the training split holds the default splitter '^'" in text
    assert "found 'a|b'; set key 'splitter'" in text
    built = prepare_dataset(config(tmp_path, [{**column, "splitter": "^"}]), verbose=0)
    assert built.feature_map.features["h"]["max_len"] == 1


def test_the_default_splitter_is_fuxictrs(tmp_path):
    write_csv(tmp_path / "train.csv", "click,h\n1,a^b\n0,b\n")
    built = prepare_dataset(config(tmp_path, [{"name": "h", "type": "sequence"}]), verbose=0)
    assert read(built)["h"] == [[2, 1], [1, 0]]
    spec = built.feature_map.features["h"]
    assert spec["feature_encoder"] == "layers.MaskedAveragePooling()"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"pooling": "sum"}, "layers.MaskedSumPooling()"),
        ({"pooling": None}, None),
        ({"feature_encoder": None}, None),
        ({"feature_encoder": "layers.MaskedSumPooling()"}, "layers.MaskedSumPooling()"),
        ({"feature_encoder": "average"}, "layers.MaskedAveragePooling()"),
    ],
)
def test_pooling_is_kept_in_fuxictrs_words(given, kept):
    processor = fitted(frame(["a|b"]), sequence(**given))
    assert processor.feature_map.features["h"]["feature_encoder"] == kept


class TestSharing:
    rows = frame(["b|c", "d|c|b", "a"], item=["a", "b", "b"], other=["x", "a", "x"])

    def ids(self, *columns):
        processor = fitted(self.rows, *columns)
        return processor, [c.vocabulary.to_dict() for c in processor.columns]

    def test_the_owners_tokens_come_first_then_the_new_ones(self):
        processor, (item, hist) = self.ids(
            categorical("item"), sequence(share_embedding="item", max_len=3)
        )
        expected = {"__PAD__": 0, "b": 1, "a": 2, "c": 3, "d": 4, "__OOV__": 5}
        assert item == hist == expected
        encoded = processor.transform(self.rows)
        assert encoded["item"].to_list() == [2, 1, 1]
        assert encoded["h"].to_list() == [[1, 3, 0], [4, 3, 1], [2, 0, 0]]
        specs = processor.feature_map.features
        assert specs["h"]["share_embedding"] == "item"
        assert specs["h"]["vocab_size"] == specs["item"]["vocab_size"] == 6

    def test_the_order_of_the_columns_does_not_matter_and_chains_work(self):
        _, found = self.ids(
            sequence(share_embedding="other"),
            categorical("other", share_embedding="item"),
            categorical("item"),
        )
        assert found[0] == found[1] == found[2]
        assert list(found[0])[:3] == ["__PAD__", "b", "a"]
        assert set(found[0]) == {"__PAD__", "a", "b", "c", "d", "x", "__OOV__"}

    @pytest.mark.parametrize(
        ("columns", "message"),
        [
            ([categorical("item", share_embedding="itme")], "found 'itme', allowed: a categ"),
            (
                [
                    categorical("item", share_embedding="other"),
                    categorical("other", share_embedding="item"),
                ],
                "goes round in a circle: item -> other -> item",
            ),
            (
                [
                    categorical("item", share_embedding="other"),
                    categorical("other", category_processor="hash_bucket"),
                ],
                "found 'other', allowed: a categorical or sequence column with a vocabulary",
            ),
        ],
    )
    def test_a_target_that_cannot_be_shared_is_refused(self, columns, message):
        with pytest.raises(ConfigError, match=message):
            self.ids(*columns)


def test_vectors_are_read_from_text_and_lists():
    column = {"name": "h", "type": "embedding", "splitter": ";"}
    texts = frame(["1;2.5", "", "-3;4e-1"])
    lists = frame(pl.Series([[1, 2.5], None, [-3, 0.4]], dtype=pl.List(pl.Float64)))
    for rows in (texts, lists):
        processor = fitted(rows, column)
        assert processor.feature_map.features["h"]["pretrain_dim"] == 2
        found = np.array(processor.transform(rows)["h"].to_list())
        np.testing.assert_allclose(found, [[1, 2.5], [0, 0], [-3, 0.4]], rtol=1e-6)


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("1;2;3", r"row 3, column 'h': found 'a vector of 3 numbers', allowed: 2 numbers"),
        ("1;x", r"row 3, column 'h': found 'x', allowed: a number"),
        ("1;inf", r"row 3, column 'h': found 'inf', allowed: a finite number"),
    ],
)
def test_a_wrong_vector_names_its_row(cell, message):
    column = {"name": "h", "type": "embedding", "splitter": ";"}
    with pytest.raises(DataError, match=message):
        fitted(frame(["1;2", "", cell]), column)
