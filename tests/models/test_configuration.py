"""The configuration refuses what no model can be built from, and the preset belongs to whoever looks it up."""

import dataclasses
import importlib

import pytest

import graphflops.models
import graphflops.models.configuration
from graphflops.models import ConfigurableResNetBK, ResNetBKConfig

TINY = {"vocab_size": 5, "d_model": 4, "n_layers": 1, "n_seq": 3, "num_experts": 2}
SIZES = ("vocab_size", "d_model", "n_layers", "n_seq", "num_experts")
REFUSED = [
    *((name, value) for name in SIZES for value in (0, -1, 3.5, 4.0, True, "4", None)),
    *(("top_k", value) for value in (0, 3, 1.0, True, None)),
    *(("dropout", value) for value in (-0.1, 1, 1.0, float("nan"), False, "0.1", None)),
    *(("use_analytic_gradient", value) for value in (1, 0, None, "yes")),
    *(("grad_blend", value) for value in (-0.1, 1.1, float("nan"), True, None)),
]


@pytest.mark.parametrize(("field", "value"), REFUSED)
class TestARefusedValue:
    def test_is_named_at_construction(self, field: str, value: object) -> None:
        with pytest.raises(ValueError, match=rf"^{field} must be .*, got {value!r}$"):
            ResNetBKConfig(**{**TINY, field: value})

    def test_is_named_when_a_model_is_built_after_an_assignment(self, field: str, value: object) -> None:
        config = ResNetBKConfig(**TINY)
        setattr(config, field, value)
        with pytest.raises(ValueError, match=rf"^{field} must be .*, got {value!r}$"):
            ConfigurableResNetBK(config)


@pytest.mark.parametrize(
    ("field", "value"),
    [("top_k", 2), ("dropout", 0), ("dropout", 0.99), ("grad_blend", 0), ("grad_blend", 1.0), ("n_seq", 1)],
)
def test_the_ends_of_each_range_are_allowed(field: str, value: object) -> None:
    assert getattr(ResNetBKConfig(**{**TINY, field: value}), field) == value


def test_top_k_is_bounded_by_the_experts_there_are() -> None:
    with pytest.raises(ValueError, match=r"top_k must be an int in 1\.\.num_experts = 1\.\.4, got 5"):
        ResNetBKConfig(num_experts=4, top_k=5)


def test_replace_makes_a_checked_copy() -> None:
    config = ResNetBKConfig()
    assert dataclasses.replace(config, d_model=32).d_model == 32
    assert config.d_model == 64
    with pytest.raises(ValueError, match="d_model"):
        dataclasses.replace(config, d_model=0)


@pytest.mark.parametrize("config", [None, {"d_model": 64}, ResNetBKConfig])
def test_a_model_is_built_from_a_config_only(config: object) -> None:
    with pytest.raises(ValueError, match="config must be a ResNetBKConfig, got"):
        ConfigurableResNetBK(config)


def test_a_config_may_be_changed_after_a_model_was_built() -> None:
    config = ResNetBKConfig(**TINY)
    model = ConfigurableResNetBK(config)
    config.d_model = 8
    assert model.config == ResNetBKConfig(**TINY)


class TestThePreset:
    @pytest.mark.parametrize("module", ["graphflops.models", "graphflops.models.configuration"])
    def test_may_be_assigned_to_without_changing_the_next_one(self, module: str) -> None:
        presets = importlib.import_module(module)
        config = presets.BASELINE_CONFIG
        config.d_model = 48
        baseline = presets.BASELINE_CONFIG
        assert baseline == ResNetBKConfig()

    def test_is_another_object_at_each_import(self) -> None:
        from graphflops.models import BASELINE_CONFIG as FIRST
        from graphflops.models import BASELINE_CONFIG as SECOND

        FIRST.d_model = 48
        assert SECOND.d_model == 64

    @pytest.mark.parametrize("module", [graphflops.models, graphflops.models.configuration])
    def test_is_listed_like_any_name(self, module) -> None:
        assert "BASELINE_CONFIG" in dir(module)

    def test_comes_with_a_star_import(self) -> None:
        names: dict[str, object] = {}
        exec("from graphflops.models import *", names)
        assert set(graphflops.models.__all__) <= set(names)

    @pytest.mark.parametrize("module", [graphflops.models, graphflops.models.configuration])
    def test_is_the_only_name_made_on_look_up(self, module) -> None:
        with pytest.raises(AttributeError, match=rf"{module.__name__}.*NO_SUCH_CONFIG"):
            _ = module.NO_SUCH_CONFIG
