"""The report: counts, conventions and text, without torch."""
