"""A thread of its own for each analysis, and patches of PyTorch that only this thread sees."""
