"""Laws of models, compared with published formulas: a hand count, papers, closed forms."""

import pytest
import sympy
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import graphflops
from graphflops import Law, LawError, analyze, multiples
from graphflops.models import ConfigurableResNetBK, MambaLM, ResNetBKConfig, TransformerLM
from graphflops.models.reconciliation import HAND_COUNT, HandCount

Made = tuple[nn.Module, tuple[Tensor, ...]]
B, N, D, V, E, K, L, H, S = sympy.symbols("B N D V E K L H S", integer=True, positive=True)


def resnet_bk(B: int, N: int, D: int, V: int, E: int, K: int, L: int) -> Made:
    config = ResNetBKConfig(vocab_size=V, d_model=D, n_layers=L, n_seq=N, num_experts=E, top_k=K)
    return ConfigurableResNetBK(config), (torch.empty(B, N, dtype=torch.int64),)


@pytest.fixture(scope="module")
def resnet_bk_law() -> Law:
    return graphflops.law(resnet_bk, {"B": 8, "N": 32, "D": 16, "V": 100, "E": 4, "K": 1, "L": 2})


class TestResNetBK:
    def of(self, law: Law, path: str, operation: str, *phases: str) -> sympy.Expr:
        """The law of an operation, under the standard convention."""
        chosen = [term for term in law.terms if term.path.endswith(path) and term.what == operation]
        assert chosen
        return sympy.expand(sum(law.sum_of(phase, chosen).as_sympy() for phase in phases))  # type: ignore[arg-type]

    @pytest.mark.parametrize("line", HAND_COUNT, ids=lambda case: case.name)
    def test_the_published_hand_count_comes_out(self, resnet_bk_law: Law, line: HandCount) -> None:
        """Part by part, in all seven sizes, for all layers: 34·B·N of BK-Core a layer, and the others."""
        sizes = {"B": B, "N": N, "D": D, "V": V, "E": E, "K": K}
        forward = sympy.sympify(line.forward, sizes)
        backward = sympy.sympify(line.backward, {**sizes, "forward": forward})
        times = L if line.per_layer else 1
        for by_hand, phases in ((forward, {"forward"}), (backward, {"dgrad", "wgrad"})):
            total = 0
            for path, operation, phase in line.entries:
                if phase in ("*", "forward" if phases == {"forward"} else "backward"):
                    place = path.removeprefix("blocks.*.")
                    total += self.of(resnet_bk_law, place, operation, *phases)
            assert sympy.expand(total - times * by_hand) == 0

    def test_few_traces_suffice_and_are_printed(self, resnet_bk_law: Law) -> None:
        assert resnet_bk_law.traces < 50
        validated = len(resnet_bk_law.validated)
        assert f"from {resnet_bk_law.traces - validated} traces, validated on {validated}" in str(resnet_bk_law)

    def test_it_is_linear_in_the_sequence_length(self, resnet_bk_law: Law) -> None:
        order = resnet_bk_law.order("N")
        assert order.degree == 1
        assert "lm_head: linear, 6·B·N·D·V" in str(order)

    def test_it_equals_the_report_at_other_sizes_under_each_convention(self, resnet_bk_law: Law) -> None:
        sizes = {"B": 3, "N": 50, "D": 24, "V": 77, "E": 5, "K": 2, "L": 3}
        model, args = resnet_bk(**sizes)
        report = graphflops.analyze(model, args)
        for convention in ("standard", "exact", "torch"):
            converted_law, converted = resnet_bk_law.with_convention(convention), report.with_convention(convention)
            for phase in ("forward", "dgrad", "wgrad", "optimizer", "total"):
                assert converted_law.evaluate(phase, **sizes) == converted.flops(phase)
        assert resnet_bk_law.evaluate("parameters", **sizes) == sum(report.parameters.values())
        for name, flops in report.by_component("backward").items():
            if not name.startswith("layer_"):
                assert resnet_bk_law.evaluate("backward", name, **sizes) == flops

    def test_with_constant_depth_each_block_has_a_law(self) -> None:
        law = graphflops.law(lambda N: resnet_bk(2, N, 8, 20, 2, 1, 3), {"N": 16})
        assert law.components == ("embedding", "layer_0", "layer_1", "layer_2", "final_layernorm", "lm_head")
        assert law.by_component()["layer_0"] == law.by_component()["layer_2"]
        assert "layer_0 … layer_2, each" in str(law)


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            tensor.unflatten(-1, (self.heads, -1)).transpose(1, 2) for tensor in self.qkv(self.norm_1(x)).chunk(3, -1)
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).flatten(-2))
        return x + self.down(F.gelu(self.up(self.norm_2(x))))


