"""Exports: a report in the formats of other programs. Each renderer is a plain function of a report."""
