"""Laws: what a model costs as a function of its sizes, exact, from a few traces.

    ranges ─▶ points ─▶ lines ─▶ interpolation ─▶ Law ─▶ growth, arrays, text, JSON, plots

``points`` looks at the model, ``lines`` finds the powers of each size, ``interpolation`` the coefficients in all of
them, ``discovery`` composes these and holds what was found to points that took no part.
"""

from graphflops.scaling.finding import law
from graphflops.scaling.ranges import Multiples, multiples
from graphflops.scaling.record import Law

__all__ = ["Law", "Multiples", "law", "multiples"]
