"""Two spellings of one value: 7 and 07, True and true, a date with and without a time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl

_BLANKS = " \t\r\n\u00a0\ufeff\"'"
_WHOLE = r"^[+-]?(?:[0-9]+|[0-9]{1,3}(?:,[0-9]{3})+)(?:\.0*)?$"
_POWER = r"^[0-9](?:\.[0-9]+)?e\+?[0-9]{1,2}$"
_DAY = r"^([0-9]{4})[-/.]([0-9]{1,2})[-/.]([0-9]{1,2})(?:[ t][0:.z+]*)?$"
_DIGITS_OF_DAY = r"^((?:19|20)[0-9]{2})(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])$"
_ISO_DAY = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
_TRUTHS = {"true": "1", "yes": "1", "false": "0", "no": "0"}
_LETTERS = {"t": "1", "y": "1", "f": "0", "n": "0"}
# Of a training split: how many frequent tokens are compared; the least share of cells in the rarer
# spelling; and the least share in either one, where one value only has two.
_MOST_TOKENS, _PART, _MOSTLY = 100_000, 0.1, 0.6
# Version numbers, where 7 and 7.0 differ, have 7.1 or 7.0.1 too.
_VERSIONS, _VERSION, _POINT_ZERO = 0.05, r"^[0-9]+\.[0-9.]*[1-9][0-9.]*$", r"\.0+$"


def canonical(tokens: pl.Series) -> pl.Series:
    """Returns tokens in the plain form that all spellings of a value share.

    Whole numbers become ``7``, days ``2024-01-31``, true and yes ``1``, false and no ``0``. Other
    texts become lower case, without blanks and quotes around them.
    """
    text = tokens.str.strip_chars(_BLANKS).str.to_lowercase()
    power = text.str.contains(_POWER)
    if power.any():
        number = text.cast(pl.Float64, strict=False)
        power &= (number < 1 << 53) & (number == number.floor())
        whole = number.set(~power, None).cast(pl.Int64, strict=False).cast(pl.String)
        text = whole.zip_with(whole.is_not_null(), text)
    number = text.str.replace_all(",", "", literal=True).str.replace(r"\.0*$", "")
    number = number.str.replace(r"^\+", "").str.replace(r"^(-?)0+([0-9])", "${1}${2}")
    text = number.zip_with(text.str.contains(_WHOLE), text)
    day = text.str.replace(_DIGITS_OF_DAY, "$1-$2-$3").str.replace(_DAY, "$1-$2-$3")
    padded = day.str.replace(r"-([0-9])-", "-0$1-").str.replace(r"-([0-9])$", "-0$1")
    text = padded.zip_with(day.str.contains(r"^[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}$"), text)
    return text.replace(_TRUTHS)


def known_spellings(tokens: pl.Series, knows: Callable[[pl.Series], np.ndarray]) -> pl.Series:
    """Returns for each token a known one of the same value in another spelling, or None."""
    found = pl.Series([None] * len(tokens), dtype=pl.String)
    others = _spellings(tokens) if len(tokens) else []
    known = np.asarray(knows(pl.concat(others)) if others else []).reshape(len(others), -1)
    for other, is_known in zip(others, known, strict=True):
        is_found = pl.Series(is_known, dtype=pl.Boolean) & (other != tokens)
        found = other.zip_with((found.is_null() & is_found).fill_null(False), found)
    return found


def shapes(tokens: pl.Series) -> pl.Series:
    """Returns how tokens look: runs of digits as 9, of letters as a, of both as x."""
    runs = tokens.str.replace_all(r"\p{L}+", "a").str.replace_all(r"\p{N}+", "9")
    return runs.str.replace_all(r"[a9]{2,}", "x")


def is_number(token: str) -> bool:
    """Returns whether a token is a whole number, 7 or 7.0, blanks around it or not."""
    whole, _, zeros = token.strip().partition(".")
    return whole.lstrip("+-").isdecimal() and not zeros.strip("0")


def find_twins(counted: pl.DataFrame) -> tuple[str, str] | None:
    """Returns two training tokens that are one value written in two ways, or None.

    A tenth of the cells must have the rarer spelling, of two values or more, or of one in most
    cells. 7 and 8.0 are two ways as well. ``counted`` has each ``token`` and its cells (``count``).
    """
    cells = int(counted["count"].sum())
    table = counted.sort(["count", "token"], descending=[True, False]).head(_MOST_TOKENS)
    token, count = pl.col("token"), pl.col("count")
    versions = table.filter(token.str.contains(_VERSION))["count"].sum()
    if versions >= _VERSIONS * cells:
        table = table.filter(~token.str.contains(_POINT_ZERO))
    table = table.with_columns(value=canonical(table["token"]))
    groups = table.filter(pl.len().over("value") > 1).group_by("value", maintain_order=True)
    pairs = groups.agg(token.first(), token.get(1).alias("other"), count.sum(), rare=count.max())
    rare = (pairs["count"] - pairs["rare"]).sum()
    # One pair may be chance, but not where only blanks differ, nor among truth values.
    truths = table.filter(pl.col("value").is_in(["0", "1"]) & token.str.contains("[a-zA-Z]"))
    is_blank = (pairs["token"].str.strip_chars() == pairs["other"].str.strip_chars()).any()
    covered = max(pairs["count"].sum(), truths["count"].sum())
    is_enough = len(pairs) > 1 or is_blank or covered >= _MOSTLY * cells
    if len(pairs) and rare >= _PART * cells and is_enough:
        return str(pairs["other"][0]), str(pairs["token"][0])
    floats = table.filter(token.str.contains(r"^[+-]?[0-9]+\.0+$"))
    whole = table.filter(token.str.contains(r"^[+-]?(?:0|[1-9][0-9]*)$"))
    sizes = [part["count"].sum() for part in (floats, whole)]
    if min(sizes) >= max(_PART * cells, 1) and sum(sizes) >= 0.9 * cells:
        return str(floats["token"][0]), str(whole["token"][0])
    return None


def _spellings(tokens: pl.Series) -> list[pl.Series]:
    """Returns other spellings of tokens, the likely ones first; None where there is none."""
    text = tokens.str.strip_chars(_BLANKS)
    lower, value = text.str.to_lowercase(), canonical(tokens)
    value = lower.replace(_LETTERS).zip_with(lower.is_in([*_LETTERS]), value)
    first = text.str.slice(0, 1).str.to_uppercase() + lower.str.slice(1)
    found = [text, lower, text.str.to_uppercase(), first, text + " ", " " + text]
    found += ['"' + text + '"', "'" + text + "'"]
    number = value.set(~value.str.contains(r"^-?[0-9]+$"), None)
    if number.null_count() < len(number):
        groups = number.str.reverse().str.replace_all(r"([0-9]{3})", "${1},").str.strip_chars(",")
        padded = [number.str.zfill(width) for width in (2, 3, 4, 5)]
        # A letter is a truth value only where these are words.
        digit = number.set(lower.is_in([*_LETTERS]), None)
        found += [digit, number + ".0", *padded, groups.str.reverse()]
        for words in (["false", "true"], ["no", "yes"], ["f", "t"], ["n", "y"]):
            # Letters and words stand for each other, never for numbers.
            meant = number if len(words[0]) > 1 else number.set(~lower.is_in([*_TRUTHS]), None)
            word = meant.replace_strict(["0", "1"], words, default=None, return_dtype=pl.String)
            found += [word, word.str.to_titlecase(), word.str.to_uppercase()]
    day = value.set(~value.str.contains(_ISO_DAY), None)
    if day.null_count() < len(day):
        bare = day.str.replace_all(r"-0", "-")
        midnight = [day + time for time in (" 00:00:00", " 00:00:00.000000", "T00:00:00")]
        compact = day.str.replace_all("-", "", literal=True)
        slashes = [text.str.replace_all("-", "/", literal=True) for text in (day, bare)]
        found += [day, *midnight, compact, compact + ".0", bare, *slashes]
    return found
