"""The backbones by their names: ``from model_zoo import DeepFM`` gives the class."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))

from fuxictr.experiment.zoo.models import load_model_class, zoo_models


def __getattr__(name: str) -> type:
    if name not in zoo_models():
        raise AttributeError(f"module 'model_zoo' has no model '{name}'")
    return load_model_class(name)


def __dir__() -> list[str]:
    return zoo_models()
