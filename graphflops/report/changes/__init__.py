"""Changes between two reports: matching of operators, differences that add up, and their text."""
