"""One value written in two ways: 7 and 7.0, True and true, with and without blanks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl

_MIDNIGHT = " 00:00:00"
# Shares of a vocabulary: of numbers among its tokens, and of tokens that are there with and without
# blanks. Version numbers, where 7 and 7.0 differ, have 7.0.1 too.
_MOSTLY, _MATERIAL = 0.9, 0.05


def other_spellings(token: str) -> list[str]:
    """Returns how the value of a token may be written as well, without the token itself."""
    text = token.strip()
    found = [text, text.lower(), text.upper(), text.capitalize()]
    if is_number(text):
        number = str(int(text.partition(".")[0]))
        found += [number, f"{number}.0", *(number.zfill(width) for width in (2, 3, 4))]
    day, _, rest = text.replace("T", " ").partition(" ")
    if day.count("-") == 2 and not rest.strip("0:.Z+"):
        found += [day, f"{day}{_MIDNIGHT}", f"{day}{_MIDNIGHT}.000000", f"{day}T00:00:00"]
    return [other for other in dict.fromkeys(found) if other != token]


def known_spelling(token: str, knows: Callable[[pl.Series], np.ndarray]) -> str | None:
    """Returns a known token that is the same value written otherwise, or None.

    Args:
        token: the token.
        knows: returns which tokens are known.
    """
    others = pl.Series(other_spellings(token), dtype=pl.String)
    known = others.filter(pl.Series(knows(others), dtype=pl.Boolean))
    return str(known[0]) if len(known) else None


def is_number(token: str) -> bool:
    """Returns whether a token is a whole number, 7 or 7.0, blanks around it or not."""
    whole, _, zeros = token.strip().partition(".")
    return whole.lstrip("+-").isdecimal() and not zeros.strip("0")


def find_twins(tokens: pl.Series) -> tuple[str, str] | None:
    """Returns two tokens of a vocabulary that are written in two ways, or None.

    Only where all speaks for it: 7 and 7.0 in a column of numbers, or 7 and 8.0 in one of whole
    numbers, truth values, and blanks around many tokens.

    Args:
        tokens: each one once.
    """
    # Cheap tests come first: there may be millions of tokens.
    floats = tokens.filter(tokens.str.contains(".0", literal=True))
    floats = floats.filter(floats.str.contains(r"^[+-]?[0-9]+\.0+$"))
    if len(floats):
        cut = floats.str.replace(r"\.0+$", "")
        is_twin = cut.is_in(tokens.implode())
        numbers = tokens.cast(pl.Float64, strict=False).count()
        if is_twin.any() and numbers >= _MOSTLY * len(tokens):
            return floats.filter(is_twin)[0], cut.filter(is_twin)[0]
        whole = tokens.filter(tokens.str.contains(r"^[+-]?[0-9]+$"))
        are_whole = len(whole) + len(floats) >= _MOSTLY * len(tokens)
        if are_whole and min(len(whole), len(floats)) >= max(_MATERIAL * len(tokens), 1):
            return floats[0], whole[0]
    truths = tokens.filter(tokens.str.len_bytes().is_between(4, 5))
    truths = truths.filter(truths.str.to_lowercase().is_in(["true", "false"]))
    for truth in ("true", "false") if len(truths) >= _MOSTLY * len(tokens) else ():
        written = truths.filter(truths.str.to_lowercase() == truth)
        if len(written) > 1:
            return written[0], written[1]
    stripped = tokens.str.strip_chars()
    has_blanks = stripped.str.len_bytes() < tokens.str.len_bytes()
    blank, bare = tokens.filter(has_blanks), stripped.filter(has_blanks)
    is_twin = bare.is_in(tokens.implode()) if len(bare) else pl.Series([], dtype=pl.Boolean)
    if is_twin.sum() >= max(_MATERIAL * len(tokens), 1):
        return blank.filter(is_twin)[0], bare.filter(is_twin)[0]
    return None
