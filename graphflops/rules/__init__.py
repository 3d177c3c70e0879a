"""Rules: one formula for each kind of operator, and where rules come from."""
