"""A file of the user's that others import: its blocks' state is neither in them nor in their file."""

from __future__ import annotations

calls = 0
"""how often a block was called"""


def count() -> int:
    """Return how often this was called."""
    global calls
    calls += 1
    return calls


class Tally:
    """Counts in its class."""

    calls = 0

    def count(self) -> int:
        """Return how often this was called, of all tallies."""
        type(self).calls += 1
        return Tally.calls
