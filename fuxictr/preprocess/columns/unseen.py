"""Columns that are mostly unseen or missing in some rows, and were not in training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from fuxictr.preprocess.columns.column import Column
from fuxictr.preprocess.columns.spellings import is_number
from fuxictr.preprocess.columns.tally import MOST_SHAPES, NUM_EXAMPLES, Counts
from fuxictr.preprocess.columns.token_columns import TokenColumn

# From so many cells on, the barely frequent tokens tell how many unseen ones to expect.
_MANY_CELLS = 100
# A few rows to score may be all unseen: one new user.
_FEW_CELLS, _MANY_MISSING = 20, 1_000
_MOST_SHOWN = 10
_PART, _CHANCE = 0.1, 0.01
_SAID = "many cells are not known from training"


def lost_columns(
    columns: Sequence[Column],
    trained: Mapping[str, Counts],
    found: Mapping[str, Counts],
    is_scoring: bool = False,
) -> str | None:
    """Returns one sentence on the columns that training knew and these rows do not, or None.

    A column is lost where at least half of its training cells had an id, and fewer than half as
    many have one here. From 100 training cells on, a token must have an id without the cell too,
    and chance must not explain the loss. A column is lost too where a tenth of the cells are known
    tokens in another spelling, or where none of 20 cells is known and all look different. Rows to
    score (``is_scoring``) need 20 cells and two unseen tokens, 1,000 cells, or another spelling.
    """
    parts: list[str] = []
    spelled: list[tuple[str, str]] = []
    has_unseen = False
    for column in columns:
        known, here = trained.get(column.name), found.get(column.name)
        if known is None or here is None:
            continue
        if not any(judge(known, here) for judge in (_is_lost, _is_written_otherwise, _looks_new)):
            continue
        if is_scoring and not _is_written_otherwise(known, here) and not _is_enough(here):
            continue
        parts.append(_describe(column, known, here))
        spelled += here.twins.items()
        has_unseen = has_unseen or here.unseen > 0
    if not parts:
        return None
    more = len(parts) - _MOST_SHOWN
    listed = "; ".join(parts[:_MOST_SHOWN]) + (f"; and {more} more columns" if more > 0 else "")
    if not has_unseen:
        return f"{_SAID}: {listed}; is the column filled in these files?"
    if not spelled:
        return f"{_SAID}: {listed}; are these values new, or spelled differently from training?"
    token, twin = spelled[0]
    number = " (dtype: int takes both)" if is_number(token) and is_number(twin) else ""
    return f"{_SAID}: {listed}; '{token}' is '{twin}' in training: write them alike{number}"


def all_rare(columns: Sequence[Column], trained: Mapping[str, Counts]) -> list[str]:
    """Returns a sentence for each column without any frequent training token."""
    texts = []
    for column in columns:
        counts = trained.get(column.name, Counts())
        if not isinstance(column, TokenColumn) or not counts.unseen or counts.known:
            continue
        text = f"column '{column.name}': all {counts.cells:,} cells of the training split are OOV"
        if column.most_frequent is not None:
            token, count = column.most_frequent
            text += (
                f": key 'min_categr_count': found {column.min_count}, but no token occurs more "
                f"than {count} times ('{token}'); lower it, or leave the column out"
            )
        texts.append(text)
    return texts


def oov_table(columns: Sequence[Column], splits: Mapping[str, Mapping[str, Counts]]) -> str:
    """Returns lines ``column  1.25 %  3.10 %``: each split's share of ``__OOV__`` cells."""
    names = [column.name for column in columns if isinstance(column, TokenColumn)]
    width = max(map(len, names), default=0)
    lines = [f"Share of __OOV__ cells (rare, unseen or missing) in {', '.join(splits)}:"]
    for name in names:
        shares = "".join(f"{100 * (1 - found[name].known):9.2f} %" for found in splits.values())
        lines.append(f"  {name:{width}}{shares}")
    return "\n".join(lines) if names else ""


def _is_lost(trained: Counts, found: Counts) -> bool:
    if not trained.cells or not found.cells or trained.known < 0.5:
        return False
    if trained.cells < _MANY_CELLS:
        return not found.known or found.known < trained.known / 2
    expected = min(trained.known, trained.share("lasting"))
    return found.known < expected / 2 and _is_no_chance(found.known, expected, found.cells)


def _is_no_chance(found: float, expected: float, cells: int) -> bool:
    """Returns whether chance is next to excluded: P(share <= q) <= exp(-n KL(q | p)) (Chernoff)."""
    p = min(expected, 1 - 1e-9)
    divergence = (1 - found) * math.log((1 - found) / (1 - p))
    if found:
        divergence += found * math.log(found / p)
    return cells * divergence > -math.log(_CHANCE)


def _is_written_otherwise(trained: Counts, found: Counts) -> bool:
    # In training too, rare tokens may be other spellings of frequent ones, as in free text.
    share = found.written / max(found.cells - found.missing, 1)
    return share >= max(_PART, 2 * trained.share("written"))


def _looks_new(trained: Counts, found: Counts) -> bool:
    # Tokens that occur once, such as times: new ones are normal, a new shape is not.
    if trained.cells < _MANY_CELLS or not trained.known or found.known:
        return False
    is_enough = found.unseen >= _FEW_CELLS and len(found.examples) == NUM_EXAMPLES
    is_clear = 0 < len(trained.shapes) < MOST_SHAPES and 0 < len(found.shapes) < MOST_SHAPES
    return is_enough and is_clear and not trained.shapes.keys() & found.shapes.keys()


def _is_enough(found: Counts) -> bool:
    if found.unseen > found.missing:
        return found.cells >= _FEW_CELLS and len(found.examples) == NUM_EXAMPLES
    return found.cells >= _MANY_MISSING


def _describe(column: Column, trained: Counts, found: Counts) -> str:
    texts = []
    if found.unseen:
        unseen = list(dict.fromkeys([*found.twins, *found.examples]))[:NUM_EXAMPLES]
        text = f"{_percent(found.share('unseen'))} of {found.cells:,} cells unseen"
        text += f", as {_quoted(unseen)} (training: {_percent(trained.share('unseen'))}"
        examples = list(dict.fromkeys([*found.twins.values(), *column.examples()]))[:NUM_EXAMPLES]
        texts.append(f"{text}, as {_quoted(examples)})" if examples else f"{text})")
    if found.missing:
        text = f"{_percent(found.share('missing'))} of {found.cells:,} cells missing"
        texts.append(f"{text} (training: {_percent(trained.share('missing'))})")
    return f"column '{column.name}': {' and '.join(texts)}"


def _percent(share: float) -> str:
    return f"{100 * share:.4g} %"


def _quoted(tokens: Sequence[str]) -> str:
    return " and ".join(repr(token) if len(token) < 60 else repr(token[:60]) for token in tokens)
