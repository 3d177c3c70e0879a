"""What a law can be asked: numbers at one size and at millions, orders, budgets, crossovers, files."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from synthetic import law_of, polynomial, quantity

from graphflops import Law, UsageError, multiples
from graphflops.analysis.scaling.growth import signs
from graphflops.analysis.scaling.polynomials import Atom, Polynomial
from graphflops.analysis.scaling.ranges import SizeRange, parse_size, values_to_show
from graphflops.report.conventions import STANDARD

QUICK = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


def law(name: str = "model", most: int | None = None, **terms: Polynomial) -> Law:
    """A law in N and D, at 100 and 10, with these components."""
    sizes = {"N": SizeRange(1, 100, most), "D": SizeRange(1, 10)}
    return Law(name, sizes, {quantity(each): made for each, made in terms.items()}, STANDARD)


N, D = Polynomial.symbol("N"), Polynomial.symbol("D")
ONE = Polynomial({(): 1})
HALVED = Polynomial({((Atom("N", 2), 1),): 1})


@st.composite
def laws(draw: st.DrawFn) -> Law:
    powers = st.tuples(st.integers(0, 3), st.integers(0, 2))
    terms = draw(st.dictionaries(powers, st.integers(-(10**6), 10**9), min_size=1, max_size=5))
    made = polynomial({tuple(zip(("N", "D"), each, strict=True)): value for each, value in terms.items()})
    return law(cost=made + draw(st.integers(0, 9)) * HALVED)


class TestNumbers:
    def test_sizes_that_are_not_given_are_those_of_the_base(self) -> None:
        made = law(cost=3 * N * D)
        assert (made.evaluate("forward"), made.evaluate("forward", N=7), made.evaluate("forward", N=7, D=1)) == (
            3000,
            210,
            21,
        )

    def test_numbers_have_any_length(self) -> None:
        assert law(cost=N * N * N).evaluate("forward", N=10**30) == 10**90

    @QUICK
    @given(laws(), st.lists(st.tuples(st.integers(1, 10**5), st.integers(1, 10**3)), min_size=1, max_size=20))
    def test_over_is_at_for_each(self, made: Law, sizes: list[tuple[int, int]]) -> None:
        n, d = map(np.array, zip(*sizes, strict=True))
        expected = [made.evaluate("forward", N=a, D=b) for a, b in sizes]
        if max(map(abs, expected)) < 2**63:
            assert made.evaluate_array("forward", N=n, D=d).tolist() == expected
        else:
            with pytest.raises(UsageError, match="63 bits"):
                made.evaluate_array("forward", N=n, D=d)

    def test_what_is_just_below_two_to_the_63_is_exact(self) -> None:
        made = law(cost=N + (-1) * ONE)
        assert made.evaluate_array("forward", N=np.array([2**63 - 1])).tolist() == [2**63 - 2]
        cancels = law(cost=N * D + (-1) * N * D + N)  # no part of it is left to be too large
        assert cancels.evaluate_array("forward", N=np.array([2**62]), D=np.array([10**6])).tolist() == [2**62]

    def test_large_parts_that_cancel_are_exact_too(self) -> None:
        made = law(cost=N * N + (-1) * N * D)
        n = np.array([4 * 10**9, 5])
        assert made.evaluate_array("forward", N=n, D=n).tolist() == [0, 0]

    def test_what_is_above_is_an_error_that_says_where(self) -> None:
        with pytest.raises(UsageError, match=r"N = 3,037,000,500 .*63 bits"):
            law(cost=N * N).evaluate_array("forward", N=np.array([3_037_000_499, 3_037_000_500]))

    def test_arrays_broadcast(self) -> None:
        made = law(cost=N * D).evaluate_array("forward", N=np.arange(1, 4)[:, None], D=np.array([10, 20]))
        assert made.tolist() == [[10, 20], [20, 40], [30, 60]]
        assert made.dtype == np.int64

    def test_many_at_once_are_as_one_by_one(self) -> None:
        n = np.arange(1, 100_001)
        assert (law(cost=N * N + HALVED).evaluate_array("forward", N=n) == n * n + n // 2).all()

    @pytest.mark.parametrize(
        ("values", "said"),
        [
            (np.array([1.5]), "integers"),
            (np.array([0]), "N = 0"),
            (np.array([-3]), "N = -3"),
            (np.array([2**64 - 1], dtype=np.uint64), "63 bits"),
            (np.array(["3"]), "integers"),
        ],
    )
    def test_what_is_no_size_is_refused(self, values: object, said: str) -> None:
        with pytest.raises(UsageError, match=said):
            law(cost=N).evaluate_array("forward", N=values)

    def test_shapes_that_do_not_go_together_are_refused(self) -> None:
        with pytest.raises(UsageError, match=r"N \(2,\), D \(3,\)"):
            law(cost=N * D).evaluate_array(N=np.array([1, 2]), D=np.array([1, 2, 3]))

    @pytest.mark.parametrize("size", [{"M": 3}, {"N": 0}, {"N": 2.0}, {"N": True}])
    def test_at_refuses_them_too(self, size: dict[str, int]) -> None:
        with pytest.raises(UsageError):
            law(cost=N).evaluate("forward", **size)

    def test_a_law_for_multiples_speaks_of_nothing_else(self) -> None:
        made = law_of({"I": multiples(32, base=224)}, cost=lambda I: (I // 32) ** 2)  # noqa: E741
        assert made.evaluate("forward", I=256) == 64
        with pytest.raises(UsageError, match="I must be a multiple of 32"):
            made.evaluate("forward", I=250)
        with pytest.raises(UsageError, match="I = 250"):
            made.evaluate_array("forward", I=np.array([256, 250]))


class TestExpressions:
    def test_they_are_sympys(self) -> None:
        made = law(one=2 * N * D, two=HALVED)
        assert str(made.forward) == "2*D*N + floor(N/2)"
        assert str(made.by_component("forward")["two"]) == "floor(N/2)"
        assert made.backward == made.optimizer == made.parameters == 0
        assert str(made.work("forward").elementwise) == str(made.forward)

    def test_one_law_serves_every_convention_of_classes(self) -> None:
        macs, added = quantity(kind="macs"), quantity(kind="accumulate", phase="wgrad")
        made = Law("model", {"N": SizeRange(1, 5)}, {macs: 3 * N, added: 7 * N}, STANDARD)
        assert (made.evaluate(), made.under("exact").evaluate(), made.under("torch").evaluate()) == (30, 65, 30)

    def test_others_need_a_law_of_their_own(self) -> None:
        with pytest.raises(UsageError, match="convention='fvcore'"):
            law(cost=N).under("fvcore")

    def test_what_is_not_there_is_told(self) -> None:
        with pytest.raises(UsageError, match="one, two"):
            law(one=N, two=D).expression("forward", "three")
        with pytest.raises(UsageError, match="there is no phase"):
            law(one=N).expression("sideways")  # type: ignore[arg-type]


class TestGrowth:
    def test_the_order_names_what_carries_it(self) -> None:
        made = law(layer_0=8 * N * N * D + N, layer_1=8 * N * N * D, head=5 * N * D)
        order = made.order("N", "forward")
        assert (order.degree, str(order.coefficient)) == (2, "16*D")
        assert [each.component for each in order.dominant_terms] == ["layer_0", "layer_1"]
        assert str(order).splitlines() == ["O(N²): 16·N²·D", "    layer_0 … layer_1: op, 8·N²·D each"]

    def test_what_a_stride_leaves_grows_as_the_size_does(self) -> None:
        order = law(cost=HALVED * HALVED + N).order("N", "forward")
        assert (order.degree, str(order.coefficient)) == (2, "1/4")

    def test_what_does_not_depend_on_a_size_is_of_order_one(self) -> None:
        assert str(law(cost=7 * D).order("N", "forward")).startswith("O(1): 7·D")

    @QUICK
    @given(st.integers(1, 10**18), st.integers(1, 9), st.integers(0, 3))
    def test_a_budget_holds_and_one_more_does_not(self, budget: int, factor: int, halves: int) -> None:
        made = law(cost=factor * N * N + halves * HALVED)
        if budget < factor:
            with pytest.raises(UsageError, match="no N keeps"):
                made.solve("N", budget, "forward")
        else:
            most = made.solve("N", budget, "forward")
            assert made.evaluate("forward", N=most) <= budget < made.evaluate("forward", N=most + 1)

    def test_a_budget_in_multiples_with_other_sizes_given(self) -> None:
        made = law_of({"I": multiples(32, base=224), "B": 2}, cost=lambda I, B: B * I)  # noqa: E741
        assert made.solve("I", 1e4, "forward", B=5) == 1984

    def test_a_bound_on_the_size_bounds_the_answer(self) -> None:
        assert law(most=50, cost=N).solve("N", 1e9, "forward") == 50

    def test_what_costs_nothing_more_has_no_largest_size(self) -> None:
        with pytest.raises(UsageError, match="at any N"):
            law(cost=5 * D).solve("N", 1e9, "forward")

    def test_a_crossover_says_who_is_cheaper_where(self) -> None:
        linear, square = law("linear", cost=64 * N * D), law("square", cost=N * N)
        crossing = linear.crossover(square, "N", "forward", D=8)
        assert crossing.at == (512, 513)
        assert str(crossing).splitlines() == [
            "from N = 1 to 511 square costs less",
            "at N = 512 both cost the same",
            "from N = 513 on linear costs less",
        ]

    def test_models_that_count_differently_are_not_compared(self) -> None:
        with pytest.raises(UsageError, match="under"):
            law(cost=N).crossover(law(cost=N).under("exact"), "N")

    @QUICK
    @given(st.lists(st.integers(-60, 60), min_size=1, max_size=5))
    def test_signs_of_a_polynomial_are_those_of_its_values(self, coefficients: list[int]) -> None:
        found = signs(coefficients)
        for t in range(1, 130):
            value = sum(each * t**i for i, each in enumerate(coefficients))
            sign = next(sign for start, sign in reversed(found) if start <= t)
            assert sign == (value > 0) - (value < 0)


class TestOldNames:
    """They work for one more version, with a warning that has the new name."""

    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
    def test_mean_the_same(self) -> None:
        made = law(cost=N * D, head=3 * N)
        assert made.at("forward", N=5) == made.evaluate("forward", N=5)
        assert made.along("N", [1, 2], "forward") == made.sweep("N", [1, 2], "forward")
        assert made.over("forward", N=np.array([5])) == made.evaluate_array("forward", N=np.array([5]))
        assert (made.checked, made.refused) == (made.validated, made.rejected)
        assert made.order("N").carriers == made.order("N").dominant_terms
        crossover = made.crossover(law(cost=N * N), "N")
        assert [each.cheaper for each in crossover.stretches] == [each.cheaper_model for each in crossover.intervals]
        assert multiples(4, at=8, most=16) == multiples(4, base=8, max=16)

    def test_warn(self) -> None:
        with pytest.warns(DeprecationWarning, match="Law.at is now Law.evaluate"):
            law(cost=N).at("forward")
        with pytest.raises(AttributeError, match="nothing"):
            law(cost=N).nothing  # noqa: B018


class TestFiles:
    @QUICK
    @given(laws())
    def test_a_law_comes_back_as_it_was(self, made: Law) -> None:
        from graphflops.analysis.scaling.law_json import dumps

        assume(made.evaluate("forward") >= 0)  # a file that says less than nothing is refused
        with TemporaryDirectory() as folder:
            path = made.to_json(Path(folder) / "law.json")
            assert Law.from_json(path) == made
            assert path.read_text(encoding="utf-8") == dumps(made)

    def test_it_has_unit_and_convention_beside_its_numbers(self, tmp_path: Path) -> None:
        data = json.loads(law(cost=2 * N * D).to_json(tmp_path / "law.json").read_text(encoding="utf-8"))
        assert (data["unit"], data["convention"]["name"]) == ("FLOP", "standard")
        assert data["total_flops"] == "2·N·D"

    @pytest.mark.parametrize("text", ["{", "[]", "{}", '{"schema": "graphflops.law/1"}', '{"schema": "x"}'])
    def test_what_is_no_law_is_told(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "law.json").write_text(text)
        with pytest.raises(UsageError, match=r"law\.json"):
            Law.from_json(tmp_path / "law.json")


class TestTheCommandLinesSizes:
    def test_a_value_a_range_and_multiples(self) -> None:
        assert parse_size("N=128") == ("N", SizeRange(1, 128), None)
        assert parse_size("N=128..2048") == ("N", SizeRange(1, 128), 2048)
        assert parse_size("I=224..448:32") == ("I", SizeRange(32, 224), 448)

    @pytest.mark.parametrize("text", ["N", "N=", "N=x", "N=9..3", "I=10:32", "I=32..50:32", "N=0"])
    def test_others_are_told(self, text: str) -> None:
        with pytest.raises(UsageError, match=r"multiples|write NAME=VALUE|above"):
            parse_size(text)

    def test_steps_double_or_are_even(self) -> None:
        assert values_to_show(100, 1000) == [100, 200, 400, 800, 1000]
        assert values_to_show(224, 320, 32) == [224, 256, 288, 320]
