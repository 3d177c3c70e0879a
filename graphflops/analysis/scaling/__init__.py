"""Laws: what a model costs as a function of its sizes, exact, from a few traces.

    ranges ─▶ points ─▶ lines ─▶ interpolation ─▶ Law ─▶ growth, arrays, text, JSON, plots

``points`` looks at the model, ``lines`` finds the powers of each size, ``interpolation`` the coefficients in all of
them, ``discovery`` composes these and holds what was found to points that took no part.
"""

from graphflops.analysis.scaling.laws import Law
from graphflops.analysis.scaling.ranges import Multiples, multiples
from graphflops.analysis.scaling.search import law

__all__ = ["Law", "Multiples", "law", "multiples"]