def transformer(B: int, N: int, D: int, V: int, L: int) -> Made:
    model = TransformerLM(vocab_size=V, d_model=D, n_layers=L, n_seq=N)
    return model, (torch.empty(B, N, dtype=torch.int64),)


@pytest.fixture(scope="module")
def transformer_law() -> Law:
    sizes = {"B": 4, "N": 64, "D": multiples(4, base=32), "V": 100, "L": 2}
    return graphflops.law(transformer, sizes, attention="math")


class TestTransformer:
    def test_the_matrix_products_are_megatrons_formula(self, transformer_law: Law) -> None:
        """Narayanan et al. 2021, equation 3, without checkpoints: 72·B·s·l·h²·(1 + s/6h + V/12lh)."""
        published = sympy.expand(72 * B * N * L * D**2 * (1 + N / (6 * D) + V / (12 * L * D)))
        assert sympy.expand(transformer_law.with_convention("torch").total - published) == 0

    def test_the_quadratic_term_is_attention(self, transformer_law: Law) -> None:
        order = transformer_law.with_convention("torch").order("N")
        assert (order.degree, str(order.coefficient)) == (2, "12*B*D*L")
        assert {term.what for term in order.dominant_terms} == {"scaled_dot_product_attention"}

    def test_the_crossover_with_resnet_bk_is_that_of_the_reports(
        self, resnet_bk_law: Law, transformer_law: Law
    ) -> None:
        sizes = {"B": 4, "D": 32, "V": 100, "E": 4, "K": 4, "L": 2}
        crossing = resnet_bk_law.crossover(transformer_law, "N", **sizes)
        last = crossing.intervals[-1]
        assert (last.cheaper_model, last.last) == ("ConfigurableResNetBK", None)
        for n, expected in ((last.first - 1, False), (last.first, True)):
            ours = graphflops.analyze(*resnet_bk(N=n, **sizes)).total
            transformer_cost = graphflops.analyze(*transformer(4, n, 32, 100, 2), attention="math").total
            assert (ours < transformer_cost) is expected


class TestMamba:
    def test_it_is_linear_with_the_projections_of_the_paper(self) -> None:
        """Gu and Dao 2023: D → 2·2D, 2D → D/16 + 2·S, D/16 → 2D and 2D → D, of each token in each layer."""

        def factory(B: int, N: int, D: int, S: int, L: int) -> Made:
            model = MambaLM(vocab_size=50, d_model=D, n_layers=L, n_seq=N, d_state=S)
            return model, (torch.empty(B, N, dtype=torch.int64),)

        sizes = {"B": 2, "N": 16, "D": multiples(16, base=32), "S": 4, "L": 2}
        law = graphflops.law(factory, sizes, optimizer=None)
        assert law.order("N").degree == 1
        rank, per = D / 16, 2 * B * N * L
        projections = {
            "in_proj": per * D * 4 * D,
            "x_proj": per * 2 * D * (rank + 2 * S),
            "dt_proj": per * rank * 2 * D,
            "out_proj": per * 2 * D * D,
        }
        modules = law.with_convention("torch").by_module()
        for name, published in projections.items():
            assert sympy.expand(modules[f"blocks.*.mixer.{name}"] - published) == 0

    @pytest.mark.slow
    def test_the_rank_is_rounded_up_at_any_width(self) -> None:
        """⌈D/16⌉ times D itself; at 77 the rank is 5, as in the report."""

        def factory(B: int, D: int, L: int) -> Made:
            return MambaLM(vocab_size=50, d_model=D, n_layers=L, n_seq=8, d_state=4), (torch.empty(B, 8).long(),)

        law = graphflops.law(factory, {"B": 2, "D": 32, "L": 2})
        rank = sympy.floor((D + 15) / 16)
        x_proj = law.with_convention("torch").by_module()["blocks.*.mixer.x_proj"]
        assert sympy.expand(x_proj - 2 * B * 8 * L * 2 * D * (rank + 2 * 4)) == 0
        assert law.evaluate(B=3, D=77, L=3) == analyze(*factory(3, 77, 3)).total


