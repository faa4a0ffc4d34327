from __future__ import annotations

import json

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuxictr.preprocess.columns import vocabulary as module
from fuxictr.preprocess.columns.vocabulary import TokenCounter, Vocabulary, split_tokens
from tests.preprocess.tables import plain_encode, plain_vocabulary

TOKENS = st.one_of(st.sampled_from(["a", "b", "é", "10", "9", "__OOV__", "__PAD__"]), st.text())
TOKENS = TOKENS.filter(lambda t: not any("\ud800" <= c <= "\udfff" for c in t))


def counted(batches, min_count=1, excluded=("",)):
    counter = TokenCounter()
    for batch in batches:
        tokens, index = split_tokens(pa.array(batch, pa.string()))
        counts = np.bincount(index, minlength=len(tokens) + 1)[: len(tokens)]
        counter.add(tokens, counts)
    return counter.vocabulary(min_count, excluded)


@given(
    st.lists(st.lists(TOKENS, min_size=1), min_size=1, max_size=4),
    st.integers(1, 3),
    st.lists(TOKENS),
)
def test_order_ties_and_ids_equal_a_plain_counter(batches, min_count, unseen):
    values = [token for batch in batches for token in batch]
    expected = plain_vocabulary(values, min_count)
    vocabulary = counted(batches, min_count)
    assert list(vocabulary.to_dict().items()) == list(expected.items())
    assert vocabulary.size == len(expected)
    rows = [*values, *unseen]
    ids = vocabulary.encode(pl.Series(rows, dtype=pl.String))
    assert ids.dtype == np.int32
    assert ids.tolist() == plain_encode(rows, expected)


@given(st.lists(TOKENS))
def test_json_round_trip_keeps_every_id(values):
    vocabulary = counted([values]) if values else Vocabulary(pl.Series([], dtype=pl.String))
    text = json.dumps(vocabulary.to_dict(), ensure_ascii=False)
    again = Vocabulary.from_dict(json.loads(text))
    assert again.to_dict() == vocabulary.to_dict()
    rows = pl.Series([*values, "unseen?"], dtype=pl.String)
    assert (again.encode(rows) == vocabulary.encode(rows)).all()


def test_batches_do_not_matter(monkeypatch):
    rng = np.random.default_rng(0)
    rows = [str(v) for v in rng.zipf(1.3, 2000) % 300]
    whole = counted([rows]).to_dict()
    monkeypatch.setattr(module, "_MERGE_ROWS", 10)
    assert counted([rows[i : i + 7] for i in range(0, 2000, 7)]).to_dict() == whole
    assert whole == plain_vocabulary(rows)


def test_excluded_tokens_are_oov_however_frequent():
    vocabulary = counted([["NA", "NA", "NA", "x"]], excluded=("", "NA"))
    assert vocabulary.to_dict() == {"__PAD__": 0, "x": 1, "__OOV__": 2}
    assert vocabulary.encode(pl.Series(["NA", "x", None])).tolist() == [2, 1, 2]


def test_tokens_whose_hashes_collide_keep_their_own_ids(monkeypatch):
    def hashed(self, tokens):
        # The first seed sends every token to one hash, the second one "b" and "unseen".
        if self._seed == 0:
            return np.zeros(len(tokens), dtype=np.uint64)
        return np.array([{"a": 5, "b": 7, "unseen": 7}[t] for t in tokens], dtype=np.uint64)

    monkeypatch.setattr(Vocabulary, "_hash", hashed)
    vocabulary = Vocabulary(pl.Series(["b", "a"]))
    assert vocabulary.encode(pl.Series(["a", "b", "unseen"])).tolist() == [2, 1, 3]


@pytest.mark.parametrize(
    ("ids", "text"),
    [
        ({"a": 0, "__OOV__": 1}, "__PAD__ as the first id"),
        ({"__PAD__": 0, "a": 1}, "__OOV__ as the last one"),
        ({"__PAD__": 0, "a": 2, "__OOV__": 3}, "without a gap"),
    ],
)
def test_a_vocabulary_out_of_order_is_refused(ids, text):
    with pytest.raises(ValueError, match=text):
        Vocabulary.from_dict(ids)


def test_split_tokens_reads_plain_and_dictionary_columns_alike():
    plain = pa.chunked_array([["a", None, "b"], ["b", "c"]], type=pa.string())
    for column in (plain, plain.dictionary_encode()):
        tokens, index = split_tokens(column)
        texts = [*tokens.to_list(), None]
        assert [texts[i] for i in index] == ["a", None, "b", "b", "c"]
