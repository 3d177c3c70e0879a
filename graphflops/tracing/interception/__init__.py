"""How the calls of a program are intercepted."""
