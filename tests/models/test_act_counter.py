"""ACTFLOPsCounter and measure_act_flops: models whose layers do not all run."""

from typing import Any

import pytest
import torch
from torch import nn

from graphflops import ACTFLOPsCounter, FLOPsCount, FLOPsCounter, UsageError, measure_act_flops
from graphflops.models import ConfigurableResNetBK, ResNetBKConfig


def model(n_layers: int = 4, **changes: Any) -> ConfigurableResNetBK:
    return ConfigurableResNetBK(ResNetBKConfig(vocab_size=50, d_model=8, n_layers=n_layers, n_seq=6, **changes))


@pytest.mark.parametrize("adaptive", [False, True])
class TestActualFlops:
    def test_all_layers_without_overhead_are_the_plain_model(self, adaptive: bool) -> None:
        counter = ACTFLOPsCounter(model(use_adaptive_computation=adaptive), 3, 6)
        actual, plain = counter.count_actual_flops(4, include_act_overhead=False), FLOPsCounter(model(), 3, 6)
        assert (actual.forward, actual.backward) == (
            plain.count_forward_flops().forward,
            plain.count_backward_flops().backward,
        )

    def test_each_layer_costs_the_same(self, adaptive: bool) -> None:
        counter = ACTFLOPsCounter(model(use_adaptive_computation=adaptive), 4, 6)
        one, two, three = (counter.count_actual_flops(layers, include_act_overhead=False) for layers in (1, 2, 3))
        assert two - one == three - two
        layer = FLOPsCounter(model(), 4, 6).component_flops["layer_0"]
        assert two - one == FLOPsCount(layer.forward, layer.backward)

    def test_one_layer_is_a_model_of_one_layer(self, adaptive: bool) -> None:
        counter = ACTFLOPsCounter(model(use_adaptive_computation=adaptive), 4, 6)
        one = counter.count_actual_flops(1, include_act_overhead=False)
        alone = FLOPsCounter(model(n_layers=1), 4, 6).count_total_flops()
        assert (one.forward, one.backward) == (alone.forward, alone.backward)

    def test_the_overhead_is_there_unless_it_is_left_out(self, adaptive: bool) -> None:
        counter = ACTFLOPsCounter(model(use_adaptive_computation=adaptive), 3, 6)
        assert counter.count_actual_flops(4) == (
            counter.count_actual_flops(4, include_act_overhead=False) + counter.count_act_overhead_flops()
        )

    def test_fewer_layers_save_more(self, adaptive: bool) -> None:
        counter = ACTFLOPsCounter(model(use_adaptive_computation=adaptive), 3, 6)
        saved = [counter.compute_flops_reduction(layers) for layers in (3, 2.5, 1)]
        assert saved == sorted(saved)
        assert 0 < saved[0] < saved[-1] < 1


def test_the_overhead_of_a_model_without_halting_is_a_unit_after_each_layer_but_the_last() -> None:
    tokens, d, half = 3 * 6, 8, 4
    unit = 2 * d * half + half + 2 * half + 4  # a product, a ReLU, a product to one number, and a sigmoid of four
    assert ACTFLOPsCounter(model(), 3, 6).count_act_overhead_flops().forward == 3 * tokens * unit


class TestMeasured:
    def test_the_count_is_that_of_the_operators_that_run(self) -> None:
        adaptive = model(use_adaptive_computation=True)
        for unit in adaptive.halting.units:
            nn.init.constant_(unit[2].bias, 50.0)  # all of 1 is given away after the first layer
        measured = measure_act_flops(adaptive, [(torch.randint(50, (3, 6)), "target")] * 2)
        assert measured["act_statistics"]["avg_layers_executed"] == 1
        counter = ACTFLOPsCounter(adaptive, 3, 6)
        assert measured["flops"]["full_model"] == counter.base_counter.count_total_flops().to_dict()
        alone, deciding = (
            FLOPsCounter(model(n_layers=1), 3, 6).count_forward_flops(),
            counter.count_act_overhead_flops(),
        )
        assert 0 < measured["flops"]["with_act"]["forward"] - alone.forward < deciding.forward
        assert measured["avg_flops_per_token"] == measured["flops"]["with_act"]["total"] / 18

    def test_a_model_that_skips_nothing_costs_all_of_it(self) -> None:
        measured = measure_act_flops(model(), [torch.randint(50, (3, 6))])
        assert measured["act_statistics"]["avg_layers_executed"] == 4
        assert measured["flops"]["reduction"] == 0

    def test_the_number_of_batches_is_the_requested_one(self) -> None:
        batches = ((torch.randint(50, (3, 6)),) for _ in range(9))
        assert measure_act_flops(model(), batches, max_batches=2)["act_statistics"]["batches"] == 2
        assert len(list(batches)) == 7


class TestWhenSomethingIsWrong:
    @pytest.mark.parametrize("layers", [-1, 4.1, float("nan"), True, "2"])
    def test_numbers_of_layers(self, layers: Any) -> None:
        with pytest.raises(UsageError, match="from 0 to 4"):
            ACTFLOPsCounter(model(), 3, 6).count_actual_flops(layers)

    def test_a_model_without_layers(self) -> None:
        with pytest.raises(UsageError, match="no list of layers"):
            ACTFLOPsCounter(nn.Embedding(9, 4), 3, 6)

    @pytest.mark.parametrize(("batches", "message"), [([], "no batches"), ([torch.zeros(3)], "token ids")])
    def test_batches(self, batches: list[Any], message: str) -> None:
        with pytest.raises(UsageError, match=message):
            measure_act_flops(model(), batches)
