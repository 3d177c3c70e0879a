"""The graph of operators, and the passes on it."""
