"""Damaged files for the fuzz tests: a real file's bytes, changed in a few places.

A fuzz test is an inner function that hypothesis calls ``count`` times::

    @pytest.mark.parametrize("count", case_counts)
    def test_reader(count, tmp_path):
        @cases(count)
        @given(mutated(REAL_FILE))
        def check(data):
            with no_hang():
                ...

        check()

The cases of a test are the same in every run.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

# 200 cases with every run of the suite, 2,000 with `bash tests/run.sh --all`.
case_counts = [200, pytest.param(2000, marks=pytest.mark.slow)]

# Bytes that mean something to most readers: ends of numbers, signs, quotes, separators, no UTF-8.
SPECIAL = (
    *(b"\x00", b"\x01", b"\x7f", b"\x80", b"\xff", b"\xff\xff\xff\xff", b"\x00\x00\x00\x80"),
    *(b"\xff\xff\xff\xff\xff\xff\xff\x7f", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xc2\x85"),
    *(b"\n", b"\r", b"\r\n", b"\t", b" ", b'"', b"'", b",", b":", b"-", b".", b"0", b"9", b"#"),
    *(b"[", b"]", b"{", b"}", b"(", b")", b"\\", b"/", b"*", b"&", b"%", b"nan", b"inf", b"null"),
    *(b"1e999", b"99999999999999999999", b"-1"),
)


def cases(count: int) -> settings:
    """Returns the settings of ``count`` cases, the decorator around an inner ``@given`` function.

    Stacked calls of fixtures are no concern here: every case writes its own bytes.
    """
    return settings(
        max_examples=count,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )


@st.composite
def mutated(
    draw: st.DrawFn, data: bytes, tokens: Sequence[bytes] = (), max_mutations: int = 4
) -> bytes:
    """Draws ``data`` with one to ``max_mutations`` changes.

    Args:
        draw: given by hypothesis.
        data: the bytes of a real file.
        tokens: words of the file's format, which are written over and into it beside SPECIAL.
        max_mutations: number of changes at most.
    """
    words = st.sampled_from([*SPECIAL, *tokens])
    for change in draw(st.lists(st.sampled_from(_CHANGES), min_size=1, max_size=max_mutations)):
        data = change(draw, data, words)
    return data


class Hung(BaseException):
    """A case that took too long; no reader's ``except Exception`` swallows it."""


@contextlib.contextmanager
def no_hang(seconds: float = 20) -> Iterator[None]:
    """Ends the body with ``Hung`` when it has run for ``seconds`` of wall-clock time."""

    def stop(signum: int, frame: FrameType | None) -> None:
        raise Hung(f"still running after {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _place(draw: st.DrawFn, data: bytes) -> int:
    return draw(st.integers(0, max(0, len(data) - 1)))


def _slice(draw: st.DrawFn, data: bytes) -> tuple[int, int]:
    start = _place(draw, data)
    longest = draw(st.sampled_from([1, 4, 32, len(data) // 4 + 1]))
    return start, min(len(data), start + draw(st.integers(1, longest)))


def _flip(draw: st.DrawFn, data: bytes, words: st.SearchStrategy[bytes]) -> bytes:
    place = _place(draw, data)
    flipped = bytes(byte ^ 1 << draw(st.integers(0, 7)) for byte in data[place : place + 1])
    return data[:place] + flipped + data[place + 1 :]


def _insert(draw: st.DrawFn, data: bytes, words: st.SearchStrategy[bytes]) -> bytes:
    place = _place(draw, data)
    return data[:place] + draw(words | st.binary(max_size=8)) + data[place:]


def _overwrite(draw: st.DrawFn, data: bytes, words: st.SearchStrategy[bytes]) -> bytes:
    place = _place(draw, data)
    word = draw(words | st.binary(min_size=1, max_size=8))
    return data[:place] + word + data[place + len(word) :]


def _delete(draw: st.DrawFn, data: bytes, words: st.SearchStrategy[bytes]) -> bytes:
    start, end = _slice(draw, data)
    return data[:start] + data[end:]


def _truncate(draw: st.DrawFn, data: bytes, words: st.SearchStrategy[bytes]) -> bytes:
    return data[: max(0, len(data) - 1 - _place(draw, data))]


def _duplicate(draw: st.DrawFn, data: bytes, words: st.SearchStrategy[bytes]) -> bytes:
    start, end = _slice(draw, data)
    return data[:end] + data[start:end] * draw(st.integers(1, 3)) + data[end:]


def _splice(draw: st.DrawFn, data: bytes, words: st.SearchStrategy[bytes]) -> bytes:
    """Replaces one slice by another."""
    start, end = _slice(draw, data)
    from_, to = _slice(draw, data)
    return data[:start] + data[from_:to] + data[end:]


_CHANGES: list[Callable[[st.DrawFn, bytes, Any], bytes]]
_CHANGES = [_flip, _insert, _overwrite, _delete, _truncate, _duplicate, _splice]
