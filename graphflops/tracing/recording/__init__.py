"""The graph that is written while a program runs."""
