"""The base of all models."""

from fuxictr.pytorch.models.base_model import BaseModel
from fuxictr.pytorch.models.multi_task_model import MultiTaskModel

__all__ = ["BaseModel", "MultiTaskModel"]
