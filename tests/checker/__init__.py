"""Independent checkers: they read stores with the plain drivers and share no code with what they check."""

from tests.checker.compare import Difference, compare
from tests.checker.rawstore import Contents, RawMemory, RawRelationship, read
from tests.checker.snapshot import snapshot

__all__ = ["Contents", "Difference", "RawMemory", "RawRelationship", "compare", "read", "snapshot"]