class TestRates:
    """At a rate counts are rounded; there is a law where no remainder is left."""

    def factory(self, N: int, D: int) -> Made:
        return nn.Sequential(nn.Linear(D, D), nn.Linear(D, 4 * D)), (torch.empty(N, D),)

    def test_whole_counts_have_a_law(self) -> None:
        law = graphflops.law(self.factory, {"N": 8, "D": 16}, rates={"1": "1/4"})
        assert law.evaluate(N=101, D=33) == analyze(*self.factory(101, 33), rates={"1": "1/4"}).total
        assert law.evaluate(N=101, D=33) < analyze(*self.factory(101, 33)).total

    def test_rounded_counts_have_none(self) -> None:
        with pytest.raises(LawError, match=r"^1 · linear, forward \(macs\): no exact polynomial in N"):
            graphflops.law(self.factory, {"N": 8, "D": 16}, rates={"1": 0.62})


class TestImages:
    def test_a_vision_transformer_in_batch_and_image_size(self) -> None:
        """Attention is a power of four in the image: (I/16)² patches and a class token, each with each."""

        class ViT(nn.Module):
            def __init__(self, image: int, width: int) -> None:
                super().__init__()
                self.patches = nn.Conv2d(3, width, 16, 16)
                self.token = nn.Parameter(torch.zeros(1, 1, width))
                self.position = nn.Parameter(torch.zeros(1, (image // 16) ** 2 + 1, width))
                self.blocks = nn.Sequential(*(Block(width, 2) for _ in range(2)))
                self.head = nn.Linear(width, 1000)

            def forward(self, x: Tensor) -> Tensor:
                x = self.patches(x).flatten(2).transpose(1, 2)
                x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.position
                return self.head(self.blocks(x)[:, 0])

        def factory(B: int, I: int) -> Made:  # noqa: E741
            return ViT(I, 24), (torch.empty(B, 3, I, I),)

        law = graphflops.law(factory, {"B": 2, "I": multiples(16, base=64)}, convention="torch", attention="math")
        i = sympy.Symbol("I", integer=True, positive=True)
        tokens, width = (i / 16) ** 2 + 1, 24
        layer = 24 * B * tokens * width**2 + 4 * B * tokens**2 * width
        patches, head = 2 * B * (tokens - 1) * 3 * 16**2 * width, 2 * B * width * 1000
        assert sympy.expand(law.forward - (2 * layer + patches + head)) == 0

    def test_strides_of_a_convolutional_net_at_any_image_size(self) -> None:
        """A convolution of stride 2 and padding 1 leaves ⌈I/2⌉ rows, and so on."""

        class Net(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.convolutions = nn.ModuleList(nn.Conv2d(c, c + 1, 3, 2, 1, bias=False) for c in (3, 4, 5, 6))

            def forward(self, x: Tensor) -> Tensor:
                for convolution in self.convolutions:
                    x = convolution(x).relu()
                return x

        def factory(B: int, I: int) -> Made:  # noqa: E741
            return Net(), (torch.empty(B, 3, I, I),)

        law = graphflops.law(factory, {"B": 2, "I": 50}, convention="torch")
        rows = [i.strip() for i in str(law).splitlines() if i.startswith("  layer_")]
        assert "layer_0  216·B·⌈I/2⌉²" in rows
        assert "layer_3  756·B·⌈I/16⌉²" in rows
        for size in (31, 97, 130):
            model, args = factory(3, size)
            assert law.evaluate(B=3, I=size) == graphflops.analyze(model, args, convention="torch").total
