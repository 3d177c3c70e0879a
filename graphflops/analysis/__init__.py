"""The stages from a model to a report, composed."""
