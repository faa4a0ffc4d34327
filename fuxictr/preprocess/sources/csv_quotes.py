"""Checks the quotes of a csv, which the fast reader does not."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa

_BOM = b"\xef\xbb\xbf"
_LINE_ENDS = b"\r\n"


class QuoteWatch:
    """Watches the bytes of a csv for quotes that a strict reader might refuse.

    A quote that is never closed swallows later rows, and one closed within a cell changes the cell.
    An opening quote must begin a cell, and a closing one must end it, or two stand side by side.
    Any other quote sets ``is_suspicious``: a strict reader must check the file.
    """

    def __init__(self, separator: str, quote_char: str | None) -> None:
        self.is_suspicious = False
        self._quote = (quote_char or "").encode()
        self._ends = np.zeros(256, dtype=bool)
        self._ends[list(separator.encode() + _LINE_ENDS + self._quote)] = True
        self._num_quotes = 0
        self._carried = b"\n"  # the last byte judged, and what is not judged yet
        self._at_start = True

    def add(self, data: bytes) -> None:
        """Looks at the next bytes, at least 3 at first."""
        if not self._quote or self.is_suspicious or not data:
            return
        if self._at_start:
            data, self._at_start = data.removeprefix(_BOM), False
        if self._quote in data or self._quote in self._carried:
            self._judge(self._carried + data)
        self._carried = (self._carried + data[-2:])[-2:]

    def finish(self) -> None:
        """Takes note that there are no more bytes."""
        self.add(b"\n")
        self.is_suspicious |= self._num_quotes % 2 == 1

    def _judge(self, data: bytes) -> None:
        # All bytes but the first and the last one, which have no neighbours yet.
        values = np.frombuffer(data, dtype=np.uint8)
        places = np.flatnonzero(values[1:-1] == self._quote[0])
        first = self._num_quotes % 2  # quotes open and close in turns
        before, behind = values[places[first::2]], values[2:][places[1 - first :: 2]]
        self._num_quotes += len(places)
        self.is_suspicious |= not (self._ends[before].all() and self._ends[behind].all())


class WatchedFile(io.RawIOBase):
    """The uncompressed bytes of a csv for the fast reader; ``watch`` sees them too."""

    def __init__(self, path: Path, watch: QuoteWatch) -> None:
        self._file = pa.input_stream(
            str(path), compression="gzip" if path.suffix == ".gz" else None
        )
        self._watch = watch
        self._held = b""

    def readable(self) -> bool:
        """Returns True."""
        return True

    def read(self, size: int = -1, /) -> bytes:
        """Returns the next bytes; none end in CR, or the fast reader would drop the LF after it."""
        data: bytes = self._held + self._file.read(size - len(self._held))
        self._held = b""
        behind = self._file.read(1) if data.endswith(b"\r") else b""
        if behind and len(data) > 1:
            data, self._held = data[:-1], b"\r" + behind
        else:
            self._held = behind
        self._watch.add(data)
        return data

    def close(self) -> None:
        """Closes the file."""
        self._file.close()
        super().close()
