"""The number of torch's threads: the machine's or what training has work for, if no user set it."""

from __future__ import annotations

import os

import torch

from fuxictr.cpus import usable_cpus

_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


class _Chosen:
    """The most threads, as found first, and what this module has set last: another is a user's."""

    most = now = torch.get_num_threads()
    is_to_stay = False  # it is that of a run which is repeated


def limit_threads() -> None:
    """Takes torch's own number of threads down to ``usable_cpus``: torch sees no CPU quota."""
    if torch.get_num_threads() > usable_cpus():
        take_threads(usable_cpus())


def take_threads(wanted: int) -> int:
    """Sets torch's number of threads; returns the number it has now.

    It is at most ``usable_cpus``, and at most what torch had when this project was imported. One
    that the user has set afterwards, or by OMP_NUM_THREADS or MKL_NUM_THREADS, is kept, and so is
    that of a run which is repeated.
    """
    if not (_Chosen.is_to_stay or _is_set_by_user()):
        _set(min(wanted, _Chosen.most, usable_cpus()))
    return torch.get_num_threads()


def repeat_threads(num_threads: int) -> None:
    """Sets the number of threads of an earlier run, which is repeated; a user's own is kept."""
    if not _is_set_by_user():
        _set(num_threads)
        _Chosen.is_to_stay = True


def _set(num_threads: int) -> None:
    if num_threads != torch.get_num_threads():
        torch.set_num_threads(num_threads)
    _Chosen.now = num_threads


def _is_set_by_user() -> bool:
    is_given = any(os.environ.get(name) for name in _VARIABLES)
    return is_given or torch.get_num_threads() != _Chosen.now
