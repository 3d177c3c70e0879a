"""Formulas of other counters, taken in: they say here what they say there, are marked, and make no gradient up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, flop_registry, register_flop_formula

from graphflops import Report, UsageError, analyze
from graphflops.cli import main
from graphflops.rules import adapters
from graphflops.rules.loading import rulebook
from graphflops.rules.pages import describe_rule


@torch.library.custom_op("adapted::matmul", mutates_args=())
def matmul(x: Tensor, weight: Tensor, scale: float = 1.0, *, times: int = 1) -> Tensor:
    return x @ weight * scale


matmul.register_fake(lambda x, weight, scale=1.0, *, times=1: x.new_empty(x.shape[0], weight.shape[1]))
matmul.register_autograd(
    lambda ctx, grad: (grad @ ctx.saved_tensors[1].T, ctx.saved_tensors[0].T @ grad, None),
    setup_context=lambda ctx, inputs, keyword_only_inputs, output: ctx.save_for_backward(*inputs[:2]),
)


@torch.library.custom_op("adapted::stacked", mutates_args=())
def stacked(tensors: list[Tensor]) -> Tensor:
    return torch.stack(tensors)


stacked.register_fake(torch.stack)
OP = torch.ops.adapted.matmul
X, WEIGHT = torch.zeros(4, 8, requires_grad=True), torch.zeros(8, 6, requires_grad=True)


@pytest.fixture
def registry() -> Iterator[dict[Any, Any]]:
    """Torch's registry with its own formulas alone; afterwards it is what it was."""
    before = dict(flop_registry)
    for rule in adapters.from_torch():
        del flop_registry[rule.targets[0]]
    yield flop_registry
    flop_registry.clear()
    flop_registry.update(before)


def of_shapes(x: Any, weight: Any, out_shape: Any = None) -> Any:
    """Two for each multiply-add."""
    return 2 * x[0] * x[1] * weight[1]


def of_tensors(x: Tensor, weight: Tensor, *args: Any, out_val: Tensor, **kwargs: Any) -> int:
    return 2 * out_val.numel() * x.size(-1) * kwargs.get("times", 1)


