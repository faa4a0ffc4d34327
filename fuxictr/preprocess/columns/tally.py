"""Counts of a column's unseen and missing cells, made while they are encoded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from fuxictr.preprocess.columns.spellings import known_spellings, shapes
from fuxictr.preprocess.sources.splitting import next_codes

# Tokens of each side that a warning shows.
NUM_EXAMPLES = 2
# Unseen tokens of a frame that are looked up in other spellings; the rest count in proportion.
_MOST_SPELLED = 1_000
# Tokens of a frame whose shape is noted; with so many shapes, they tell nothing.
_MOST_SHAPED, MOST_SHAPES = 200, 32


@dataclass
class Counts:
    """The cells of a column in one split, or the elements of a sequence.

    Attributes:
        cells: all of them; an empty sequence counts as one.
        missing: empty cells, or those that equal fill_na.
        unseen: cells whose token has no id: unseen in training, or too rare there.
        lasting: training cells whose token would have an id without them too.
        examples: the first tokens that have no id.
        written: unseen cells whose token is a known one in another spelling.
        twins: the first such tokens -> the known ones.
        shapes: shape -> cells of a sample of tokens; at MOST_SHAPES there may be more.
    """

    cells: int = 0
    missing: int = 0
    unseen: int = 0
    lasting: int = 0
    examples: list[str] = field(default_factory=list)
    written: int = 0
    twins: dict[str, str] = field(default_factory=dict)
    shapes: dict[str, int] = field(default_factory=dict)

    @property
    def known(self) -> float:
        """Share of the cells that have an id; 1 where there is no cell."""
        return 1 - (self.missing + self.unseen) / self.cells if self.cells else 1.0

    def share(self, name: str) -> float:
        """Returns the share of cells that are missing, unseen, lasting or written."""
        return float(getattr(self, name)) / self.cells if self.cells else 0.0

    def add_shapes(self, tokens: pl.Series, cells: np.ndarray) -> None:
        """Counts the shapes of some tokens by their cells, (tokens,)."""
        for shape, number in zip(shapes(tokens), cells.tolist(), strict=True):
            if shape in self.shapes or len(self.shapes) < MOST_SHAPES:
                self.shapes[shape] = self.shapes.get(shape, 0) + number

    def add_spellings(
        self,
        tokens: pl.Series,
        cells: np.ndarray,
        unseen: int,
        knows: Callable[[pl.Series], np.ndarray],
    ) -> None:
        """Counts unseen cells of a frame that are known tokens in another spelling.

        ``tokens`` with ``cells`` each are a sample of the ``unseen`` cells.
        """
        spellings = known_spellings(tokens, knows)
        has_twin = spellings.is_not_null()
        self.written += round(unseen * float(cells[has_twin.to_numpy()].sum() / cells.sum()))
        pairs = zip(tokens.filter(has_twin), spellings.filter(has_twin), strict=True)
        for token, twin in pairs if len(self.twins) < NUM_EXAMPLES else ():
            if len(self.twins) < NUM_EXAMPLES:
                self.twins[token] = twin


class Tally:
    """Counts a column's cells by split, in row order; ``codes`` None = there is one split."""

    def __init__(self, splits: Sequence[str], codes: np.ndarray | None = None) -> None:
        self.counts = {split: Counts() for split in splits}
        self._codes = codes
        self._start = 0

    def add_numbers(self, is_missing: pl.Series) -> None:
        """Counts the cells of a frame by which of them are missing, (rows,)."""
        none = np.zeros(1, bool)
        self.add_tokens(pl.Series([""]), is_missing.cast(pl.Int64).to_numpy(), none, none)

    def add_tokens(
        self,
        tokens: pl.Series,
        index: np.ndarray,
        has_no_id: np.ndarray,
        is_missing: np.ndarray,
        lengths: np.ndarray | None = None,
        is_sampled: np.ndarray | None = None,
        knows: Callable[[pl.Series], np.ndarray] | None = None,
    ) -> None:
        """Counts the cells of a frame by the distinct ``tokens`` in it.

        ``index`` (cells,) is each cell's token, past the last one where it is missing.
        ``has_no_id``, ``is_missing`` and ``is_sampled`` are flags (tokens,); tokens that are not
        sampled count in proportion, None = all are. ``lengths`` (rows,) are the cells of each row;
        None = one each. ``knows`` tells which tokens are known, where one may have several
        spellings.
        """
        rows = self._next(len(index) if lengths is None else len(lengths))
        if lengths is not None:
            empty = lengths == 0
            index = np.append(index, np.full(int(empty.sum()), len(tokens), index.dtype))
            if rows is not None:
                rows = np.append(np.repeat(rows, lengths), rows[empty])
        width, num_splits = len(tokens) + 1, len(self.counts)
        if rows is not None:
            index = rows.astype(np.int64) * width + index
        table = np.bincount(index, minlength=num_splits * width).reshape(num_splits, width)
        for counts, by_token in zip(self.counts.values(), table, strict=True):
            counts.cells += int(by_token.sum())
            missing = int(by_token[-1] + by_token[:-1][is_missing].sum())
            counts.missing += missing
            found = np.flatnonzero(has_no_id & ~is_missing & (by_token[:-1] > 0))
            unseen = int(by_token[found].sum())
            if is_sampled is not None and unseen:
                sampled = int(by_token[:-1][is_sampled].sum())
                unseen = round(unseen / sampled * (int(by_token.sum()) - missing))
            counts.unseen += unseen
            if knows is not None:
                present = np.flatnonzero(~is_missing & (by_token[:-1] > 0))
                some = present[:: max(1, -(-len(present) // _MOST_SHAPED))]
                counts.add_shapes(tokens.gather(some), by_token[some])
            if knows is not None and len(found):
                some = found[:: -(-len(found) // _MOST_SPELLED)]
                counts.add_spellings(tokens.gather(some), by_token[some], unseen, knows)
            for token in tokens.gather(found[:NUM_EXAMPLES]):
                if len(counts.examples) < NUM_EXAMPLES and token not in counts.examples:
                    counts.examples.append(token)

    def _next(self, num_rows: int) -> np.ndarray | None:
        if self._codes is None:
            return None
        self._start += num_rows
        return next_codes(self._codes, self._start - num_rows, num_rows)
