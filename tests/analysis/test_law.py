"""Queries of a law: numbers at one size and at millions, orders, budgets, crossovers, files."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from synthetic import law_of, polynomial, quantity

from graphflops import Law, UsageError, multiples
from graphflops.analysis.scaling.atoms import Atom
from graphflops.analysis.scaling.one_size import signs
from graphflops.analysis.scaling.polynomials import Polynomial
from graphflops.analysis.scaling.ranges import SizeRange, parse_size, values_to_show
from graphflops.report.conventions import STANDARD

QUICK = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


def law(name: str = "model", max_value: int | None = None, **terms: Polynomial) -> Law:
    """A law in N and D, at 100 and 10, with these components."""
    sizes = {"N": SizeRange(1, 100, max_value), "D": SizeRange(1, 10)}
    return Law(name, sizes, {quantity(component): term for component, term in terms.items()}, STANDARD)


N, D = Polynomial.symbol("N"), Polynomial.symbol("D")
ONE = Polynomial({(): 1})
HALVED = Polynomial({((Atom("N", 2), 1),): 1})


@st.composite
def laws(draw: st.DrawFn) -> Law:
    powers = st.tuples(st.integers(0, 3), st.integers(0, 2))
    terms = draw(st.dictionaries(powers, st.integers(-(10**6), 10**9), min_size=1, max_size=5))
    drawn = polynomial({tuple(zip(("N", "D"), powers, strict=True)): value for powers, value in terms.items()})
    return law(cost=drawn + draw(st.integers(0, 9)) * HALVED)


class TestNumbers:
    def test_sizes_that_are_not_given_have_their_base_values(self) -> None:
        cost_law = law(cost=3 * N * D)
        assert (
            cost_law.evaluate("forward"),
            cost_law.evaluate("forward", N=7),
            cost_law.evaluate("forward", N=7, D=1),
        ) == (
            3000,
            210,
            21,
        )

    def test_numbers_have_any_length(self) -> None:
        assert law(cost=N * N * N).evaluate("forward", N=10**30) == 10**90

    @QUICK
    @given(laws(), st.lists(st.tuples(st.integers(1, 10**5), st.integers(1, 10**3)), min_size=1, max_size=20))
    def test_evaluate_array_is_evaluate_elementwise(self, cost_law: Law, sizes: list[tuple[int, int]]) -> None:
        n, d = map(np.array, zip(*sizes, strict=True))
        expected = [cost_law.evaluate("forward", N=a, D=b) for a, b in sizes]
        if max(map(abs, expected)) < 2**63:
            assert cost_law.evaluate_array("forward", N=n, D=d).tolist() == expected
        else:
            with pytest.raises(UsageError, match="63 bits"):
                cost_law.evaluate_array("forward", N=n, D=d)

    def test_results_just_below_two_to_the_63_are_exact(self) -> None:
        cost_law = law(cost=N + (-1) * ONE)
        assert cost_law.evaluate_array("forward", N=np.array([2**63 - 1])).tolist() == [2**63 - 2]
        cancels = law(cost=N * D + (-1) * N * D + N)  # all terms that need more bits
        assert cancels.evaluate_array("forward", N=np.array([2**62]), D=np.array([10**6])).tolist() == [2**62]

    def test_large_terms_that_cancel_are_exact(self) -> None:
        cost_law = law(cost=N * N + (-1) * N * D)
        n = np.array([4 * 10**9, 5])
        assert cost_law.evaluate_array("forward", N=n, D=n).tolist() == [0, 0]

    def test_results_above_63_bits_are_an_error_with_the_sizes(self) -> None:
        with pytest.raises(UsageError, match=r"N = 3,037,000,500 .*63 bits"):
            law(cost=N * N).evaluate_array("forward", N=np.array([3_037_000_499, 3_037_000_500]))

    def test_arrays_broadcast(self) -> None:
        cost_law = law(cost=N * D).evaluate_array("forward", N=np.arange(1, 4)[:, None], D=np.array([10, 20]))
        assert cost_law.tolist() == [[10, 20], [20, 40], [30, 60]]
        assert cost_law.dtype == np.int64

    def test_several_chunks(self) -> None:
        n = np.arange(1, 100_001)
        assert (law(cost=N * N + HALVED).evaluate_array("forward", N=n) == n * n + n // 2).all()

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            (np.array([1.5]), "integers"),
            (np.array([0]), "N = 0"),
            (np.array([-3]), "N = -3"),
            (np.array([2**64 - 1], dtype=np.uint64), "63 bits"),
            (np.array(["3"]), "integers"),
        ],
    )
    def test_invalid_arrays(self, values: object, message: str) -> None:
        with pytest.raises(UsageError, match=message):
            law(cost=N).evaluate_array("forward", N=values)

    def test_shapes_that_do_not_broadcast(self) -> None:
        with pytest.raises(UsageError, match=r"N \(2,\), D \(3,\)"):
            law(cost=N * D).evaluate_array(N=np.array([1, 2]), D=np.array([1, 2, 3]))

    @pytest.mark.parametrize("size", [{"M": 3}, {"N": 0}, {"N": 2.0}, {"N": True}])
    def test_invalid_sizes(self, size: dict[str, int]) -> None:
        with pytest.raises(UsageError):
            law(cost=N).evaluate("forward", **size)

    def test_a_law_for_multiples_has_no_other_values(self) -> None:
        cost_law = law_of({"I": multiples(32, base=224)}, cost=lambda I: (I // 32) ** 2)  # noqa: E741
        assert cost_law.evaluate("forward", I=256) == 64
        with pytest.raises(UsageError, match="I must be a multiple of 32"):
            cost_law.evaluate("forward", I=250)
        with pytest.raises(UsageError, match="I = 250"):
            cost_law.evaluate_array("forward", I=np.array([256, 250]))


class TestExpressions:
    def test_are_expressions_of_sympy(self) -> None:
        cost_law = law(one=2 * N * D, two=HALVED)
        assert str(cost_law.forward) == "2*D*N + floor(N/2)"
        assert str(cost_law.by_component("forward")["two"]) == "floor(N/2)"
        assert cost_law.backward == cost_law.optimizer == cost_law.parameters == 0
        assert str(cost_law.work("forward").elementwise) == str(cost_law.forward)

    def test_one_law_has_all_conventions_that_weigh_classes(self) -> None:
        macs, added = quantity(kind="macs"), quantity(kind="accumulate", phase="wgrad")
        cost_law = Law("model", {"N": SizeRange(1, 5)}, {macs: 3 * N, added: 7 * N}, STANDARD)
        assert (
            cost_law.evaluate(),
            cost_law.with_convention("exact").evaluate(),
            cost_law.with_convention("torch").evaluate(),
        ) == (
            30,
            65,
            30,
        )

    def test_other_conventions_need_another_law(self) -> None:
        with pytest.raises(UsageError, match="convention='fvcore'"):
            law(cost=N).with_convention("fvcore")

    def test_unknown_components_and_phases(self) -> None:
        with pytest.raises(UsageError, match="one, two"):
            law(one=N, two=D).expression("forward", "three")
        with pytest.raises(UsageError, match="there is no phase"):
            law(one=N).expression("sideways")  # type: ignore[arg-type]


class TestGrowth:
    def test_the_order_has_the_dominant_terms(self) -> None:
        cost_law = law(layer_0=8 * N * N * D + N, layer_1=8 * N * N * D, head=5 * N * D)
        order = cost_law.order("N", "forward")
        assert (order.degree, str(order.coefficient)) == (2, "16*D")
        assert [term.component for term in order.dominant_terms] == ["layer_0", "layer_1"]
        assert str(order).splitlines() == ["O(N²): 16·N²·D", "    layer_0 … layer_1: op, 8·N²·D each"]

    def test_a_floor_has_degree_one(self) -> None:
        order = law(cost=HALVED * HALVED + N).order("N", "forward")
        assert (order.degree, str(order.coefficient)) == (2, "1/4")

    def test_a_cost_independent_of_a_size_has_order_one(self) -> None:
        assert str(law(cost=7 * D).order("N", "forward")).startswith("O(1): 7·D")

    @QUICK
    @given(st.integers(1, 10**18), st.integers(1, 9), st.integers(0, 3))
    def test_the_largest_size_within_a_budget(self, budget: int, factor: int, halves: int) -> None:
        cost_law = law(cost=factor * N * N + halves * HALVED)
        if budget < factor:
            with pytest.raises(UsageError, match="no N keeps"):
                cost_law.solve("N", budget, "forward")
        else:
            largest = cost_law.solve("N", budget, "forward")
            assert cost_law.evaluate("forward", N=largest) <= budget < cost_law.evaluate("forward", N=largest + 1)

    def test_a_budget_in_multiples_with_other_sizes(self) -> None:
        cost_law = law_of({"I": multiples(32, base=224), "B": 2}, cost=lambda I, B: B * I)  # noqa: E741
        assert cost_law.solve("I", 1e4, "forward", B=5) == 1984

    def test_the_maximum_of_a_size_bounds_the_result(self) -> None:
        assert law(max_value=50, cost=N).solve("N", 1e9, "forward") == 50

    def test_a_constant_cost_has_no_largest_size(self) -> None:
        with pytest.raises(UsageError, match="at any N"):
            law(cost=5 * D).solve("N", 1e9, "forward")

    def test_the_intervals_of_a_crossover(self) -> None:
        linear, square = law("linear", cost=64 * N * D), law("square", cost=N * N)
        crossing = linear.crossover(square, "N", "forward", D=8)
        assert crossing.at == (512, 513)
        assert str(crossing).splitlines() == [
            "from N = 1 to 511 square costs less",
            "at N = 512 both cost the same",
            "from N = 513 on linear costs less",
        ]

    def test_different_conventions_are_not_compared(self) -> None:
        with pytest.raises(UsageError, match="with_convention"):
            law(cost=N).crossover(law(cost=N).with_convention("exact"), "N")

    @QUICK
    @given(st.lists(st.integers(-60, 60), min_size=1, max_size=5))
    def test_signs_of_a_polynomial_are_those_of_its_values(self, coefficients: list[int]) -> None:
        intervals = signs(coefficients)
        for t in range(1, 130):
            value = sum(coefficient * t**i for i, coefficient in enumerate(coefficients))
            sign = next(sign for start, sign in reversed(intervals) if start <= t)
            assert sign == (value > 0) - (value < 0)


class TestOldNames:
    """They work for one more version, with a warning that has the new name."""

    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
    def test_mean_the_same(self) -> None:
        cost_law = law(cost=N * D, head=3 * N)
        assert cost_law.at("forward", N=5) == cost_law.evaluate("forward", N=5)
        assert cost_law.along("N", [1, 2], "forward") == cost_law.sweep("N", [1, 2], "forward")
        assert cost_law.over("forward", N=np.array([5])) == cost_law.evaluate_array("forward", N=np.array([5]))
        assert (cost_law.checked, cost_law.refused) == (cost_law.validated, cost_law.rejected)
        assert cost_law.order("N").carriers == cost_law.order("N").dominant_terms
        crossover = cost_law.crossover(law(cost=N * N), "N")
        assert [interval.cheaper for interval in crossover.stretches] == [
            interval.cheaper_model for interval in crossover.intervals
        ]
        assert multiples(4, at=8, most=16) == multiples(4, base=8, max=16)

    def test_warn(self) -> None:
        with pytest.warns(DeprecationWarning, match="Law.at is now evaluate"):
            law(cost=N).at("forward")


class TestFiles:
    @QUICK
    @given(laws())
    def test_a_law_is_equal_after_a_round_trip(self, cost_law: Law) -> None:
        from graphflops.analysis.scaling.law_json import dumps

        assume(cost_law.evaluate("forward") >= 0)  # a file with a negative count is refused
        with TemporaryDirectory() as folder:
            path = cost_law.to_json(Path(folder) / "law.json")
            assert Law.from_json(path) == cost_law
            assert path.read_text(encoding="utf-8") == dumps(cost_law)

    def test_the_file_has_unit_and_convention(self, tmp_path: Path) -> None:
        data = json.loads(law(cost=2 * N * D).to_json(tmp_path / "law.json").read_text(encoding="utf-8"))
        assert (data["unit"], data["convention"]["name"]) == ("FLOP", "standard")
        assert data["total_flops"] == "2·N·D"

    @pytest.mark.parametrize("text", ["{", "[]", "{}", '{"schema": "graphflops.law/1"}', '{"schema": "x"}'])
    def test_invalid_files(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "law.json").write_text(text)
        with pytest.raises(UsageError, match=r"law\.json"):
            Law.from_json(tmp_path / "law.json")


class TestSizesOnTheCommandLine:
    def test_a_value_a_range_and_multiples(self) -> None:
        assert parse_size("N=128") == ("N", SizeRange(1, 128), None)
        assert parse_size("N=128..2048") == ("N", SizeRange(1, 128), 2048)
        assert parse_size("I=224..448:32") == ("I", SizeRange(32, 224), 448)

    @pytest.mark.parametrize("text", ["N", "N=", "N=x", "N=9..3", "I=10:32", "I=32..50:32", "N=0"])
    def test_invalid_text(self, text: str) -> None:
        with pytest.raises(UsageError, match=r"multiples|write NAME=VALUE|above"):
            parse_size(text)

    def test_values_double_or_are_equally_spaced(self) -> None:
        assert values_to_show(100, 1000) == [100, 200, 400, 800, 1000]
        assert values_to_show(224, 320, 32) == [224, 256, 288, 320]
