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
    return _own_sources(hashlib.sha256(), model_class)


@functools.cache
def code_hash(model_class: type) -> str:
    """Returns 12 hex digits over the sources that a run of the model is computed by.

    They are the package, without what draws, analyses, schedules and parses commands, and the
    model's own folder, so that neither a new figure nor another backbone makes finished runs stale.
    """
    return _own_sources(package_digest().copy(), model_class)


@functools.cache
def package_digest() -> hashlib._Hash:
    """Returns the digest of the package's part of ``code_hash``; callers go on with a copy."""
    package = ROOT / "fuxictr"
    outside = [package / name for name in ("analysis", "cli", "experiment", "plotting")]
    files = [f for f in package.rglob("*.py") if not any(o in f.parents for o in outside)]
    digest = hashlib.sha256()
    _add_sources(digest, package, [*files, package / _RUN])
    return digest


def _own_sources(digest: hashlib._Hash, model_class: type) -> str:
    """Returns 12 hex digits of a digest, to which the model's own folder is added."""
    own = Path(inspect.getfile(model_class)).resolve().parent
    _add_sources(digest, own, own.rglob("*.py"))
    return digest.hexdigest()[:12]


def _add_sources(digest: hashlib._Hash, folder: Path, files: Iterable[Path]) -> None:
    for file in sorted(files):
        digest.update(file.relative_to(folder).as_posix().encode())
        digest.update(file.read_bytes())
