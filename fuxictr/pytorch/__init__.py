"""The PyTorch part: layers, loaders, models, trainer. Needs torch and numpy alone."""

from fuxictr.pytorch.layers.generation import GEN, build_generators
from fuxictr.pytorch.threads import limit_threads

__all__ = ["GEN", "build_generators"]

limit_threads()
