"""Files of encoded rows, and of arrays by name: where they are, and how npz and h5 are opened."""

from fuxictr.array_files.damage import DAMAGE, Arrays, brief, naming_damage
from fuxictr.array_files.finding import SUFFIXES, find_encoded
from fuxictr.array_files.memory import available_memory, require_memory
from fuxictr.array_files.opening import open_arrays, read_whole
from fuxictr.array_files.searching import Found, natural_order, partitions, search, span

__all__ = [
    "DAMAGE",
    "SUFFIXES",
    "Arrays",
    "Found",
    "available_memory",
    "brief",
    "find_encoded",
    "naming_damage",
    "natural_order",
    "open_arrays",
    "partitions",
    "read_whole",
    "require_memory",
    "search",
    "span",
]