def of_numbers(x: Any, weight: Any, *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
    return 2 * int(x[0]) * int(x[1]) * int(weight[1])


def counted_by_torch(*inputs: Tensor, **options: Any) -> int:
    """The reference: torch's own counter, while the operator runs."""
    with FlopCounterMode(display=False) as counter:
        OP(*inputs, **options)
    return counter.get_total_flops()


class TestTorch:
    @pytest.mark.parametrize(
        ("formula", "raw", "options"),
        [
            (of_shapes, False, {}),
            (of_tensors, True, {}),
            (of_tensors, True, {"times": 3}),
            (of_numbers, False, {"scale": 0.5}),
        ],
    )
    def test_what_is_registered_counts_as_there(self, formula, raw: bool, options: dict[str, Any], registry) -> None:
        register_flop_formula(OP, get_raw=raw)(formula)
        report = analyze(lambda x, weight: OP(x, weight, **options), (X, WEIGHT), rules=adapters.from_torch())
        assert report.under("torch").forward == counted_by_torch(X, WEIGHT, **options) > 0

    def test_a_formula_need_not_be_registered(self) -> None:
        report = analyze(matmul, (X, WEIGHT), rules=[adapters.torch_formula(OP, of_shapes)])
        assert report.macs == 4 * 8 * 6

    def test_packages_of_torch_are_left_out(self, registry) -> None:
        assert adapters.from_torch() == []
        registry[torch.ops.aten.mm] = of_shapes
        (rule,) = adapters.from_torch()
        assert rule.name == "of_shapes (adapted from torch)"

    def test_nothing_is_loaded_by_default(self, registry) -> None:
        register_flop_formula(OP)(of_shapes)
        report = analyze(matmul, (X, WEIGHT))
        assert report.macs == X.shape[0] * WEIGHT.numel()
        assert any("adapted.matmul: no rule names it" in note for note in report.capture_notes), report.capture_notes

    def test_without_a_backward_gradients_are_unknown(self) -> None:
        report = analyze(matmul, (X, WEIGHT), rules=[adapters.torch_formula(OP, of_shapes)])
        (unknown,) = report.unknown
        assert "gives no gradient of weight, x" in unknown.why
        assert report.backward == 0

    def test_a_backward_is_taken_as_one_or_by_operand(self) -> None:
        together = adapters.torch_formula(OP, of_shapes, backward=lambda *shapes, out_shape: 2 * 2 * 4 * 8 * 6)
        apart = adapters.torch_formula(OP, of_shapes, backward={"x": of_shapes, "weight": of_shapes})
        for rule in (together, apart):
            report = analyze(matmul, (X, WEIGHT), rules=[rule])
            assert not report.unknown
            assert report.backward == 2 * report.forward
        assert analyze(matmul, (X, WEIGHT.detach()), rules=[apart]).backward == report.forward

    def test_an_odd_count_is_no_multiply_adds(self) -> None:
        def odd(*shapes: Any, out_shape: Any) -> int:
            return 15

        (unknown,) = analyze(matmul, (X, WEIGHT), rules=[adapters.torch_formula(OP, odd)], training=False).unknown
        assert "returned 15, which is odd" in unknown.why
        rule = adapters.torch_formula(OP, odd, counts="elementwise")
        assert analyze(matmul, (X, WEIGHT), rules=[rule], training=False).forward == 15

    def test_one_that_raises_leaves_the_call_unknown(self) -> None:
        def broken(*shapes: Any, out_shape: Any) -> int:
            raise KeyError("seven")

        (unknown,) = analyze(matmul, (X, WEIGHT), rules=[adapters.torch_formula(OP, broken)]).unknown
        assert unknown.why == "broken, adapted from torch, raised KeyError: 'seven'"


class TestFvcore:
    """Handles written as fvcore's guide writes them, with what its own ask of a value."""

    def test_of_shapes(self) -> None:
        def handle(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
            assert not inputs[2].isCompleteTensor(), "scale is a constant"
            rows, width = inputs[0].type().sizes()
            out = outputs[0].type().sizes()
            return Counter({"matmul": rows * width * out[1], "scale": 0})

        report = analyze(matmul, (X, WEIGHT), rules=[adapters.fvcore_handle("adapted::matmul", handle)])
        assert report.macs == 4 * 8 * 6
        assert "macs = x₀·x₁·out₁" in report.explain() or "macs = out₁·x₀·x₁" in report.explain()

    def test_of_constants(self) -> None:
        def handle(inputs: list[Any], outputs: list[Any]) -> int:
            return inputs[3].toIValue() * int(inputs[2].toIValue())

        rule = adapters.fvcore_handle("adapted::matmul", handle)
        report = analyze(lambda x, weight: matmul(x, weight, 5.0, times=7), (X, WEIGHT), rules=[rule])
        assert report.macs == 35

    def test_of_lists(self) -> None:
        def handle(inputs: list[Any], outputs: list[Any]) -> float:
            return float(sum(x.type().sizes()[0] for x in inputs[0].node().inputs()))

        rule = adapters.fvcore_handle("adapted::stacked", handle, counts="elementwise")
        assert analyze(lambda x: stacked([x, x, x]), (X,), rules=[rule], training=False).forward == 3 * 4

    def test_a_convolution_as_torchscript_records_it(self) -> None:
        def handle(inputs: list[Any], outputs: list[Any]) -> int:
            assert len(inputs) == 13
            assert inputs[6].toIValue() is False, "transposed"
            return 11

        rule = adapters.fvcore_handle("aten::_convolution", handle)
        assert analyze(nn.Conv2d(3, 4, 3), (torch.zeros(1, 3, 8, 8),), rules=[rule]).macs == 11


class Attend(nn.Module):
    def __init__(self, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.weight = nn.Parameter(torch.zeros(8, 6))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return x @ self.weight


class TestHooksOfModules:
    def test_as_thop_has_them(self) -> None:
        def count(m: Any, x: Any, y: Any) -> None:
            m.total_ops += torch.DoubleTensor([int(x[0].numel() * m.weight.size(1) * m.heads)])

        report = analyze(Attend(), (X,), rules=[adapters.module_hook(Attend, count)])
        assert report.macs == 4 * 8 * 6 * 2

    def test_as_ptflops_has_them(self) -> None:
        def count(module: Any, inputs: Any, output: Any) -> None:
            module.__flops__ += output.numel() * inputs[0].shape[-1]

        report = analyze(Attend(), (X,), rules=[adapters.module_hook(f"{__name__}.Attend", count)])
        assert report.macs == 4 * 6 * 8
        assert "macs = out₀·out₁·x₁" in report.explain(), "symbols where the hook works on them"

    def test_arguments_with_a_default(self) -> None:
        def count(m: Any, x: Any, y: Any) -> None:
            m.total_ops += getattr(m, "heads", 1) + getattr(m, "no_such_thing", 40) + hasattr(m, "weight")

        assert analyze(Attend(), (X,), rules=[adapters.module_hook(Attend, count)]).macs == 2 + 40 + 1

    def test_parameters_that_only_a_helper_reads_are_named(self) -> None:
        def helper(module: Any) -> int:
            return int(getattr(module, "heads", 1))

        def count(m: Any, x: Any, y: Any) -> None:
            m.total_ops += helper(m)

        (unknown,) = analyze(Attend(), (X,), rules=[adapters.module_hook(Attend, count)], training=False).unknown
        assert unknown.why == "a function called by the hook reads heads of the module: name it in attributes="
        assert analyze(Attend(), (X,), rules=[adapters.module_hook(Attend, count, attributes=["heads"])]).macs == 2


class TestMarked:
    RULES = pytest.mark.parametrize(("formula", "symbols"), [(of_shapes, True), (of_numbers, False)])

    @RULES
    def test_in_the_ledger_and_its_explanation(self, formula: Any, symbols: bool) -> None:
        report: Report = analyze(matmul, (X, WEIGHT), rules=[adapters.torch_formula(OP, formula)], training=False)
        text = report.explain()
        assert f"{formula.__name__} (adapted from torch) (rules/test_adapters.py:" in text
        assert ("macs = weight₁·x₀·x₁" in text) is symbols
        assert ("macs = 192 (a number, not a formula: this rule adapted from torch" in text) is not symbols

    def test_in_what_is_shown(self) -> None:
        text = " ".join(describe_rule(rulebook([adapters.torch_formula(OP, of_shapes)]), "adapted.matmul").split())
        assert "rule of_shapes (adapted from torch)" in text
        assert (
            f"Adapted from torch: of_shapes (rules/test_adapters.py:{of_shapes.__code__.co_firstlineno})."
            in " ".join(text.split())
        )
        assert "Two for each multiply-add." in text
        assert "forward macs = weight₁·x.numel" in text

    def test_a_formula_that_is_another_for_symbols_is_not_shown(self) -> None:
        def branching(x: Any, weight: Any, out_shape: Any) -> Any:
            return 2 * x[0] if x[1] == weight[0] else 4 * x[0]

        report = analyze(matmul, (X, WEIGHT), rules=[adapters.torch_formula(OP, branching)], training=False)
        assert report.macs == 4
        assert "forward: macs = 4 (a number, not a formula" in report.explain()

    def test_one_of_numbers_alone_has_no_formula_to_show(self) -> None:
        text = describe_rule(rulebook([adapters.torch_formula(OP, of_numbers)]), "adapted.matmul")
        assert "formula   none: a rule adapted from torch may work on numbers alone" in text

    def test_in_the_list_and_on_the_command_line(self, registry, capsys, monkeypatch, tmp_path) -> None:
        monkeypatch.setenv("COLUMNS", "300")
        register_flop_formula(OP)(of_shapes)
        assert main(["rules", "list", "adapted.matmul", "--rules", "torch:registered"]) == 0
        (line,) = capsys.readouterr().out.splitlines()[1:]
        assert line.startswith("adapted.matmul")
        assert "(adapted from torch)" in line
        assert "torch:registered" in line

    def test_a_rule_file_may_hold_one(self, tmp_path) -> None:
        file = tmp_path / "mine.py"
        file.write_text(
            f"from graphflops.rules.adapters import torch_formula\nimport {__name__} as theirs\n\n"
            "matmul = torch_formula('adapted::matmul', theirs.of_shapes)\n"
        )
        report = analyze(matmul, (X, WEIGHT), rules=[file], training=False)
        assert report.macs == 4 * 8 * 6
        assert "mine.py:4" in report.explain()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: adapters.torch_formula(nn.Linear, of_shapes), "is not a registered operator"),
        (lambda: adapters.fvcore_handle("no::such", of_shapes), "'no::such' is not a registered operator"),
        (lambda: adapters.module_hook(OP, of_shapes), "is not an imported module class"),
        (lambda: adapters.torch_formula(OP, of_shapes, counts="flops"), "counts='flops' is not a class of work"),
    ],
)
def test_formulas_that_cannot_be_adapted_are_errors(wrong: Any, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        wrong()
