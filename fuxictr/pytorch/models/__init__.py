"""The base of all models."""

from fuxictr.pytorch.models.base_model import BaseModel

__all__ = ["BaseModel"]
