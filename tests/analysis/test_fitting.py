"""Fits of costs that are given as formulas: exact polynomials from few points, or an error with the reason."""

from collections.abc import Mapping
from math import ceil, isqrt

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from synthetic import law_of, points_of, polynomial

from graphflops import LawError, UsageError, multiples
from graphflops.analysis.scaling.notation import format_polynomial
from graphflops.analysis.scaling.polynomials import Polynomial
from graphflops.analysis.scaling.sample_points import SamplePoints

NAMES = ("B", "N", "D")
QUICK = settings(
    max_examples=12,
    deadline=None,
    phases=(Phase.reuse, Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)


def text(law: Polynomial, *names: str) -> str:
    return format_polynomial(law, names or NAMES)


@st.composite
def polynomials(draw: st.DrawFn) -> Polynomial:
    powers = st.tuples(*(st.integers(0, most) for most in (1, 3, 2)))
    terms = draw(st.dictionaries(powers, st.integers(-50, 200).filter(bool), min_size=1, max_size=5))
    return polynomial({tuple(zip(NAMES, powers, strict=True)): value for powers, value in terms.items()})


class TestFit:
    @QUICK
    @given(polynomials(), st.tuples(*(st.integers(1, 64),) * 3))
    def test_any_polynomial_with_whole_coefficients(self, cost: Polynomial, base: tuple[int, ...]) -> None:
        law = law_of(dict(zip(NAMES, base, strict=True)), cost=lambda **at: int(cost.evaluate(at)))
        assert law.polynomial("forward") == cost

    @QUICK
    @given(
        st.integers(2, 32),
        st.integers(0, 40),
        st.integers(1, 3),
        st.integers(1, 300),
        st.integers(1, 50),
        st.booleans(),
    )
    def test_any_stride_and_any_padding(
        self, stride: int, padding: int, power: int, base: int, factor: int, also: bool
    ) -> None:
        def cost(B: int, I: int) -> int:  # noqa: E741
            return factor * B * ((I + padding) // stride) ** power + also * 7 * B

        law = law_of({"B": 2, "I": base + stride}, cost=cost)
        for size in range(base + stride, base + 4 * stride):
            assert law.evaluate("forward", I=size) == cost(2, size)

    @settings(QUICK, max_examples=6)  # a fit among 2,000 floors takes half a second
    @given(st.integers(2, 32), st.integers(0, 31), st.sampled_from([(1, 1), (2, 1), (1, 2)]), st.integers(1, 300))
    def test_a_size_times_a_floor_of_it(self, stride: int, padding: int, powers: tuple[int, int], base: int) -> None:
        def cost(B: int, D: int) -> int:
            return B * D ** powers[0] * ((D + padding) // stride) ** powers[1] + 5 * D * D + 3 * B

        law = law_of({"B": 2, "D": base + stride}, cost=cost)
        for size in range(base + stride, base + 4 * stride):
            assert law.evaluate("forward", D=size) == cost(2, size)

    def test_independent_sizes_do_not_occur(self) -> None:
        law = law_of({"B": 4, "N": 9, "D": 3}, cost=lambda B, N, D: 6 * B * D)
        assert text(law.polynomial("forward")) == "6·B·D"

    def test_terms_that_vanish_at_one_head_or_one_layer(self) -> None:
        law = law_of({"B": 1, "N": 1, "D": 1}, cost=lambda B, N, D: (B - 1) * N * D + (D - 1) * (N - 1))
        assert text(law.polynomial("forward")) == "B·N·D − N − D + 1"

    def test_a_triangle_has_halves_and_whole_values(self) -> None:
        law = law_of({"B": 4, "N": 16}, cost=lambda B, N: B * N * (N + 1) // 2)
        assert text(law.polynomial("forward"), "B", "N") == "B·N·(N + 1)/2"
        assert law.evaluate("forward", B=3, N=5) == 45

    def test_nested_strides_are_one_floor(self) -> None:
        law = law_of({"I": 224}, cost=lambda I: ceil(ceil(ceil(I / 2) / 2) / 8) ** 2)  # noqa: E741
        assert text(law.polynomial("forward"), "I") == "⌈I/32⌉²"

    def test_several_strides_in_separate_calls(self) -> None:
        law = law_of({"I": 100}, one=lambda I: 3 * (I // 2), two=lambda I: ((I + 3) // 4) ** 2)  # noqa: E741
        assert text(law.polynomial("forward"), "I") == "⌈I/4⌉² + 3·⌊I/2⌋"

    def test_floors_of_multiples_are_linear(self) -> None:
        law = law_of({"I": multiples(32, base=224)}, cost=lambda I: (I // 32) ** 2)  # noqa: E741
        assert text(law.polynomial("forward"), "I") == "I²/1024"

    def test_few_points_suffice(self) -> None:
        law = law_of(dict.fromkeys("BNDVEKL", 8), cost=lambda B, N, D, V, E, K, L: B * N * K * L * (8 * D**2 + 2 * D))
        assert law.traces <= 40

    def test_fits_are_reproducible(self) -> None:
        first, second = (law_of({"B": 5, "N": 7}, cost=lambda B, N: 3 * B * N) for _ in range(2))
        assert first == second

    def test_rejected_points_are_left_out(self) -> None:
        def cost(E: int, K: int) -> int:
            if K > E:
                raise ValueError("K is at most E")
            return 5 * E + K

        points = points_of({"E": 4, "K": 1}, cost=cost)
        from graphflops.analysis.scaling.fitting import fit

        (law,) = fit(points).polynomials.values()
        assert text(law, "E", "K") == "5·E + K"
        assert all(sizes["K"] > sizes["E"] for sizes in map(points.as_sizes, points.rejected))
        assert set(points.rejected.values()) == {"ValueError: K is at most E"}

    def test_an_unknown_divisor_follows_from_the_rejected_points(self) -> None:
        def cost(D: int) -> int:
            if D % 12:
                raise ValueError("12 heads")
            return D // 12 * D

        assert text(law_of({"D": 24}, cost=cost).polynomial("forward"), "D") == "D²/12"


class TestValidation:
    def test_is_at_points_to_which_the_law_was_not_fitted(self) -> None:
        traced: list[tuple[int, ...]] = []

        def cost(B: int, N: int) -> int:
            traced.append((B, N))
            return B * N

        law = law_of({"B": 4, "N": 64}, cost=cost)
        validated = [tuple(point.values()) for point in law.validated]
        assert validated == traced[-len(validated) :]
        assert len(validated) >= 6
        assert len(set(traced)) == len(traced) == law.traces
        assert max(n for _, n in validated) > 4 * 64  # far
        assert min(n for _, n in validated) < 2 * 64  # and near

    def test_a_cost_that_is_a_root_at_larger_sizes_has_no_law(self) -> None:
        with pytest.raises(LawError, match="holds") as caught:
            law_of({"B": 4, "N": 64}, cost=lambda B, N: B * (N if N < 400 else isqrt(N)))
        assert "cost" in caught.value.quantity
        assert any(point["N"] > 400 for point in caught.value.points)

    def test_the_error_has_the_multiples_in_which_a_polynomial_holds(self) -> None:
        with pytest.raises(LawError, match=r"multiples of 16: give I=multiples\(16\)") as caught:
            law_of({"I": 50}, sum=lambda I: I // 2 + (I // 16) ** 2 * I)  # noqa: E741
        assert caught.value.points

    def test_roots_are_an_error_with_the_size(self) -> None:
        with pytest.raises(LawError, match=r"spectrum · op, forward \(elementwise\): no exact polynomial in N"):
            law_of({"B": 2, "N": 100}, spectrum=lambda B, N: 5 * B * N * isqrt(N))

    @QUICK
    @given(polynomials(), st.integers(0, 2), st.integers(3, 9))
    def test_a_wrong_law_is_never_returned(self, cost: Polynomial, axis: int, much: int) -> None:
        """A step beyond the lines is found at the far points, to the value, or it is beyond all of them."""

        def other(**at: int) -> int:
            return int(cost.evaluate(at)) + (at[NAMES[axis]] > 24 * much)

        law = law_of(dict.fromkeys(NAMES, 24), cost=other)
        assert all(law.evaluate("forward", **sizes) == other(**sizes) for sizes in law.validated)
        if any(sizes[NAMES[axis]] > 24 * much for sizes in law.validated):
            for value in (24 * much - 1, 24 * much, 24 * much + 1, 10**6):
                sizes = {**dict.fromkeys(NAMES, 24), NAMES[axis]: value}
                assert law.evaluate("forward", **sizes) == other(**sizes)


WRONG: list[tuple[Mapping[str, object], str]] = [
    ({}, "by name"),
    ({"N": 0}, "at least 1"),
    ({"N": True}, "at least 1"),
    ({"N": 1.5}, "at least 1"),
    ({"no name": 3}, "identifier"),
]


class TestSizes:
    @pytest.mark.parametrize(("sizes", "message"), WRONG)
    def test_invalid_sizes(self, sizes: Mapping[str, object], message: str) -> None:
        with pytest.raises(UsageError, match=message):
            points_of(sizes, cost=lambda **at: 1)  # type: ignore[arg-type]

    def test_a_base_must_be_a_multiple(self) -> None:
        with pytest.raises(UsageError, match="100 is not among the multiples of 64"):
            multiples(64, base=100)

    def test_only_allowed_values_are_traced(self) -> None:
        points: SamplePoints = points_of({"D": multiples(64, base=256, max=1024), "N": 10}, cost=lambda D, N: D * N)
        from graphflops.analysis.scaling.fitting import fit

        fit(points)
        assert all(d % 64 == 0 and d <= 1024 for d, _ in points.observations)

    def test_a_range_with_too_few_values(self) -> None:
        with pytest.raises(LawError, match="not enough sizes"):
            law_of({"D": multiples(64, base=64, max=128)}, cost=lambda D: D)

    def test_the_error_of_a_model_that_rejects_all_other_sizes(self) -> None:
        def cost(N: int) -> int:
            if N != 128:
                raise ValueError("N is 128")
            return 1

        with pytest.raises(LawError, match="N is 128"):
            law_of({"N": 128}, cost=cost)
