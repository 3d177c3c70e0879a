"""The stages from a model to a report, composed."""

from graphflops.core.retired import retired_names

__getattr__ = retired_names(__name__)
