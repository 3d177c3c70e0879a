"""Blocks of equal structure run once."""
