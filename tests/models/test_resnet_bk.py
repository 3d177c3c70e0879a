"""The ResNet-BK language model: its formula, its parameters, what it refuses, and that it learns."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from graphflops.models import BASELINE_CONFIG, ConfigurableResNetBK, LanguageModel, ResNetBKConfig
from graphflops.models.bk_core import BKCore
from graphflops.models.layers import ResNetBKBlock, ResNetBKLayer, TokenAndPositionEmbedding
from graphflops.models.moe import SparseMoE

V, D, N = 11, 8, 6


def tiny(**changes: object) -> ConfigurableResNetBK:
    torch.manual_seed(0)
    sizes = {"vocab_size": V, "d_model": D, "n_layers": 2, "n_seq": N, "num_experts": 3, "top_k": 2}
    return ConfigurableResNetBK(ResNetBKConfig(**{**sizes, **changes}))


def layer_of(**bounds: float) -> ResNetBKLayer:
    return ResNetBKLayer(D, SparseMoE(D), BKCore(N), **bounds)


def tokens(batch: int = 2) -> Tensor:
    return torch.randint(0, V, (batch, N), generator=torch.Generator().manual_seed(0))


class TestFormula:
    def test_of_the_layer(self) -> None:
        torch.manual_seed(0)
        layer = layer_of().eval()
        with torch.no_grad():
            layer.bk_scale.fill_(0.7)
        x = torch.randn(2, N, D)

        ffn = layer.moe_ffn(x)
        v = (ffn @ layer.v_proj.weight.T + layer.v_proj.bias)[..., 0].clamp(-3, 3).double()
        line = torch.diag(torch.ones(N - 1), 1) + torch.diag(torch.ones(N - 1), -1) - 2 * torch.eye(N)
        g = torch.linalg.inv(line + torch.diag_embed(v) - 1j * torch.eye(N)).diagonal(dim1=-2, dim2=-1)
        features = torch.stack((g.real, g.imag), dim=-1).clamp(-10, 10).float()
        expected = ffn + 0.7 * (features @ layer.output_proj.weight.T + layer.output_proj.bias)

        torch.testing.assert_close(layer(x), expected)

    def test_of_the_layer_bounds_the_potential_and_the_features(self) -> None:
        layer = layer_of(v_max=0.5, feature_clamp=0.25).eval()
        tensors: dict[str, Tensor] = {}
        layer.bk_core.register_forward_hook(lambda _, args, __: tensors.update(v=args[0]))
        layer.output_proj.register_forward_hook(lambda _, args, __: tensors.update(features=args[0]))
        layer(100 * torch.randn(2, N, D))
        assert tensors["v"].abs().max() == 0.5
        assert tensors["features"].abs().max() == 0.25

    def test_of_the_block(self) -> None:
        block = ResNetBKBlock(D, layer_of()).eval()
        x = torch.randn(2, N, D)
        normal = F.layer_norm(x, (D,), block.layer_norm.weight, block.layer_norm.bias)
        torch.testing.assert_close(block(x), x + block.bk_layer(normal))

    def test_of_the_embedding(self) -> None:
        embedding = TokenAndPositionEmbedding(V, D, N)
        actual = embedding(tokens())
        for i in range(N):
            torch.testing.assert_close(
                actual[0, i], embedding.token.weight[tokens()[0, i]] + embedding.position.weight[i]
            )

    def test_of_the_model(self) -> None:
        model = tiny().eval()
        x = model.embedding(tokens())
        for block in model.blocks:
            x = block(x)
        torch.testing.assert_close(model(tokens()), model.lm_head(model.final_layernorm(x)))


class TestModel:
    def test_has_4146120_parameters_by_default(self) -> None:
        for model in (LanguageModel(), ConfigurableResNetBK(BASELINE_CONFIG)):
            assert sum(parameter.numel() for parameter in model.parameters()) == 4_146_120

    def test_has_the_defaults_of_its_config(self) -> None:
        model, config = LanguageModel(), ResNetBKConfig()
        assert {name: getattr(model, name) for name in vars(config)} == vars(config)

    def test_hands_its_config_down_to_every_part(self) -> None:
        model = tiny(dropout=0.3, use_analytic_gradient=False, grad_blend=0.25)
        for block in model.blocks:
            moe, core = block.bk_layer.moe_ffn, block.bk_layer.bk_core
            assert (moe.d_model, moe.num_experts, moe.top_k, moe.dropout) == (D, 3, 2, 0.3)
            assert (core.n_seq, core.use_analytic_gradient, core.grad_blend) == (N, False, 0.25)

    def test_has_its_parts_at_known_paths(self) -> None:
        paths = dict(tiny().named_modules())
        assert {
            "embedding.token",
            "embedding.position",
            "blocks.0.layer_norm",
            "blocks.1.bk_layer.moe_ffn.gate",
            "blocks.1.bk_layer.moe_ffn.experts.2.3",
            "blocks.1.bk_layer.v_proj",
            "blocks.1.bk_layer.bk_core",
            "blocks.1.bk_layer.output_proj",
            "final_layernorm",
            "lm_head",
        } <= set(paths)

    @pytest.mark.parametrize("dtype", [torch.int64, torch.int32])
    def test_gives_logits_for_every_token(self, dtype: torch.dtype) -> None:
        logits = tiny()(tokens(batch=3).to(dtype))
        assert (logits.shape, logits.dtype) == ((3, N, V), torch.float32)
        assert logits.isfinite().all()

    @pytest.mark.parametrize("analytic", [True, False])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_gives_every_parameter_a_finite_gradient(self, dtype: torch.dtype, analytic: bool) -> None:
        model = tiny(top_k=3, use_analytic_gradient=analytic).to(dtype)
        model(tokens()).square().sum().backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name

    def test_survives_a_round_trip_of_its_state(self) -> None:
        model, other = tiny().eval(), tiny().eval()
        with torch.no_grad():
            other.lm_head.weight.zero_()
        other.load_state_dict(model.state_dict())
        torch.testing.assert_close(other(tokens()), model(tokens()), rtol=0, atol=0)

    def test_has_shapes_without_data(self) -> None:
        # How many tokens an expert gets is a number only the data knows; a ShapeEnv gives it a symbol.
        with FakeTensorMode(shape_env=ShapeEnv()):
            logits = tiny().eval()(torch.zeros(2, N, dtype=torch.int64))
            logits.sum().backward()
        assert logits.shape == (2, N, V)

    def test_exports_to_a_graph_with_bk_core_as_one_operator(self) -> None:
        program = torch.export.export(tiny().eval(), (tokens(),))
        targets = [node.target for node in program.graph.nodes]
        assert targets.count(torch.ops.graphflops.bk_core.default) == 2

    @pytest.mark.parametrize(
        ("ids", "named"),
        [
            (torch.zeros(2, N), r"got torch.float32 of shape \(2, 6\).*long\(\)"),
            (torch.zeros(2, N, dtype=torch.bool), "got torch.bool"),
            (torch.zeros(2, N + 1, dtype=torch.int64), r"\(B, 6\), got torch.int64 of shape \(2, 7\).*cut or pad"),
            (torch.zeros(N, dtype=torch.int64), r"of shape \(6,\)"),
            (torch.zeros(1, 2, N, dtype=torch.int64), r"of shape \(1, 2, 6\)"),
            ([[0] * N], r"got list.*torch.tensor"),
        ],
    )
    def test_refuses_anything_but_integer_tokens_of_its_length(self, ids: object, named: str) -> None:
        with pytest.raises(ValueError, match=named):
            tiny()(ids)

    def test_refuses_arguments_as_its_config_does(self) -> None:
        with pytest.raises(ValueError, match="top_k"):
            LanguageModel(num_experts=2, top_k=3)


@pytest.mark.parametrize("analytic", [True, False])
def test_learns_the_next_token_of_a_cycle(analytic: bool) -> None:
    torch.manual_seed(0)
    vocab_size, n_seq = 7, 16
    model = LanguageModel(
        vocab_size=vocab_size, d_model=16, n_layers=1, n_seq=n_seq, num_experts=2, use_analytic_gradient=analytic
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        start = torch.randint(0, vocab_size, (16, 1))
        sequence = (start + 3 * torch.arange(n_seq + 1)) % vocab_size
        loss = F.cross_entropy(model(sequence[:, :-1]).flatten(0, 1), sequence[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 1.5
    assert losses[-1] < 0.1 * losses[0]
