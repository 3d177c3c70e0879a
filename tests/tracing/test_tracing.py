"""Tracing: what a model's Python may do, what a leaf is, and that the model is given back as it was."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import graphflops
from graphflops import CaptureError, Cost, Report, RuleError, Spec, Work, analyze, rule

grouped_mm = getattr(F, "grouped_mm", None) or torch._grouped_mm
"""public since PyTorch 2.10"""


def macs(report: Report) -> int:
    return int(report.work("forward").macs)


class Doubled(torch.autograd.Function):
    """A custom function whose body, if it were inlined, would be a matmul."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x @ torch.eye(x.shape[-1]) * 2

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * 2


class TestWhatPythonMayDo:
    def test_branch_and_loop_on_shapes(self) -> None:
        def model(x: Tensor) -> Tensor:
            for _ in range(x.shape[1]):
                x = x @ torch.ones(x.shape[1], x.shape[1]) if x.shape[0] > 2 else x
            return x

        assert macs(analyze(model, (torch.zeros(3, 4),))) == 4 * (3 * 4 * 4)

    def test_take_keyword_nested_and_optional_inputs_and_return_dicts_and_dataclasses(self) -> None:
        @dataclass
        class Output:
            hidden: Tensor
            extra: dict[str, Tensor]

        def model(pair: tuple[Tensor, Tensor], mask: Tensor | None = None, scale: float = 1.0) -> Output:
            hidden = pair[0] @ pair[1] * scale
            return Output(hidden if mask is None else hidden.masked_fill(mask, 0), {"again": hidden})

        pair = (torch.zeros(2, 3), torch.zeros(3, 5))
        report = analyze(model, (pair,), {"mask": torch.zeros(2, 5, dtype=torch.bool), "scale": 2.0})
        assert macs(report) == 2 * 3 * 5
        assert report.by_operator()["masked_fill"] == 2 * 5

    def test_write_in_place_also_through_a_view(self) -> None:
        layer = nn.Linear(8, 8)

        class Writes(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.layer = layer

            def forward(self, x: Tensor) -> Tensor:
                out = torch.zeros(2, x.shape[0], 8)
                out[0] = self.layer(x)
                out += 1
                return out

        report = analyze(Writes(), (torch.zeros(4, 8),))
        assert report.work("wgrad").macs == 4 * 8 * 8, "the gradient reaches the layer through the write"

    def test_build_tensors_of_constants_and_read_them(self) -> None:
        def model(x: Tensor) -> Tensor:
            return x * torch.tensor(3.0).item()

        assert analyze(model, (torch.zeros(2, 2),)).forward == 4

    def test_profiler_annotations_are_no_operations(self) -> None:
        def profiled(x: Tensor) -> Tensor:
            with torch.profiler.record_function("product"):
                return x @ x

        assert analyze(profiled, (torch.zeros(3, 3),)).coverage.ops == 1

    def test_hooks_are_part_of_the_model(self) -> None:
        layer = nn.Linear(4, 4)
        layer.register_forward_hook(lambda module, args, out: out @ torch.ones(4, 4))
        assert macs(analyze(layer, (torch.zeros(1, 4),))) == 2 * 16


class TestLeaves:
    def test_an_autograd_function_is_not_its_body_differentiated(self) -> None:
        """Its backward is not that of its forward: without a rule of its own, it is what it runs by itself."""
        report = analyze(Doubled.apply, (torch.zeros(3, 3, requires_grad=True),))
        assert (macs(report), report.work("backward").macs) == (27, 0)
        assert report.coverage.unknown == 0

    def test_an_apply_that_the_model_took_earlier_is_seen_too(self) -> None:
        class Keeps(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.function = Doubled.apply

            def forward(self, x: Tensor) -> Tensor:
                return self.function(x)

        @rule(Doubled)
        def doubled(x: Spec) -> Cost:
            return Cost(Work(elementwise=x.numel), {"x": Work(elementwise=5 * x.numel)})

        x = torch.zeros(3, 3, requires_grad=True)
        report = analyze(Keeps(), (x,), rules=[doubled])
        assert (report.forward, report.backward) == (9, 45)

    def test_a_rule_for_a_module_class_replaces_what_it_calls(self) -> None:
        @rule(nn.TransformerEncoderLayer)
        def layer(src: Spec) -> Cost:
            return Cost(Work(macs=7), {"src": Work(), "*": Work(macs=1)})

        model = nn.Sequential(nn.TransformerEncoderLayer(8, 2, 16), nn.Linear(8, 8))
        report = analyze(model, (torch.zeros(3, 1, 8),), rules=[layer])
        assert macs(report) == 7 + 3 * 8 * 8
        assert not report.uncalled_modules()

    def test_a_subclass_with_a_forward_of_its_own_is_not_its_base(self) -> None:
        class Twice(nn.Linear):
            def forward(self, input: Tensor) -> Tensor:
                return super().forward(super().forward(input))

        class Same(nn.Linear):
            pass

        @rule(nn.Linear)
        def priced(input: Spec) -> Cost:
            return Cost(Work(macs=1), {"*": Work()})

        x = torch.zeros(1, 4)
        assert macs(analyze(Twice(4, 4), (x,), rules=[priced])) == 2 * 16
        assert macs(analyze(Same(4, 4), (x,), rules=[priced])) == 1

    def test_a_module_with_described_outputs_never_runs(self) -> None:
        class Untraceable(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return x if x.sum() > 0 else -x

        @rule(Untraceable, outputs=lambda x: x)
        def untraceable(x: Spec) -> Cost:
            return Cost(Work(elementwise=x.numel), {"x": Work(elementwise=x.numel)})

        model = nn.Sequential(nn.Linear(4, 4), Untraceable(), nn.Linear(4, 4))
        report = analyze(model, (torch.zeros(2, 4),), rules=[untraceable])
        assert report.coverage.unknown == 0
        assert report.work("wgrad").macs == 2 * (2 * 4 * 4), "gradients flow through it"

    def test_an_operator_that_a_rule_describes_does_not_run_either(self) -> None:
        """PyTorch's own shape function refuses grouped_mm of float32, which its kernels compute."""

        @rule(torch.ops.aten._grouped_mm, outputs=lambda self, mat2: Spec((self.shape[0], mat2.shape[-1]), self.dtype))
        def grouped(self: Spec, mat2: Spec) -> Cost:
            macs = Work(macs=self.numel * mat2.shape[-1])
            return Cost(macs, {"self": macs, "mat2": macs})

        def model(x: Tensor, experts: Tensor, ends: Tensor) -> Tensor:
            return grouped_mm(x, experts, offs=ends).relu()

        x, experts = torch.zeros(8, 4, requires_grad=True), torch.zeros(2, 4, 16, requires_grad=True)
        report = analyze(model, (x, experts, torch.zeros(2, dtype=torch.int32)), rules=[grouped])
        assert macs(report) == 8 * 4 * 16
        assert report.work("backward").macs == 2 * 8 * 4 * 16

    def test_a_rule_for_a_torch_function_written_in_python(self) -> None:
        @rule(F.normalize)
        def normalized(input: Spec) -> Cost:
            return Cost(Work(elementwise=100), {"input": Work()})

        assert analyze(F.normalize, (torch.zeros(2, 2),), rules=[normalized]).forward == 100


class TestOneAnswer:
    @pytest.fixture
    def model(self) -> nn.Module:
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, dropout=0.0)
        return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def answer(self, model: nn.Module, x: Tensor, **options: Any) -> tuple[int, ...]:
        report = analyze(model, (x,), **options)
        return report.forward, report.dgrad, report.wgrad, report.recompute

    def test_on_cpu_meta_and_fake_tensors(self, model: nn.Module) -> None:
        x = torch.zeros(2, 5, 16)
        cpu = self.answer(model, x)
        assert self.answer(model, x.to("meta")) == cpu
        assert self.answer(model.to("meta"), x) == cpu
        with torch._subclasses.FakeTensorMode():
            fake = torch.zeros(2, 5, 16)
        assert self.answer(model, fake) == cpu

    def test_under_no_grad_and_inference_mode(self, model: nn.Module) -> None:
        x = torch.zeros(2, 5, 16)
        outside = self.answer(model, x)
        with torch.no_grad():
            assert self.answer(model, x) == outside
        with torch.inference_mode():
            assert self.answer(model, x) == outside

    def test_inside_the_callers_own_fake_mode_and_under_a_default_device(self, model: nn.Module) -> None:
        outside = self.answer(model, torch.zeros(2, 5, 16))
        with torch._subclasses.FakeTensorMode(allow_non_fake_inputs=True):
            assert self.answer(model, torch.zeros(2, 5, 16)) == outside
        with torch.device("meta"):
            assert self.answer(model, torch.zeros(2, 5, 16)) == outside

    def test_on_meta_although_the_model_makes_tensors_without_a_device(self) -> None:
        class Counts(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.layer = nn.Linear(4, 4)

            def forward(self, x: Tensor) -> Tensor:
                return self.layer(x + torch.arange(4))

        assert self.answer(Counts().to("meta"), torch.zeros(2, 4)) == self.answer(Counts(), torch.zeros(2, 4))

    def test_in_train_and_eval_mode_where_nothing_is_dropped(self, model: nn.Module) -> None:
        x = torch.zeros(2, 5, 16)
        assert self.answer(model.eval(), x) == self.answer(model.train(), x)

    def test_the_second_time_as_the_first(self, model: nn.Module) -> None:
        x = torch.zeros(2, 5, 16)
        assert self.answer(model, x) == self.answer(model, x)


class Keeper(nn.Module):
    """Does all to itself that a forward may do, and refuses inputs of a certain size."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.norm = nn.BatchNorm1d(4)
        self.drop = nn.Dropout(0.5)
        self.register_buffer("total", torch.zeros(4))
        self.calls, self.kept, self.table = 0, [], {"a": 1}

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.kept.append(x)
        self.table["b"] = x
        self.last = x
        self.total += x.sum(0)
        self.layer.weight.data.mul_(2)
        if x.shape[0] == 3:
            raise ValueError("three is not allowed")
        return self.drop(self.norm(self.layer(x)))


def snapshot(model: nn.Module) -> dict[str, Any]:
    state: dict[str, Any] = {f"tensor {name}": tensor.clone() for name, tensor in model.state_dict().items()}
    for path, module in model.named_modules():
        state[f"attributes {path}"] = sorted(vars(module))
        state[f"training {path}"] = module.training
        for name, value in vars(module).items():
            if isinstance(value, (int, list, dict)) and not name.startswith("_"):
                state[f"{path}.{name}"] = repr(value)
            if name.endswith("hooks"):
                state[f"{path}.{name}"] = len(value)
    for name, value in (*model.named_parameters(), *model.named_buffers()):
        state[f"identity {name}"] = id(value), value._version, value.requires_grad
        state[f"gradient {name}"] = None if value.grad is None else value.grad.clone()
    state["random"] = torch.get_rng_state()
    return state


def same(before: Any, after: Any) -> bool:
    return torch.equal(before, after) if torch.is_tensor(before) else before == after


def boom(input: Spec) -> Cost:
    raise RuntimeError("boom")


class TestNothingChanged:
    @pytest.mark.parametrize(
        ("rows", "rules", "error"),
        [
            pytest.param(2, [], None, id="after an analysis"),
            pytest.param(3, [], CaptureError, id="after the model raised"),
            pytest.param(2, [rule(torch.ops.aten.linear)(boom)], RuleError, id="after a rule raised"),
        ],
    )
    def test_the_model_is_bit_equal(self, rows: int, rules: Any, error: type[Exception] | None) -> None:
        model = Keeper()
        model(torch.ones(2, 4)).sum().backward()
        before = snapshot(model)
        if error is None:
            analyze(model, (torch.ones(rows, 4),), rules=rules)
        else:
            with pytest.raises(error):
                analyze(model, (torch.ones(rows, 4),), rules=rules)
        after = snapshot(model)
        assert before.keys() == after.keys()
        assert [name for name in before if not same(before[name], after[name])] == []

    def test_torch_is_as_it_was_also_when_a_model_raises(self) -> None:
        call, apply = nn.Module.__call__, torch.autograd.Function.apply
        fast_path = torch.backends.mha.get_fastpath_enabled()
        for rows in (2, 3):
            with suppress(CaptureError):
                analyze(Keeper(), (torch.ones(rows, 4),))
            assert nn.Module.__call__ is call
            assert torch.autograd.Function.apply == apply
            assert torch.backends.mha.get_fastpath_enabled() == fast_path
            assert not torch.overrides._get_current_function_mode_stack()
            assert torch.utils._python_dispatch._get_current_dispatch_mode() is None
            assert not isinstance(nn.Linear(2, 2)(torch.zeros(1, 2)), torch._subclasses.FakeTensor)

    def test_nothing_is_allocated_for_weights(self) -> None:
        with torch.device("meta"):
            model = nn.Sequential(*(nn.Linear(100_000, 100_000, bias=False) for _ in range(8)))
        report = analyze(model, (torch.empty(1, 100_000, device="meta"),))
        assert macs(report) == 8 * 10**10


class TestWhere:
    def test_every_entry_knows_module_path_and_source_line(self) -> None:
        class Inner(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return x * 2  # the line

        report = analyze(nn.Sequential(nn.Identity(), Inner()), (torch.zeros(2),))
        (entry,) = (entry for entry in report.entries if entry.operator == "mul")
        file, line = entry.line.rsplit(":", 1)
        assert entry.path == "1"
        assert Path(file) == Path(__file__)
        assert "# the line" in Path(file).read_text().splitlines()[int(line) - 1]

    def test_a_shared_module_counts_once_for_each_call(self) -> None:
        layer = nn.Linear(4, 4)
        report = analyze(nn.Sequential(layer, nn.ReLU(), layer), (torch.zeros(1, 4),))
        assert macs(report) == 2 * 16
        assert sum(report.parameters.values()) == 4 * 4 + 4

    def test_modules_that_do_not_run_are_named(self) -> None:
        class Skips(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.used, self.unused = nn.Linear(2, 2), nn.Linear(2, 2)

            def forward(self, x: Tensor) -> Tensor:
                return self.used(x)

        report = analyze(Skips(), (torch.zeros(1, 2),))
        assert report.uncalled_modules() == {"unused"}
        assert report.optimizer == 15 * (2 * 2 + 2), "a parameter without gradient is not updated"


class TestRefusals:
    def refuse(self, model: Callable[..., Any], *args: Any) -> str:
        with pytest.raises(CaptureError) as caught:
            analyze(model, args)
        return str(caught.value)

    def test_a_branch_on_data_names_path_line_and_the_rule_to_write(self) -> None:
        class Branches(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return x if x.sum() > 0 else -x

        message = self.refuse(nn.Sequential(nn.Linear(2, 2), Branches()), torch.zeros(1, 2))
        assert "1 (Branches)" in message
        assert f"{__file__}:" in message
        assert "x.sum() > 0" in message
        assert "data-dependent control flow" in message
        assert "@rule(" in message
        assert "outputs=" in message

    def test_the_rule_to_paste_runs_and_leaves_the_op_unknown_until_it_is_filled_in(self, tmp_path: Path) -> None:
        class Branches(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return x if x.sum() > 0 else -x

        model = nn.Sequential(Branches())
        stub = "\n".join(
            line[4:] for line in self.refuse(model, torch.zeros(1, 2)).splitlines() if line.startswith("    ")
        )
        file = tmp_path / "my_rules.py"
        file.write_text(stub[stub.index("from typing") :])
        report = analyze(model, (torch.zeros(1, 2),), rules=[file])
        assert report.coverage.unknown == 1
        assert "not filled in" in report.unknown[0].why

    def test_an_error_of_the_model_keeps_its_words(self) -> None:
        message = self.refuse(Keeper(), torch.ones(3, 4))
        assert "ValueError: three is not allowed" in message
        assert "float32(3, 4)" in message

    def test_a_wrong_shape_names_the_layer(self) -> None:
        message = self.refuse(nn.Sequential(nn.ReLU(), nn.Linear(3, 2)), torch.zeros(1, 4))
        assert "1 (Linear)" in message

    def test_args_must_be_inputs(self) -> None:
        with pytest.raises(graphflops.UsageError, match="args must be a tuple of inputs, not object"):
            analyze(nn.Linear(2, 2), object())  # type: ignore[arg-type]
