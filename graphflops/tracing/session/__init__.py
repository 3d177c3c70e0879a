"""The analysis that runs in this thread, and what it hands to whoever intercepts a call."""
