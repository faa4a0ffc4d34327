"""What a user did, where, what is allowed, and the nearest match."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Set
from typing import Any


class FuxiCTRError(Exception):
    """Base of all errors that tell a user what to change; the text needs no traceback."""


class ConfigError(FuxiCTRError, ValueError):
    """A key, value, expid or command-line option that cannot be used."""


class DataError(FuxiCTRError, ValueError):
    """A data file, column or row that cannot be used."""


class CheckpointError(FuxiCTRError, RuntimeError):
    """A checkpoint or a recording that is missing or does not fit the model."""


class DownloadError(FuxiCTRError, RuntimeError):
    """A dataset that cannot be fetched, verified or unpacked."""


class Interrupted(KeyboardInterrupt):
    """A signal ended the command; ``text`` says what is saved, and how to go on."""

    def __init__(self, text: str, signal: int) -> None:
        super().__init__(text)
        self.signal = signal


def nearest(word: str, allowed: Iterable[str]) -> str | None:
    """Returns the allowed word most like ``word``, in any case, or None if none is close."""
    words = {str(choice).lower(): str(choice) for choice in allowed}
    matches = difflib.get_close_matches(str(word).lower(), words, n=1, cutoff=0.6)
    return words[matches[0]] if matches else None


def did_you_mean(word: str, allowed: Iterable[str]) -> str:
    """Returns "; did you mean 'x'?" for the nearest allowed word, or an empty string."""
    match = nearest(word, allowed)
    if not match:
        return ""
    shown = match if match.isprintable() else repr(match)[1:-1]  # a message is one line
    return f"; did you mean '{shown}'?"


def as_names(given: Any, what: str) -> list[str]:
    """Returns names as a list; a text alone is one name, and a set comes in sorted order.

    Raises ConfigError, which names the parameter ``what``, for anything else.
    """
    if isinstance(given, str):
        return [given]
    names = None
    if isinstance(given, Iterable) and not isinstance(given, (bytes, Mapping)):
        names = list(given)
    if names is None or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"{what}: found {given!r:.200}, allowed: a name, or a list of names")
    return sorted(names) if isinstance(given, Set) else names
