"""Scaling laws: the cost of a model as a function of its sizes, exact, from a few traces.

    ranges ─▶ sample_points ─▶ univariate ─▶ interpolation ─▶ fitting ─▶ Law ─▶ growth, arrays, text, JSON, plots
                                                 boundaries ─▶ windows

``sample_points`` traces the model, ``univariate`` derives the powers of each size, ``interpolation`` the coefficients
in all sizes, ``fitting`` composes these and validates the result at points to which it was not fitted. Where that fails
``boundaries`` finds where another piece begins, and ``windows`` writes two pieces as one expression. Expressions are
``polynomials`` in ``atoms`` (sizes, floors, logarithms, steps) and ``extrema``.
"""

from graphflops.analysis.scaling.derivation import law
from graphflops.analysis.scaling.laws import Law
from graphflops.analysis.scaling.ranges import SizeRange, multiples

__all__ = ["Law", "SizeRange", "law", "multiples"]
