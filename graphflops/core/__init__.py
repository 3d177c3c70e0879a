"""Records without torch or files: sizes, costs, entries, rates, errors."""
