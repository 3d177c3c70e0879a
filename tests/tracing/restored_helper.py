"""A file whose global counts calls: a program of another file imports it inside of a function."""

calls = 0
