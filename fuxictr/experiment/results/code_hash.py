"""The code that a run is computed by, as a hash."""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Iterable
from pathlib import Path

from fuxictr.experiment.zoo.models import ROOT

_RUN = "experiment/run/run.py"  # of all that plans and shows runs, the one file that makes them


@functools.cache
def model_hash(model_class: type) -> str:
    """Returns 12 hex digits over the sources of the model's own folder."""
    own = _own_folder(model_class)
    return _hash_sources({own: own.rglob("*.py")})


@functools.cache
def code_hash(model_class: type) -> str:
    """Returns 12 hex digits over the sources that a run of the model is computed by.

    They are the package, without what draws, analyses, schedules and parses commands, and the
    model's own folder, so that neither a new figure nor another backbone makes finished runs stale.
    """
    package, own = ROOT / "fuxictr", _own_folder(model_class)
    outside = [package / name for name in ("analysis", "cli", "experiment", "plotting")]
    files = [f for f in package.rglob("*.py") if not any(o in f.parents for o in outside)]
    return _hash_sources({package: [*files, package / _RUN], own: own.rglob("*.py")})


def _own_folder(model_class: type) -> Path:
    return Path(inspect.getfile(model_class)).resolve().parent


def _hash_sources(sources: dict[Path, Iterable[Path]]) -> str:
    """Returns 12 hex digits over files, folder -> files in it."""
    digest = hashlib.sha256()
    for folder, files in sources.items():
        for file in sorted(files):
            digest.update(file.relative_to(folder).as_posix().encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()[:12]
