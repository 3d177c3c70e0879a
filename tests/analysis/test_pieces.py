"""Laws with boundaries: pieces, minima, maxima and logarithms, each against the cost that it is the law of."""

import json
from fractions import Fraction
from math import ceil, isqrt, log2
from pathlib import Path

import numpy as np
import pytest
import sympy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from synthetic import law_of, points_of, quantity

from graphflops import Law, LawError, UsageError, multiples
from graphflops.analysis.scaling.atoms import AtLeast, Atom, Log2
from graphflops.analysis.scaling.extrema import maximum, minimum
from graphflops.analysis.scaling.fitting import fit
from graphflops.analysis.scaling.notation import format_polynomial
from graphflops.analysis.scaling.polynomials import Polynomial
from graphflops.analysis.scaling.ranges import SizeRange
from graphflops.report.conventions import STANDARD

QUICK = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
N, D = Polynomial.symbol("N"), Polynomial.symbol("D")


def text(law: Law) -> str:
    return format_polynomial(law.polynomial("forward"), tuple(law.sizes))


def law_with(polynomial: Polynomial, max_value: int | None = None) -> Law:
    """A law in N and D, at 100 and 10."""
    return Law("model", {"N": SizeRange(1, 100, max_value), "D": SizeRange(1, 10)}, {quantity(): polynomial}, STANDARD)


def whole(number: int) -> Polynomial:
    return Polynomial({(): Fraction(number)})


