"""A dataset's own FeatureProcessor, from the file that key 'processor' names."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from pathlib import Path

from fuxictr.errors import ConfigError
from fuxictr.preprocess.dataset.processor import FeatureProcessor


def load_processor(given: str | None, base_dir: Path) -> type[FeatureProcessor]:
    """Imports a user's processor class; ConfigError where that fails.

    ``given`` is ``file.py:Class``, or ``file.py`` with a FeatureProcessor; None = the plain one.
    """
    if given is None:
        return FeatureProcessor
    name, _, class_name = given.partition(":")
    path = (base_dir / Path(name).expanduser()).resolve()
    if not path.is_file():
        raise ConfigError(f"key 'processor': found '{given}': no such file {path}")
    module_name = f"processor_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise ConfigError(
            f"key 'processor': found '{given}', allowed: a .py file, or file.py:Class"
        )
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # a user's file may raise anything
        raise ConfigError(f"{path}: cannot be imported: {type(error).__name__}: {error}") from error
    found = getattr(module, class_name or "FeatureProcessor", None)
    if not isinstance(found, type) or not issubclass(found, FeatureProcessor):
        raise ConfigError(
            f"{path}: key 'processor': found no class '{class_name or 'FeatureProcessor'}' derived "
            "from fuxictr.preprocess.FeatureProcessor"
        )
    return found
