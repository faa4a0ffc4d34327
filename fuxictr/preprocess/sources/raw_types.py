"""The kinds of raw values to which columns read as text were fitted."""

from __future__ import annotations

from collections.abc import Iterable

from fuxictr.errors import DataError
from fuxictr.preprocess.sources.arrow_types import kind_of, texts_agree
from fuxictr.preprocess.sources.frames import Frame


class RawTypes:
    """Checks that columns read as text keep the kind of their values.

    A number has other text as int (7) and as float (7.0), which pandas makes of integers where one
    is missing; its rows would silently be ``__OOV__``. ``known`` is column -> kind; "null" where
    all values were missing.
    """

    def __init__(self, columns: Iterable[str]) -> None:
        self.known = dict.fromkeys(columns, "null")

    def check(self, frame: Frame) -> None:
        """Notes the kinds of a frame's columns; DataError where one differs from before."""
        for name in self.known.keys() & set(frame.table.column_names):
            known, found = self.known[name], kind_of(frame.table.schema.field(name).type)
            if known == "null":
                self.known[name] = found
            elif not texts_agree(known, found):
                raise DataError(
                    f"{frame.locate(0)} and after, column '{name}': found {found} values, but the "
                    f"column was fitted to {known} values, whose texts differ; {_advice(known)}"
                )


def _advice(known: str) -> str:
    if known in ("int", "float", "float32"):
        return "cast it, or set its dtype to int or float and fit again"
    return f"cast it to {known} values, or fit again"