class TestBoundaries:
    @pytest.mark.parametrize("window", [66, 80, 512, 700])
    def test_a_window_is_a_minimum(self, window: int) -> None:
        def cost(B: int, N: int) -> int:
            return B * N * min(N, window) + 3 * N

        law = law_of({"B": 4, "N": 64}, cost=cost)
        assert text(law) == f"N·(B·min(N, {window}) + 3)"
        for length in (1, window - 1, window, window + 1, 10**6):
            assert law.evaluate("forward", B=3, N=length) == cost(3, length)

    def test_lengths_far_below_the_base_are_validated_too(self) -> None:
        """BigBird attends to all keys of a short sequence, and to blocks of a longer one."""

        def cost(B: int, N: int) -> int:
            return B * (N * N if N <= 176 else 700 * N)

        law = law_of({"B": 2, "N": multiples(16, base=512)}, cost=cost)
        for length in (16, 160, 176, 192, 4096):
            assert law.evaluate("forward", N=length) == cost(2, length)

    def test_a_width_from_which_on_other_code_runs(self) -> None:
        """Heads of up to 256 share their keys; wider ones have copies."""

        def cost(B: int, D: int) -> int:
            return B * D * D + (0 if D // 4 <= 256 else 7 * B * D)

        law = law_of({"B": 2, "D": multiples(8, base=64)}, cost=cost)
        assert text(law) == "B·D² for D < 1,032; B·D·(D + 7) for D ≥ 1,032"
        for width in (1016, 1024, 1032, 1040, 8192):
            assert law.evaluate("forward", D=width) == cost(2, width)

    def test_a_batch_of_one(self) -> None:
        law = law_of({"B": 1, "N": 64}, cost=lambda B, N: B * N + (5 * N if B == 1 else 0))
        assert text(law) == "6·N for B < 2; B·N for B ≥ 2"

    def test_boundaries_of_two_sizes(self) -> None:
        def cost(N: int, D: int) -> int:
            return N * min(N, 200) * D + (7 * D if D > 100 else 3 * D * D)

        law = law_of({"N": 64, "D": 8}, cost=cost)
        for length in (1, 199, 200, 201, 999):
            for width in (1, 100, 101, 500):
                assert law.evaluate("forward", N=length, D=width) == cost(length, width)

    def test_each_side_is_validated_at_and_beside_the_boundary(self) -> None:
        law = law_of({"B": 4, "N": 64}, cost=lambda B, N: B * min(N, 700))
        assert {699, 700, 701, 702} <= {point["N"] for point in law.validated}

    def test_strides_on_both_sides(self) -> None:
        law = law_of({"I": 64}, cost=lambda I: ((I + 1) // 2) ** 2 * (1 if I < 300 else 2))  # noqa: E741
        assert text(law) == "⌈I/2⌉² for I < 300; 2·⌈I/2⌉² for I ≥ 300"

    def test_a_logarithm(self) -> None:
        def cost(B: int, N: int) -> int:
            return 5 * B * N * ceil(log2(N)) + N * N

        law = law_of({"B": 2, "N": 100}, cost=cost)
        assert text(law) == "N·(5·B·⌈log₂ N⌉ + N)"
        for length in (1, 2, 3, 64, 65, 4096, 4097):
            assert law.evaluate("forward", N=length) == cost(2, length)

    def test_a_search_has_the_logarithm_of_one_more(self) -> None:
        assert text(law_of({"N": 100}, cost=lambda N: 3 * N.bit_length())) == "3·⌈log₂ (N + 1)⌉"

    def test_a_maximum_of_the_range_leaves_one_side(self) -> None:
        law = law_of({"N": multiples(1, base=64, max=400)}, cost=lambda N: min(N, 500))
        assert text(law) == "N"
        law = law_of({"N": multiples(1, base=600, min=500)}, cost=lambda N: min(N, 500))
        assert text(law) == "500"
        with pytest.raises(UsageError, match="at least 500"):
            law.evaluate("forward", N=499)


class TestErrors:
    def test_have_the_side_with_a_law(self) -> None:
        with pytest.raises(LawError, match=r"up to 499: give N=multiples\(1, base=64, max=499\)"):
            law_of({"N": 64}, cost=lambda N: N if N < 500 else isqrt(N**3))

    def test_a_boundary_that_moves_with_another_size(self) -> None:
        with pytest.raises(LawError, match="no exact polynomial"):
            law_of({"W": 64, "N": 64}, cost=lambda W, N: N * min(N, W))

    def test_more_pieces_than_a_law_has(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("graphflops.analysis.scaling.fitting.MAX_PIECES", 2)
        with pytest.raises(LawError, match="no exact polynomial"):
            law_of({"N": 64}, cost=lambda N: min(N, 200) + 3 * min(N, 900) ** 2)


FACTORS = [
    Polynomial.monomial(Atom("N", 2)),
    Polynomial.monomial(Log2("N")),
    Polynomial.monomial(AtLeast("N", 50)) * N,
    minimum([N, whole(70)]),
    maximum([N * N, 40 * N + 3 * D, whole(5000)]),
]


@st.composite
def expressions(draw: st.DrawFn) -> Polynomial:
    terms = draw(st.lists(st.tuples(st.integers(0, 50), st.sampled_from(FACTORS)), min_size=1, max_size=4))
    return Polynomial.sum(terms) + draw(st.integers(1, 5)) * N


class TestQueries:
    @QUICK
    @given(expressions(), st.lists(st.tuples(st.integers(1, 200), st.integers(1, 20)), min_size=1, max_size=9))
    def test_arrays_and_sympy_have_the_same_numbers(self, cost: Polynomial, sizes: list[tuple[int, int]]) -> None:
        law = law_with(cost)
        n, d = map(np.array, zip(*sizes, strict=True))
        expected = [cost.evaluate({"N": a, "D": b}) for a, b in sizes]
        assert law.evaluate_array("forward", N=n, D=d).tolist() == expected
        symbols = sympy.symbols("N D", integer=True, positive=True)
        assert [law.forward.subs(dict(zip(symbols, at, strict=True))) for at in sizes] == expected

    @QUICK
    @given(expressions())
    def test_a_law_is_equal_after_a_round_trip(self, tmp_path: Path, cost: Polynomial) -> None:
        path = law_with(cost).to_json(tmp_path / "law.json")
        assert Law.from_json(path) == law_with(cost)

    @QUICK
    @given(expressions(), st.integers(1, 10**6))
    def test_the_largest_size_within_a_budget(self, cost: Polynomial, budget: int) -> None:
        law = law_with(cost)
        costs = law.sweep("N", range(1, 3000), "forward")
        within = [n for n, value in enumerate(costs, 1) if value <= budget]
        if not within:
            with pytest.raises(UsageError, match="no N keeps"):
                law.solve("N", budget, "forward")
        elif within[-1] < 2999:
            assert law.solve("N", budget, "forward") == within[-1]

    def test_numbers_of_more_than_63_bits(self) -> None:
        law = law_with(minimum([N * N * N, whole(10)]) + maximum([N, D]))
        assert law.evaluate_array("forward", N=np.array([1, 2**40]), D=np.array([1, 1])).tolist() == [2, 10 + 2**40]

    def test_the_crossover_of_a_window_with_a_square(self) -> None:
        window, square = law_with(N * minimum([N, whole(64)])), law_with(N * N)
        assert window.crossover(square, "N", "forward").at == (65,)

    def test_orders(self) -> None:
        assert str(law_with(5 * N * Polynomial.monomial(Log2("N"))).order("N")).startswith("O(N·log N): 5·N·⌈log₂ N⌉")
        assert str(law_with(N * minimum([N, whole(64)])).order("N")).startswith("O(N): 64·N")
        assert str(law_with(maximum([N * D, N * N + D])).order("N")).startswith("O(N²): N²")
        later = D * N * Polynomial.monomial(AtLeast("N", 100))
        assert str(law_with(N * N + later).order("D")).startswith("O(D): 0 for N < 100; N·D for N ≥ 100")

    def test_the_text_has_a_line_for_each_piece(self) -> None:
        law = law_with(N + D * Polynomial.monomial(AtLeast("N", 100)))
        lines = [line.strip() for line in str(law).splitlines()]
        assert "total  N for N < 100" in lines
        assert lines.count("N + D for N ≥ 100") == 2  # of the component and of the total

    def test_a_plot(self, tmp_path: Path) -> None:
        from graphflops.analysis.scaling.plotting import plot

        law = law_with(N * minimum([N, whole(64)]) + Polynomial.monomial(Log2("N")))
        assert plot(law, "N", [16, 64, 128, 256], tmp_path / "law.svg", "forward").stat().st_size > 1000
        assert "min(N, 64)" in json.dumps(law.section(phase="forward").rows, ensure_ascii=False)


class TestExtrema:
    def test_members_that_are_never_the_largest_are_gone(self) -> None:
        assert maximum([N, 2 * N + D, N * D + 2 * N + D]) == N * D + 2 * N + D
        assert minimum([N, 2 * N + D]) == N

    def test_common_factors_stand_outside(self) -> None:
        assert format_polynomial(maximum([6 * N * D, 4 * N * N]), ["N", "D"]) == "2·N·max(2·N, 3·D)"

    def test_the_order_of_the_members_does_not_matter(self) -> None:
        first, second, third = N * N, 40 * D, whole(7)
        assert maximum([first, maximum([second, third])]) == maximum([third, first, second])

    def test_sizes_may_be_given_one_after_the_other(self) -> None:
        cost = maximum([N * D, whole(50)]) + minimum([N, D])
        assert cost.substitute({"D": 10}).substitute({"N": 7}) == whole(77)
        assert cost.substitute({"D": 10}).evaluate({"N": 3}) == 53


def test_the_points_of_a_piece_are_traced_once() -> None:
    traced: list[tuple[int, ...]] = []

    def cost(B: int, N: int) -> int:
        traced.append((B, N))
        return B * min(N, 700)

    points = points_of({"B": 4, "N": 64}, cost=cost)
    fit(points)
    assert len(set(traced)) == len(traced) == len(points.observations)
