"""The structural copy of a program, with fake tensors in the place of real ones."""
