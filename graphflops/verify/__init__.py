"""Rules and models, checked against the operators that really run."""
