"""The parts that options put into the model, each by its formula."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphflops import Work, analyze
from graphflops.analysis.op_counter import count_scalar_ops
from graphflops.models import BKCore, SparseMoE
from graphflops.models.active_learning import most_uncertain
from graphflops.models.adaptive import Halting
from graphflops.models.curriculum import curriculum
from graphflops.models.gradient_caching import train_reusing_gradients
from graphflops.models.koopman import Koopman, KoopmanLayer
from graphflops.models.losses import with_loss
from graphflops.models.moe import Experts
from graphflops.models.multi_scale import AtScale
from graphflops.models.physics import Energy, EnergyConserving
from graphflops.models.precision import CastLinear, InBfloat16
from graphflops.models.pruning import expert_shares, prune
from graphflops.models.quantization import QuantizedLinear, quantize, quantized
from graphflops.models.scattering import ScatteringMoE, ScatteringRouter
from graphflops.models.sparsity import SparseCore

D = 8


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def x(*shape: int) -> Tensor:
    return torch.randn(*(shape or (2, 6, D)), requires_grad=True)


def plain(layer: nn.Module, inputs: Tensor, run=lambda layer, inputs: layer(inputs)) -> Tensor:
    return run(layer, inputs)


class TestALossOfItsOwn:
    def test_leaves_the_value_and_adds_its_gradient(self) -> None:
        a, b = x(), x(3)
        carried = with_loss(a, b.square().sum())
        assert torch.equal(carried, a)
        carried.sum().backward()
        assert torch.equal(a.grad, torch.ones_like(a))
        torch.testing.assert_close(b.grad, 2 * b.detach())

    def test_costs_nothing_itself(self) -> None:
        report = analyze(with_loss, (x(), torch.zeros((), requires_grad=True)))
        assert report.total == 0
        assert report.coverage.unknown == 0


class TestKoopman:
    def test_is_its_formula(self) -> None:
        koopman, inputs = Koopman(D, 12), x()
        lifted = koopman.lift[2](koopman.lift[0](inputs).tanh())
        torch.testing.assert_close(koopman(inputs), koopman.project(lifted @ koopman.operator.weight.T))

    def test_learns_the_layer_and_does_not_change_it(self) -> None:
        layer = nn.Linear(D, D)
        layers = KoopmanLayer(layer, Koopman(D, 12))
        layers(x()).detach().sum()
        y = layers(x())
        (y * 0).sum().backward()
        assert not layer.weight.grad.any()
        assert all(
            parameter.grad.any() for name, parameter in layers.koopman.named_parameters() if name.endswith("weight")
        )

    def test_predicts_after_learning(self) -> None:
        target = nn.Linear(D, D).requires_grad_(False)
        layers = KoopmanLayer(target, Koopman(D, 32))
        optimizer = torch.optim.Adam(layers.parameters(), lr=1e-2)
        inputs = torch.randn(32, 4, D)
        before = F.mse_loss(layers.koopman(inputs), target(inputs))
        for _ in range(60):
            optimizer.zero_grad()
            layers(inputs).sum().backward()
            optimizer.step()
        assert F.mse_loss(layers.eval()(inputs), target(inputs)) < 0.1 * before


class TestEnergy:
    def test_is_its_formula(self) -> None:
        energy, inputs = Energy(D), x()
        kinetic = sum((inputs[:, n + 1] - inputs[:, n]).square().sum(-1) for n in range(5)) / 12
        torch.testing.assert_close(energy(inputs), kinetic + energy.potential(inputs)[..., 0].mean(-1))

    def test_is_conserved_by_a_layer_that_adds_nothing(self) -> None:
        layer = EnergyConserving(nn.Linear(D, D), Energy(D))
        nn.init.zeros_(layer.layer.weight)
        nn.init.zeros_(layer.layer.bias)
        (layer(x()) * 0).sum().backward()
        assert not layer.layer.weight.grad.any()

    def test_is_no_part_of_prediction(self) -> None:
        layer = EnergyConserving(nn.Linear(D, D), Energy(D)).eval()
        assert analyze(layer, (x(),)).macs == 2 * 6 * D * D


class TestQuantization:
    @pytest.mark.parametrize("bits", [4, 8])
    def test_rounds_to_integers_of_that_width(self, bits: int) -> None:
        integers, scale = quantize(x(5, D), bits)
        top = 2 ** (bits - 1) - 1
        assert integers.dtype == torch.int8
        assert integers.abs().amax(-1).tolist() == [top] * 5
        assert ((integers * scale - quantize(integers * scale, bits)[0] * scale).abs() < 1e-6).all()

    def test_is_close_to_what_it_stands_for(self) -> None:
        layer, inputs = QuantizedLinear(64, 32), torch.randn(100, 64)
        exact = F.linear(inputs, layer.weight, layer.bias)
        assert (layer(inputs) - exact).square().mean() < 1e-3 * exact.square().mean()

    def test_of_zeros_is_zero(self) -> None:
        assert not QuantizedLinear(D, 3, bias=False)(torch.zeros(2, D)).any()

    def test_goes_straight_through_on_the_way_back(self) -> None:
        layer, inputs, grad = QuantizedLinear(D, 3, bits=4), x(5, D), torch.randn(5, 3)
        layer(inputs).backward(grad)
        rounded, weight = (torch.mul(*quantize(tensor.detach(), 4)) for tensor in (inputs, layer.weight))
        torch.testing.assert_close(inputs.grad, grad @ weight)
        torch.testing.assert_close(layer.weight.grad, grad.T @ rounded)
        torch.testing.assert_close(layer.bias.grad, grad.sum(0))

    def test_its_rule_is_what_runs_but_for_the_clamp(self) -> None:
        layer, inputs = QuantizedLinear(D, 3), x(5, D)
        report, counted = analyze(layer, (inputs,)), count_scalar_ops(layer, (inputs,))
        rows = 5 + 3
        additional = counted.forward + -1 * report.work("forward")
        macs = 5 * D * 3  # which are published for this layer as two operations on integers each
        assert dict(additional.items()) == {"macs": macs, "elementwise": 2 * rows, "integer": rows - 2 * macs}
        assert counted.backward.macs == report.work("backward").macs == 2 * 5 * D * 3
        assert counted.backward.elementwise - report.work("backward").elementwise == 2 * rows

    @pytest.mark.parametrize("bits", [None, 8])
    def test_one_expert_for_all_is_the_expert_itself(self, bits: int | None) -> None:
        linear = nn.Linear if bits is None else quantized(bits)
        moe = SparseMoE(D, num_experts=1, top_k=1, linear=linear)
        parts = {entry.part: entry for entry in analyze(moe, (x(),)).entries}
        expert = analyze(moe.experts[0], (x(),))
        chosen = [parts[name] for name in ("experts", "quantize", "straight_through", "dropout") if name in parts]
        for phase in ("forward", "dgrad", "wgrad"):
            claimed = sum((entry.work.get(phase, Work()) for entry in chosen), Work())
            if phase == "dgrad":  # the published table has the gradient of the ReLU at two operations, and not one
                claimed += Work(elementwise=-2 * 6 * 2 * D)
            for kind in ("macs", "elementwise", "division", "integer"):
                assert getattr(claimed, kind) == getattr(expert.work(phase), kind), (phase, kind)


class TestPruning:
    def test_leaves_a_model_of_the_experts_that_see_enough(self) -> None:
        moe = nn.Sequential(SparseMoE(D, 4, 1))
        assert prune(moe, {"0": (0.5, 0.05, 0.4, 0.05)}, 0.1) == {"0": 2}
        twin = nn.Sequential(SparseMoE(D, 2, 1))
        assert analyze(moe, (x(),)).entries == analyze(twin, (x(),)).entries
        assert moe(x()).shape == (2, 6, D)

    def test_keeps_the_function_of_the_remaining_experts(self) -> None:
        model = nn.Sequential(SparseMoE(D, 4, 1, dropout=0.0))
        inputs = x()
        shares = expert_shares(model, [inputs])
        logits = model[0].gate(inputs)
        before = model(inputs)
        prune(model, shares, 1e-9)
        kept = [e for e in range(4) if shares["0"][e] > 0]
        factor = logits.softmax(-1).max(-1).values / logits[..., kept].softmax(-1).max(-1).values
        torch.testing.assert_close(model(inputs) * factor[..., None], before)

    def test_counts_every_visit(self) -> None:
        shares = expert_shares(nn.Sequential(SparseMoE(D, 4, 2)), [x(), x()])["0"]
        assert sum(shares) == pytest.approx(1)

    def test_never_takes_more_than_leaves_top_k(self) -> None:
        assert prune(nn.Sequential(SparseMoE(D, 4, 2)), {"0": (0.25,) * 4}, 1.0) == {"0": 2}

    def test_refuses_shares_of_another_model(self) -> None:
        with pytest.raises(ValueError, match="measure them again"):
            prune(nn.Sequential(SparseMoE(D, 4, 1)), {"0": (0.5, 0.5)}, 0.1)

    def test_needs_batches(self) -> None:
        with pytest.raises(ValueError, match="batch"):
            expert_shares(nn.Sequential(SparseMoE(D, 4, 1)), [])


class TestScattering:
    def test_has_no_parameters(self) -> None:
        assert not list(ScatteringRouter(4, 1).parameters())

    @pytest.mark.parametrize(("features", "expert"), [((1, 0), 0), ((0, 1), 1), ((-1, 0), 2), ((0, -1), 3)])
    def test_an_expert_has_its_phase(self, features: tuple[int, int], expert: int) -> None:
        _, chosen = ScatteringRouter(4, 1)(torch.tensor([features], dtype=torch.float32))
        assert chosen.tolist() == [[expert]]

    def test_experts_behind_it_cost_what_those_behind_a_gate_do(self) -> None:
        moe = ScatteringMoE(Experts(D, 4), ScatteringRouter(4, 2))
        parts = {entry.part: entry.work for entry in analyze(moe, (x(), x(2, 6, 2))).entries if entry.part}
        gated = {entry.part: entry.work for entry in analyze(SparseMoE(D, 4, 2), (x(),)).entries}
        assert parts["experts"] == gated["experts"]
        assert parts["dropout"] == gated["dropout"]


class TestSparsity:
    def test_of_all_sites_is_the_core_itself(self) -> None:
        core = SparseCore(BKCore, 6, 1.0)
        outputs: list[Tensor] = []
        core.core.register_forward_hook(lambda _, args, out: outputs.append(out))
        v = torch.randn(2, 6)
        core(v)
        torch.testing.assert_close(outputs[0], BKCore(6)(v))

    def test_takes_the_most_important_in_their_order(self) -> None:
        core = SparseCore(BKCore, 6, 0.5)
        core_inputs: list[Tensor] = []
        core.core.register_forward_hook(lambda _, args, out: core_inputs.append(args[0]))
        v = torch.randn(1, 6)
        core(v)
        importance = core.importance(v[:, None])[0, 0]
        kept = sorted(importance.topk(3).indices.tolist())
        torch.testing.assert_close(core_inputs[0], v[:, kept])

    @pytest.mark.parametrize("share", [0, 1.5, True])
    def test_is_a_share(self, share: object) -> None:
        with pytest.raises(ValueError, match="share"):
            SparseCore(BKCore, 6, share)


def test_a_scale_halves_the_layer_and_gives_the_whole_sequence_back() -> None:
    layer = AtScale(nn.Linear(D, D), 2, D)
    inputs = x()
    pairs = inputs.reshape(2, 3, 2 * D)
    torch.testing.assert_close(layer(inputs), layer.up(layer.layer(layer.down(pairs))).reshape(2, 6, D))
    assert analyze(layer, (inputs,)).macs == 2 * 3 * (D * D + 2 * 2 * D * D)


class TestHalting:
    def layers(self) -> nn.ModuleList:
        return nn.ModuleList(nn.Linear(D, D) for _ in range(3))

    def halting(self, certainty: float) -> Halting:
        halting = Halting(D, 3).eval()
        for unit in halting.units:
            nn.init.zeros_(unit[2].weight)
            nn.init.constant_(unit[2].bias, certainty)
        return halting

    def test_of_units_that_are_never_sure_runs_every_layer(self) -> None:
        layers, inputs = self.layers(), x()
        torch.testing.assert_close(self.halting(-1e9)(layers, inputs, plain), layers[2](layers[1](layers[0](inputs))))

    def test_of_units_that_are_sure_runs_the_first_alone(self) -> None:
        layers, inputs, ran = self.layers(), x(), []
        layers[1].register_forward_hook(lambda _, args, __: ran.append(args[0].shape[0]))
        torch.testing.assert_close(self.halting(1e9)(layers, inputs, plain), layers[0](inputs))
        assert ran == [0]

    def test_weights_the_output_of_each_layer(self) -> None:
        layers, inputs = self.layers(), x()
        one = layers[0](inputs)
        two = layers[1](one)
        expected = 0.25 * one + 0.25 * two + 0.5 * layers[2](two)
        quarter = torch.logit(torch.tensor(0.25)).item()
        torch.testing.assert_close(self.halting(quarter)(layers, inputs, plain), expected)


def test_bfloat16_is_inside_and_float32_outside() -> None:
    layer = InBfloat16(CastLinear(D, D))
    layer(x()).sum().backward()
    assert layer(x()).dtype == layer.layer.weight.grad.dtype == torch.float32
    assert layer.layer(x().bfloat16()).dtype == torch.bfloat16


class TestOverARun:
    @pytest.mark.parametrize(
        ("n", "steps", "multiple", "expected"),
        [
            (128, 8, 1, [(32, 2), (64, 2), (96, 2), (128, 2)]),
            (128, 2, 1, [(64, 1), (128, 1)]),
            (10, 4, 4, [(4, 1), (8, 2), (10, 1)]),
        ],
    )
    def test_a_curriculum_ends_at_the_whole_length(self, n, steps, multiple, expected) -> None:
        stages = curriculum(n, steps, multiple=multiple)
        assert sum(count for _, count in stages) == steps
        merged: dict[int, int] = {}
        for length, count in stages:
            merged[length] = merged.get(length, 0) + count
        assert list(merged.items()) == expected

    def test_active_learning_takes_the_most_uncertain(self) -> None:
        logits = torch.tensor([[[9.0, 0]], [[1.0, 1]], [[3.0, 0]]])
        model = nn.Embedding.from_pretrained(logits[:, 0])
        assert most_uncertain(model, torch.tensor([[0], [1], [2]]), 2).tolist() == [[1], [2]]
        assert model.training
        with pytest.raises(ValueError, match="count"):
            most_uncertain(model, torch.tensor([[0]]), 2)

    @pytest.mark.parametrize("every", [1, 3])
    def test_cached_gradients_step_reuse_times(self, every: int) -> None:
        w = nn.Parameter(torch.tensor(0.0))
        calls: list[float] = []

        def loss(target: float) -> Tensor:
            calls.append(target)
            return -w * target

        train_reusing_gradients(loss, torch.optim.SGD([w], lr=1.0), [1.0, 2.0], every)
        assert calls == [1.0, 2.0]
        assert w.item() == 3.0 * every
