"""The report: counts, conventions and text, without torch."""

from graphflops.core.retired import retired_names

__getattr__ = retired_names(__name__)
