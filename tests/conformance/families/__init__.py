"""The zoo, a module for each family."""
