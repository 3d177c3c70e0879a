"""Small calls of the real PyTorch API that between them reach every shipped rule.

A case is a function or module and its example inputs. ``ops_of`` traces it, and returns the Ops with the arguments of
their rules. ``CALL_ARGUMENTS`` has arguments for the few targets that no trace calls by themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphflops import Cost, spec
from graphflops.analysis.costing import call_arguments
from graphflops.graph.build import build
from graphflops.graph.op import Op
from graphflops.graph.op_graph import OpGraph
from graphflops.graph.passes import run_passes
from graphflops.models import BirmanSchwingerCore, BKCore, SparseMoE
from graphflops.models.losses import with_loss
from graphflops.models.mamba import selective_scan
from graphflops.models.moe import Experts
from graphflops.models.quantization import QuantizedLinear
from graphflops.models.scattering import ScatteringMoE, ScatteringRouter
from graphflops.rules.loading import shipped
from graphflops.rules.rule import Rule
from graphflops.tracing.attempts import trace

OPTIONS = {"attention": "flash"}

meta = partial(torch.empty, device="meta")
reals = partial(meta, requires_grad=True)
ints = partial(meta, dtype=torch.int64)
bools = partial(meta, dtype=torch.bool)
complexes = partial(meta, dtype=torch.complex64, requires_grad=True)

GROUPED = getattr(F, "grouped_mm", None) or torch._grouped_mm
"""public since PyTorch 2.10"""


@dataclass(frozen=True)
class Case:
    """A call of the API; a trace of one does not look for state in all others, which are globals of the same file."""

    name: str
    run: Callable[..., Any]
    inputs: tuple[Any, ...]
    _graphflops_shares_it = True

    def __repr__(self) -> str:
        return self.name


@dataclass(frozen=True)
class RuleCall:
    """A rule, and one call that it speaks for: the name of its target, and what the call offers."""

    case: str
    rule: Rule
    target: str
    arguments: Mapping[str, Any]
    op: Op | None = None

    def __repr__(self) -> str:
        return f"{self.rule.name} in {self.case}"


def _table(*inputs: Any, **functions: Callable[..., Any]) -> list[Case]:
    """Cases of one shape of inputs."""
    return [Case(name, function, inputs) for name, function in functions.items()]


def named(module: Any, names: str) -> dict[str, Callable[..., Any]]:
    """Functions of a module by name."""
    return {name: getattr(module, name) for name in names.split()}


X = reals(4, 6)

ELEMENTWISE = [
    *_table(
        X,
        **named(
            torch,
            """neg abs sign sgn floor ceil round trunc frac sqrt rsqrt reciprocal exp expm1 exp2 log log1p log2 log10
            sin cos tan asin acos atan sinh cosh erf erfc frexp logit isnan isinf isfinite logical_not""",
        ),
    ),
    *_table(
        X, reals(6),
        **named(
            torch,
            """add sub rsub mul div eq ne lt le gt ge logical_and logical_or logical_xor maximum minimum fmax fmin
            remainder fmod""",
        ),
    ),
    *_table(
        X,
        plus_one=lambda x: x + 1,
        one_minus=lambda x: 1 - x,
        times_two=lambda x: x * 2,
        over_two=lambda x: x / 2,
        into_two=lambda x: 2 / x,
        squared=lambda x: x**2,
        cubed=lambda x: x**3,
        to_the_half=lambda x: x**0.5,
        to_the_power=lambda x: x**2.7,
        below_zero=lambda x: x < 0,
        in_place=lambda x: x.neg().add_(1).mul_(2),
        add_alpha=lambda x: torch.add(x, x, alpha=2),
        sub_alpha=lambda x: torch.sub(x, x, alpha=2),
        div_rounded=lambda x: torch.div(x, 2, rounding_mode="floor"),
    ),
    *_table(
        X, X, X,
        addcmul=lambda a, b, c: torch.addcmul(a, b, c, value=0.5),
        lerp=lambda a, b, w: torch.lerp(a, b, w),
        lerp_number=lambda a, b, _: torch.lerp(a, b, 0.25),
    ),
    *_table(X, reals(6), pow_tensor=torch.pow, two_to_the=lambda x, _: 2**x),
    *_table(X, reals(6), bools(4, 1), where=lambda x, y, c: torch.where(c, x, y)),
    *_table(
        X, bools(6),
        masked_fill=lambda x, m: x.masked_fill(m, 0.0),
        masked_fill_by=lambda x, m: x.masked_fill(m, x.sum()),
        tril=lambda x, _: x.tril(),
        triu=lambda x, _: x.triu(),
    ),
    *_table(
        ints(4, 6), ints(6),
        add_of_integers=torch.add,
        mul_of_integers=torch.mul,
        mod_of_integers=torch.remainder,
        floor_divide=torch.floor_divide,
        square_of_integers=lambda a, _: a**2,
        eq_of_integers=torch.eq,
        bitwise_and=torch.bitwise_and,
        bitwise_or=torch.bitwise_or,
        bitwise_xor=torch.bitwise_xor,
        bitwise_not=lambda a, _: torch.bitwise_not(a),
        neg_of_integers=lambda a, _: -a,
        clamp_of_integers=lambda a, _: a.clamp(0, 3),
    ),
    *_table(
        complexes(4, 6), complexes(6),
        add_of_complex=torch.add,
        mul_of_complex=torch.mul,
        div_of_complex=torch.div,
        abs_of_complex=lambda a, _: a.abs(),
        neg_of_complex=lambda a, _: -a,
        sigmoid_of_complex=lambda a, _: a.sigmoid(),
        pow_of_complex=torch.pow,
        square_of_complex=lambda a, _: a**2,
        power_of_complex=lambda a, _: a**2.7,
        root_of_complex=lambda a, _: a**0.5,
        inverse_root_of_complex=lambda a, _: a**-0.5,
        norm_of_complex=lambda a, _: torch.linalg.vector_norm(a),
        norm_of_complex_of_order_1=lambda a, _: torch.linalg.vector_norm(a, 1),
        norm_of_complex_of_order_3=lambda a, _: torch.linalg.vector_norm(a, 3),
        **{
            f"{name}_of_complex": lambda a, _, function=function: function(a)
            for name, function in named(
                torch,
                """exp expm1 exp2 log log1p log2 log10 sin cos tan sinh cosh tanh asin acos atan asinh acosh atanh sqrt
                rsqrt sgn""",
            ).items()
        },
        reciprocal_of_complex=lambda a, _: a.reciprocal(),
        sum_of_complex=lambda a, _: a.sum(0),
    ),
    *_table(complexes(4, 6), reals(6), mul_of_complex_by_real=torch.mul, div_of_complex_by_real=torch.div),
]  # fmt: skip

ACTIVATIONS = [
    *_table(
        X,
        relu=F.relu,
        relu6=F.relu6,
        leaky_relu=F.leaky_relu,
        elu=F.elu,
        selu=F.selu,
        celu=F.celu,
        prelu=nn.PReLU(),
        sigmoid=torch.sigmoid,
        tanh=torch.tanh,
        silu=F.silu,
        softplus=F.softplus,
        logsigmoid=F.logsigmoid,
        hardsigmoid=F.hardsigmoid,
        hardswish=F.hardswish,
        mish=F.mish,
        gelu=F.gelu,
        gelu_tanh=partial(F.gelu, approximate="tanh"),
        glu=F.glu,
        clamp=lambda x: x.clamp(-1, 1),
        clamp_below=lambda x: x.clamp(min=0),
        clamp_min=lambda x: torch.clamp_min(x, 0),
        clamp_max=lambda x: torch.clamp_max(x, 0),
        clamp_tensor=lambda x: x.clamp(min=x[0], max=x[1]),
    )
]

MATRICES = [
    *_table(reals(2, 5, 6), linear=nn.Linear(6, 3), linear_no_bias=nn.Linear(6, 3, bias=False)),
    *_table(reals(6), linear_of_a_vector=nn.Linear(6, 3)),
    *_table(X, reals(6, 5), mm=torch.mm, matmul=torch.matmul),
    *_table(reals(2, 4, 6), reals(6, 5), matmul_of_many=torch.matmul),
    *_table(reals(2, 4, 6), reals(2, 6, 5), bmm=torch.bmm),
    *_table(X, reals(6), mv=torch.mv),
    *_table(reals(6), reals(6), dot=torch.dot, vdot=torch.vdot),
    *_table(reals(4), reals(6), outer=torch.outer, ger=torch.ger),
    *_table(reals(5), X, reals(6, 5), addmm=torch.addmm, addmm_scaled=partial(torch.addmm, alpha=2, beta=3)),
    *_table(reals(4), X, reals(6), addmv=torch.addmv, addmv_scaled=partial(torch.addmv, alpha=2, beta=3)),
    *_table(reals(4, 5), reals(2, 4, 6), reals(2, 6, 5), baddbmm=torch.baddbmm),
    *_table(complexes(4, 6), complexes(6, 5), mm_of_complex=torch.mm),
    *_table(ints(4, 6), ints(6, 5), mm_of_integers=torch.mm),
    *_table(reals(2, 3, 4), reals(3, 4, 5), einsum=partial(torch.einsum, "bij,ijk->bk")),
    *_table(ints(2, 5), embedding=nn.Embedding(10, 3), embedding_of_norms=nn.Embedding(10, 3, max_norm=1.0)),
]

attend = F.scaled_dot_product_attention
Q, KV = reals(2, 4, 5, 8), reals(2, 4, 7, 8)
ATTENTION = [
    *_table(Q, KV, KV, attention=attend, attention_with_dropout=partial(attend, dropout_p=0.1)),
    *_table(
        Q,
        KV,
        KV,
        attention_for_cpu=lambda *qkv: torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(*qkv)[0],
        attention_flash=lambda *qkv: torch.ops.aten._scaled_dot_product_flash_attention(*qkv)[0],
        attention_efficient=lambda *qkv: torch.ops.aten._scaled_dot_product_efficient_attention(*qkv, None, True)[0],
    ),
    *_table(Q, Q, Q, attention_causal=partial(attend, is_causal=True)),
    *_table(Q, KV, KV, reals(5, 7), attention_with_mask=attend),
    *_table(Q, reals(2, 2, 7, 8), reals(2, 2, 7, 8), attention_of_groups=partial(attend, enable_gqa=True)),
]

NORMS = [
    *_table(
        X,
        layer_norm=nn.LayerNorm(6),
        weight_norm=nn.utils.parametrizations.weight_norm(nn.Linear(6, 5)),
        layer_norm_plain=lambda x: F.layer_norm(x, (6,)),
        rms_norm=nn.RMSNorm(6),
        rms_norm_plain=lambda x: F.rms_norm(x, (6,)),
        softmax=lambda x: x.softmax(-1),
        log_softmax=lambda x: x.log_softmax(-1),
        dropout=nn.Dropout(0.5),
        native_dropout=lambda x: torch.native_dropout(x, 0.5, True)[0],
        dropout_eval=nn.Dropout(0.5).eval(),
    ),
    *_table(reals(2, 6, 3), group_norm=nn.GroupNorm(2, 6)),
    *_table(reals(()), log_softmax_of_one=lambda x: x.log_softmax(0)),
]

LINE, IMAGE, VOLUME = reals(2, 4, 9), reals(2, 4, 9, 8), reals(2, 4, 5, 6, 7)
CONVOLUTIONS = [
    *_table(
        LINE,
        conv1d=nn.Conv1d(4, 6, 3),
        conv1d_same=nn.Conv1d(4, 6, 3, padding="same"),
        conv1d_same_even=nn.Conv1d(4, 6, 5, dilation=2, padding="same"),
        conv1d_transposed=nn.ConvTranspose1d(4, 6, 3, stride=2),
    ),
    *_table(
        IMAGE,
        conv2d=nn.Conv2d(4, 6, 3, stride=2, padding=1),
        conv2d_no_bias=nn.Conv2d(4, 6, (1, 3), dilation=(1, 2), bias=False),
        conv2d_grouped=nn.Conv2d(4, 6, 3, groups=2),
        conv2d_depthwise=nn.Conv2d(4, 8, 3, groups=4),
        conv2d_transposed_grouped=nn.ConvTranspose2d(4, 6, 3, groups=2, stride=2, output_padding=1),
    ),
    *_table(
        reals(9, 2, 4),
        reals(3, 4, 6),
        reals(6),
        conv_tbc=torch.conv_tbc,
        conv_tbc_padded=partial(torch.conv_tbc, pad=2),
    ),
    *_table(VOLUME, conv3d=nn.Conv3d(4, 6, 3), conv3d_transposed=nn.ConvTranspose3d(4, 6, 2)),
]
CHANNELS = [
    *_table(
        IMAGE,
        batch_norm=nn.BatchNorm2d(4),
        batch_norm_eval=nn.BatchNorm2d(4).eval(),
        batch_norm_plain=nn.BatchNorm2d(4, affine=False, track_running_stats=False),
        instance_norm=nn.InstanceNorm2d(4),
        instance_norm_eval=nn.InstanceNorm2d(4, affine=True, track_running_stats=True).eval(),
    ),
]

POOLS = [
    *_table(LINE, max_pool1d=nn.MaxPool1d(2), avg_pool1d=nn.AvgPool1d(2), adaptive_avg_pool1d=nn.AdaptiveAvgPool1d(3)),
    *_table(
        IMAGE,
        max_pool2d=nn.MaxPool2d((2, 3), 1),
        max_pool2d_of_one_number=lambda x: torch.ops.aten.max_pool2d_with_indices(x, [2])[0],
        max_unpool2d=lambda x: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2),
        fractional_max_pool2d=nn.FractionalMaxPool2d(2, output_size=3),
        avg_pool2d=nn.AvgPool2d(3, 2, 1),
        lp_pool=nn.LPPool2d(2, 2),
        adaptive_avg_pool2d=nn.AdaptiveAvgPool2d(3),
        adaptive_max_pool2d=nn.AdaptiveMaxPool2d((3, 4)),
        local_response_norm=nn.LocalResponseNorm(2),
    ),
    *_table(
        VOLUME,
        max_pool3d=nn.MaxPool3d(2),
        max_unpool3d=lambda x: F.max_unpool3d(*F.max_pool3d(x, 2, return_indices=True), 2),
        fractional_max_pool3d=nn.FractionalMaxPool3d(2, output_size=3),
        avg_pool3d=nn.AvgPool3d(2),
        adaptive_avg_pool3d=nn.AdaptiveAvgPool3d(3),
        adaptive_max_pool3d=nn.AdaptiveMaxPool3d(3),
    ),
]


def _scaled(mode: str) -> Callable[..., Any]:
    return partial(F.interpolate, scale_factor=2, mode=mode)


def _padded(mode: str) -> Callable[..., Any]:
    return lambda x: F.pad(x, (1, 1) * (x.dim() - 2), mode=mode)


def _sampled(mode: str) -> Callable[..., Any]:
    return partial(F.grid_sample, mode=mode, align_corners=False)


def _each(name: str, *inputs: Any, run: Callable[..., Any]) -> list[Case]:
    """The same of a line, of an image and of a volume."""
    return [Case(f"{name}{i + 1}d", run, (x,)) for i, x in enumerate(inputs)]


RESAMPLING = [
    *_each("nearest", LINE, IMAGE, VOLUME, run=_scaled("nearest")),
    *_each("nearest_exact", LINE, IMAGE, VOLUME, run=_scaled("nearest-exact")),
    *_each("reflected", LINE, IMAGE, VOLUME, run=_padded("reflect")),
    *_each("replicated", LINE, IMAGE, VOLUME, run=_padded("replicate")),
    *_table(LINE, linear_interpolation=_scaled("linear"), unfold_of_a_line=lambda x: x.unfold(-1, 3, 2)),
    *_table(
        IMAGE,
        bilinear_interpolation=_scaled("bilinear"),
        bicubic_interpolation=_scaled("bicubic"),
        unfold=nn.Unfold(2),
        circular=_padded("circular"),
        channel_shuffle=nn.ChannelShuffle(2),
    ),
    *_table(reals(2, 16, 16), fold=nn.Fold((9, 8), 2, stride=2)),
    *_table(reals(1, 2, 4, 4), pixel_unshuffle=nn.PixelUnshuffle(2)),
    *_table(VOLUME, trilinear_interpolation=_scaled("trilinear")),
    *_table(IMAGE, reals(2, 5, 3, 2), grid_sample=_sampled("bilinear"), grid_sample_nearest=_sampled("nearest")),
    *_table(IMAGE, reals(2, 5, 3, 2), grid_sample_bicubic=_sampled("bicubic")),
    *_table(
        IMAGE,
        bilinear_antialiased=partial(F.interpolate, size=(4, 10), mode="bilinear", antialias=True),
        bicubic_antialiased=partial(F.interpolate, size=(4, 10), mode="bicubic", antialias=True),
    ),
    *_table(VOLUME, reals(2, 5, 3, 2, 3), grid_sample3d=_sampled("bilinear")),
    *_table(reals(2, 2, 3), affine_grid=lambda theta: F.affine_grid(theta, [2, 1, 4, 5], align_corners=False)),
]

SQUARES, COLUMNS = reals(2, 5, 5), reals(2, 5, 3)
FIXED = meta(2, 5, 5)
LONG_TAIL = [
    *_table(X, **named(torch, "asinh acosh atanh lgamma digamma erfinv angle deg2rad rad2deg trace")),
    *_table(
        X, threshold=lambda x: F.threshold(x, 0.1, 0.0), hardshrink=F.hardshrink, softshrink=F.softshrink, rrelu=F.rrelu
    ),
    *_table(X, reals(6), polar=torch.polar, atan2=torch.atan2),
    *_table(
        X,
        drawn_gamma=torch._standard_gamma,
        drawn_dirichlet=torch._sample_dirichlet,
        drawn_gamma_backward=lambda x: torch._standard_gamma_grad(x.detach(), x.detach()),
        drawn_dirichlet_backward=lambda x: torch._dirichlet_grad(x.detach(), x.detach(), x.detach()),
    ),
    *_table(complexes(4, 6), angle_of_complex=torch.angle),
    *_table(X, X, X, addcdiv=torch.addcdiv),
    *_table(reals(4, 3), reals(4, 3), cross=torch.linalg.cross),
    *_table(reals(4, 5), reals(2, 4, 6), reals(2, 6, 5), addbmm=torch.addbmm),
    *_table(reals(5), reals(2, 4, 6), reals(2, 6, 5), addbmm_scaled=partial(torch.addbmm, alpha=2, beta=3)),
    *_table(reals(4, 5), reals(4), reals(5), addr=torch.addr, addr_scaled=partial(torch.addr, alpha=2, beta=3)),
    *_table(meta(32, 8, dtype=torch.int8), meta(8, 8, dtype=torch.int8), int_mm=torch._int_mm),
    *_table(
        meta(3, 8, 8, dtype=torch.bfloat16, requires_grad=True),
        meta(3, 8, 16, dtype=torch.bfloat16, requires_grad=True),
        grouped_mm_of_a_batch=GROUPED,
    ),
    *_table(
        meta(8, 8, dtype=torch.bfloat16, requires_grad=True),
        meta(3, 8, 16, dtype=torch.bfloat16, requires_grad=True),
        meta(3, dtype=torch.int32),
        grouped_mm=lambda a, b, ends: GROUPED(a, b, offs=ends),
    ),
    *_table(reals(3, 4), reals(3, 5), bilinear_layer=nn.Bilinear(4, 5, 6)),
    *_table(reals(2, 4, 5), reals(2, 6, 5), cdist=torch.cdist, cdist_of_order_1=partial(torch.cdist, p=1.0)),
    *_table(reals(40, 5), reals(60, 5), cdist_by_matrices=torch.cdist),
    *_table(reals(4, 5), pdist=F.pdist),
    *_table(ints(4, 5), embedding_bag=nn.EmbeddingBag(10, 3, mode="sum")),
    *_table(reals(2, 4, 8), rfft=torch.fft.rfft, rfft2=torch.fft.rfft2, fft_of_reals=torch.fft.fft),
    *_table(complexes(4, 6), fft=torch.fft.fft, ifft2=torch.fft.ifft2, irfft=torch.fft.irfft),
    *_table(
        SQUARES,
        **named(torch.linalg, "inv cholesky det slogdet"),
    ),
    *_table(
        SQUARES,
        **named(torch.linalg, "qr svd svdvals eigh eigvalsh eig eigvals lu lu_factor pinv matrix_exp"),
        qr_of_q_alone=lambda a: torch.linalg.qr(a)[0],
        svd_of_u_alone=lambda a: torch.linalg.svd(a)[0],
        eigh_of_vectors_alone=lambda a: torch.linalg.eigh(a)[1],
        cholesky_inverse=torch.cholesky_inverse,
    ),
    *_table(
        FIXED,
        qr_complete=partial(torch.linalg.qr, mode="complete"),
        qr_without_q=partial(torch.linalg.qr, mode="r"),
        ldl_factor=torch.linalg.ldl_factor,
        geqrf=torch.geqrf,
    ),
    *_table(
        SQUARES, COLUMNS, solve=torch.linalg.solve, solve_triangular=partial(torch.linalg.solve_triangular, upper=True)
    ),
    *(_table(SQUARES, cholesky_of_old=torch.cholesky) if hasattr(torch.ops.aten, "cholesky") else ()),
    *_table(COLUMNS, SQUARES, cholesky_solve=torch.cholesky_solve),
    *_table(reals(2, 7, 5), reals(2, 7, 3), lstsq=torch.linalg.lstsq),
    *_table(reals(2, 5, 3), reals(2, 3), householder_product=torch.linalg.householder_product),
    *_table(reals(2, 5, 3), reals(2, 3), reals(2, 5, 4), ormqr=torch.ormqr),
    *_table(SQUARES, meta(2, 5, dtype=torch.int32), COLUMNS, lu_solve=torch.linalg.lu_solve),
    *_table(FIXED, meta(2, 5, dtype=torch.int32), FIXED, ldl_solve=torch.linalg.ldl_solve),
]  # fmt: skip

CLASSES = ints(4)
LOSSES = [
    *_table(
        X, CLASSES,
        cross_entropy=F.cross_entropy,
        cross_entropy_sum=partial(F.cross_entropy, reduction="sum"),
        cross_entropy_each=partial(F.cross_entropy, reduction="none"),
        cross_entropy_weighted=lambda x, y: F.cross_entropy(x, y, x[0].detach()),
        cross_entropy_smooth=partial(F.cross_entropy, label_smoothing=0.1),
        multi_margin=F.multi_margin_loss,
        multi_margin_each=partial(F.multi_margin_loss, reduction="none"),
    ),
    *_table(
        X, ints(*X.shape),
        multilabel_margin=F.multilabel_margin_loss,
        multilabel_margin_each=partial(F.multilabel_margin_loss, reduction="none"),
    ),
    *_table(reals(6, 32), ints(6), adaptive=nn.AdaptiveLogSoftmaxWithLoss(32, 20, [5, 10], head_bias=True)),
    *_table(
        reals(5, 2, 4), ints(2, 3),
        ctc=lambda x, y: torch.ops.aten._ctc_loss(x, y, [5, 4], [3, 2])[0],
        ctc_loss=lambda x, y: F.ctc_loss(x, y, [5, 4], [3, 2]),
        ctc_loss_each=lambda x, y: F.ctc_loss(x, y, ints(2), ints(2), reduction="none"),
    ),
    *_table(
        X, meta(*X.shape),
        soft_margin=F.soft_margin_loss,
        kl_div=partial(F.kl_div, reduction="sum"),
    ),
    *_table(reals(2, 6, 3, 3), ints(2, 3, 3), cross_entropy_of_images=F.cross_entropy),
    *_table(
        X, X,
        mse=F.mse_loss,
        mse_sum=partial(F.mse_loss, reduction="sum"),
        mse_each=partial(F.mse_loss, reduction="none"),
        huber=F.huber_loss,
        smooth_l1=F.smooth_l1_loss,
        xlogy=torch.xlogy,
        bce=F.binary_cross_entropy,
        bce_with_logits=F.binary_cross_entropy_with_logits,
        bce_with_weights=lambda x, y: F.binary_cross_entropy_with_logits(x, y, y[0].detach(), pos_weight=y[1].detach()),
    ),
]  # fmt: skip

REDUCTIONS = _table(
    X,
    sum=torch.sum,
    sum_of_rows=lambda x: x.sum(-1),
    mean=lambda x: x.mean(-1),
    var=lambda x: x.var(-1),
    std=lambda x: x.std(-1),
    max_of_all=torch.max,
    min_of_all=torch.min,
    max=lambda x: x.max(-1)[0],
    min=lambda x: x.min(-1)[0],
    amax=lambda x: x.amax(-1),
    amin=lambda x: x.amin(-1),
    median=lambda x: x.median(-1)[0],
    mode=lambda x: x.mode(-1)[0],
    kthvalue=lambda x: x.kthvalue(2)[0],
    argmax=torch.argmax,
    argmin=torch.argmin,
    aminmax=torch.aminmax,
    nanmedian=torch.nanmedian,
    isin=lambda x: torch.isin(x.detach(), x[0].detach()),
    isin_of_one=lambda x: torch.isin(x.detach(), 2.0),
    isin_one_of=lambda x: torch.isin(2.0, x.detach()),
    histogram=lambda x: torch.histogram(x.detach(), 4)[0],
    nonzero_static=lambda x: torch.nonzero_static(x > 0, size=3),
    histc=lambda x: torch.histc(x, bins=4, min=0, max=3),
    any=lambda x: (x > 0).any(),
    all=lambda x: (x > 0).all(),
    is_any_true=lambda x: torch.ops.aten._is_any_true(x > 0),
    is_all_true=lambda x: torch.ops.aten._is_all_true(x > 0),
    count_nonzero=torch.count_nonzero,
    nonzero=lambda x: (x > 0).nonzero(),
    unique=lambda x: (x > 0).unique(),
    unique_rows=lambda x: (x > 0).unique(dim=0),
    unique_consecutive=lambda x: (x > 0).unique_consecutive(),
    topk=lambda x: x.topk(2)[0],
    sort=lambda x: x.sort()[0],
    cumsum=lambda x: x.cumsum(0),
    logcumsumexp=lambda x: x.logcumsumexp(0),
    cumprod=lambda x: x.cumprod(0),
    cummax=lambda x: x.cummax(0)[0],
    cummin=lambda x: x.cummin(0)[0],
    prod=lambda x: x.prod(-1),
    var_mean=lambda x: torch.var_mean(x, -1),
    mean_of_var_mean=lambda x: torch.var_mean(x, -1)[1],
    std_mean=lambda x: torch.std_mean(x, -1),
    renorm=lambda x: x.renorm(2, 0, 1.0),
    dist=lambda x: torch.dist(x, x),
    bucketize=lambda x: torch.bucketize(x.detach(), x[0].detach()),
    searchsorted=lambda x: torch.searchsorted(x.detach(), x.detach()),
    **{
        f"segment_{mode}": partial(torch.segment_reduce, reduce=mode, lengths=torch.tensor([2, 2]))
        for mode in ("sum", "mean", "prod", "max", "min")
    },
    norm=lambda x: x.norm(dim=-1),
    norm_of_order_0=lambda x: x.norm(p=0, dim=-1),
    norm_of_order_3=lambda x: x.norm(p=3, dim=-1),
    norm_of_order_1=lambda x: x.norm(p=1, dim=-1),
    vector_norm=torch.linalg.vector_norm,
    logsumexp=lambda x: x.logsumexp(-1),
)

INDICES = ints(4)


def _write_through_a_view(x: Tensor) -> Tensor:
    y = x.clone()
    y[0].zero_()
    return y


VIEWS = [
    *_table(
        X,
        view=lambda x: x.view(2, 12),
        reshape=lambda x: x.t().reshape(2, 12),
        detach=lambda x: x.detach(),
        t=lambda x: x.t(),
        transpose=lambda x: x.transpose(0, 1),
        permute=lambda x: x.permute(1, 0),
        movedim=lambda x: x.movedim(0, 1),
        unsqueeze=lambda x: x.unsqueeze(0),
        squeeze=lambda x: x.unsqueeze(0).squeeze(0),
        select=lambda x: x[0],
        slice=lambda x: x[1:, ::2],
        narrow=lambda x: x.narrow(0, 1, 2),
        split=lambda x: x.split(2),
        split_with_sizes=lambda x: x.split([1, 3]),
        unsafe_split=lambda x: x.unsafe_split(2),
        unsafe_split_with_sizes=lambda x: x.unsafe_split_with_sizes([1, 3]),
        chunk=lambda x: x.chunk(2, -1),
        unbind=lambda x: x.unbind(),
        diagonal=lambda x: x.diagonal(),
        as_strided=lambda x: x.as_strided((2, 3), (6, 1)),
        expand=lambda x: x.unsqueeze(0).expand(3, 4, 6),
    ),
    *_table(
        complexes(4, 6),
        view_as_real=torch.view_as_real,
        real=torch.real,
        imag=torch.imag,
        conj=torch.conj,
        conj_physical=torch.conj_physical,
        view_as_complex=lambda z: torch.view_as_complex(torch.view_as_real(z)),
    ),
]

COPIES = [
    *_table(reals(3, 2, 4), packed=lambda x: nn.utils.rnn.pack_padded_sequence(x, [3, 1]).data),
    *_table(
        X,
        clone=torch.clone,
        contiguous=lambda x: x.t().contiguous(),
        cast=lambda x: x.to(torch.float64),
        cat=lambda x: torch.cat([x, x]),
        stack=lambda x: torch.stack([x, x]),
        roll=lambda x: x.roll(1, 0),
        flip=lambda x: x.flip(0),
        pad=lambda x: F.pad(x, (1, 1)),
        fill=lambda x: x.detach().clone().fill_(1.0),
        zero=lambda x: x.detach().clone().zero_(),
        write_through_a_view=_write_through_a_view,
        copy=lambda x: torch.zeros_like(x).copy_(x),
        complex=lambda x: torch.complex(x, x),
        select_scatter=lambda x: x.select_scatter(x[0], 0, 1),
        slice_scatter=lambda x: x.slice_scatter(x[:2], 0, 0, 2),
        diag_embed=torch.diag_embed,
        rot90=torch.rot90,
        block_diag=lambda x: torch.block_diag(x, x),
        diagonal_scatter=lambda x: x.diagonal_scatter(x.diagonal()),
        as_strided_scatter=lambda x: x.as_strided_scatter(x[:2, :3], (2, 3), (6, 1)),
        lu_unpack=lambda x: torch.lu_unpack(x, meta(4, dtype=torch.int32)),
    ),
    *_table(reals(1, 8, 2, 2), pixel_shuffle=lambda x: F.pixel_shuffle(x, 2)),
]

CREATION = _table(
    X,
    zeros=lambda x: torch.zeros(3),
    ones=lambda x: torch.ones(3),
    full=lambda x: torch.full((3,), 2.0),
    empty=lambda x: torch.empty(3),
    arange=lambda x: torch.arange(3),
    linspace=lambda x: torch.linspace(0, 1, 3),
    logspace=lambda x: torch.logspace(0, 1, 3),
    eye=lambda x: torch.eye(3),
    scalar_tensor=lambda x: torch.scalar_tensor(2.0),
    zeros_like=torch.zeros_like,
    ones_like=torch.ones_like,
    full_like=lambda x: torch.full_like(x, 2.0),
    empty_like=torch.empty_like,
    empty_strided=lambda x: torch.empty_strided((2, 3), (3, 1)),
    new_zeros=lambda x: x.new_zeros(3),
    new_ones=lambda x: x.new_ones(3),
    new_full=lambda x: x.new_full((3,), 2.0),
    new_empty=lambda x: x.new_empty(3),
    new_empty_strided=lambda x: x.new_empty_strided((2, 3), (3, 1)),
    tril_indices=lambda x: torch.tril_indices(3, 3),
    triu_indices=lambda x: torch.triu_indices(3, 3),
)

QUANTIZED = [
    *_table(
        X,
        fake_quantize=lambda x: torch.fake_quantize_per_tensor_affine(x, 0.1, 0, 0, 255),
    ),
    *_table(
        X, meta(6), ints(6).int(),
        fake_quantize_channels=lambda x, s, z: torch.fake_quantize_per_channel_affine(x, s, z, 1, 0, 255),
    ),
]  # fmt: skip

RANDOMNESS = _table(
    X,
    rand=lambda x: torch.rand(3),
    randn=lambda x: torch.randn(3),
    rand_like=torch.rand_like,
    randn_like=torch.randn_like,
    randint=lambda x: torch.randint(0, 9, (3,)),
    randint_like=lambda x: torch.randint_like(x, 9),
    randperm=lambda x: torch.randperm(3),
    bernoulli=lambda x: torch.bernoulli(x),
    uniform=lambda x: x.detach().clone().uniform_(),
    normal=lambda x: x.detach().clone().normal_(),
    exponential=lambda x: x.detach().clone().exponential_(),
    random=lambda x: x.detach().clone().random_(),
    multinomial=lambda x: torch.multinomial(x.detach(), 2),
    poisson=lambda x: torch.poisson(x.detach()),
    geometric=lambda x: x.detach().clone().geometric_(0.5),
    log_normal=lambda x: x.detach().clone().log_normal_(),
    binomial=lambda x: torch.binomial(x.detach(), x.detach()),
    cauchy=lambda x: x.detach().clone().cauchy_(),
)


def _scattered(mode: str) -> Callable[..., Any]:
    return lambda x, i: x.scatter_reduce(1, i.unsqueeze(-1), x, mode)


def _index_reduced(mode: str) -> Callable[..., Any]:
    return lambda x, i: x.index_reduce(0, i, x, mode)


INDEXING = [
    *_table(
        X, INDICES,
        index=lambda x, i: x[i],
        unsafe_index=lambda x, i: torch.ops.aten._unsafe_index(x, [i]),
        unsafe_index_put=lambda x, i: torch.ops.aten._unsafe_index_put(x, [i], x),
        index_select=lambda x, i: x.index_select(0, i),
        gather=lambda x, i: x.gather(1, i.unsqueeze(-1)),
        take=lambda x, i: x.take(i),
        repeat=lambda x, i: x.repeat(2, 1),
        repeat_interleave=lambda x, i: x.repeat_interleave(3, 0),
        repeat_interleave_each=lambda x, i: x.repeat_interleave(torch.arange(1, 5), 0),
        index_add=lambda x, i: x.index_add(0, i, x),
        index_add_alpha=lambda x, i: x.index_add(0, i, x, alpha=2),
        scatter_add=lambda x, i: x.scatter_add(1, i.unsqueeze(-1), x[:, :1]),
        scatter=lambda x, i: x.scatter(1, i.unsqueeze(-1), x[:, :1]),
        index_copy=lambda x, i: x.index_copy(0, i, x),
        put=lambda x, i: x.put(i, x[:, 0]),
        put_accumulate=lambda x, i: x.put(i, x[:, 0], accumulate=True),
        **{f"scatter_reduce_{mode}": _scattered(mode) for mode in ("sum", "mean", "prod", "amax", "amin")},
        **{f"index_reduce_{mode}": _index_reduced(mode) for mode in ("mean", "prod", "amax", "amin")},
        index_fill=lambda x, i: x.index_fill(0, i, 0.0),
        index_put=lambda x, i: x.index_put((i,), x),
        index_put_accumulate=lambda x, i: x.index_put((i,), x, accumulate=True),
    ),
    *_table(X, bools(4, 6), X, masked_scatter=lambda x, m, source: x.masked_scatter(m, source)),
]  # fmt: skip


class BKCoreFunction(torch.autograd.Function):
    """ResNet-BK's own, in another file: its rule names it by a pattern."""

    @staticmethod
    def forward(ctx: Any, he_diag: Tensor, h0_super: Tensor, h0_sub: Tensor, z: complex) -> Tensor:
        return (1 / (he_diag - z)).real

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        return -grad, None, None, None


HOME = [
    Case("bk_core_function", lambda x: BKCoreFunction.apply(x, torch.ones(2, 4), torch.ones(2, 4), 1j), (reals(2, 5),)),
    *_table(
        reals(2, 5), bk_core=BKCore(5), custom_kernel=BKCore(5, use_custom_kernel=True),
        birman_schwinger=BirmanSchwingerCore(5),
    ),
    *_table(reals(2, 5, 8), quantized_linear=QuantizedLinear(8, 6)),
    *_table(reals(2, 5), reals(()), with_loss=with_loss),
    Case("scattering_moe", ScatteringMoE(Experts(4, 3), ScatteringRouter(3, 2)), (reals(2, 5, 4), reals(2, 5, 2))),
    Case(
        "selective_scan", selective_scan,
        (reals(2, 5, 3), reals(2, 5, 3), reals(3, 4), reals(2, 5, 4), reals(2, 5, 4), reals(3)),
    ),
    *_table(reals(2, 5, 4), sparse_moe=SparseMoE(4, num_experts=3, top_k=2)),
]  # fmt: skip


def gradient_of(run: Callable[..., Any], *, create_graph: bool = True) -> Callable[..., Any]:
    """The gradients that a program takes of a call by itself, so that their own may be taken; or not again."""

    def gradients(*inputs: Any) -> Any:
        operands = [x for x in inputs if x.requires_grad]
        return torch.autograd.grad(run(*inputs).sum(), operands, create_graph=create_graph, allow_unused=True)

    return gradients


def _gradients(*inputs: Any, create_graph: bool = True, **functions: Callable[..., Any]) -> list[Case]:
    """Cases of gradients, of functions of one shape of inputs."""
    return [
        Case(f"{name}_backward", gradient_of(run, create_graph=create_graph), inputs) for name, run in functions.items()
    ]


GRADIENTS = [
    *_gradients(
        X,
        relu=F.relu,
        relu6=F.relu6,
        threshold=lambda x: F.threshold(x, 0.1, 0.0),
        leaky_relu=F.leaky_relu,
        elu=F.elu,
        selu=F.selu,
        celu=F.celu,
        sigmoid=torch.sigmoid,
        tanh=torch.tanh,
        silu=F.silu,
        softplus=F.softplus,
        logsigmoid=F.logsigmoid,
        hardsigmoid=F.hardsigmoid,
        hardswish=F.hardswish,
        hardshrink=F.hardshrink,
        softshrink=F.softshrink,
        rrelu=partial(F.rrelu, training=True),
        gelu=F.gelu,
        gelu_tanh=partial(F.gelu, approximate="tanh"),
        glu=F.glu,
        logit=torch.logit,
        prelu=lambda x: F.prelu(x, x[0]),
        softmax=lambda x: x.softmax(-1),
        log_softmax=lambda x: x.log_softmax(-1),
        dropout=lambda x: torch.native_dropout(x, 0.5, True)[0],
        layer_norm=lambda x: F.layer_norm(x, (6,), x[0], x[1]),
        layer_norm_plain=lambda x: F.layer_norm(x, (6,)),
        slice=lambda x: x[1:, ::2] ** 2,
        select=lambda x: x[0] ** 2,
        diagonal=lambda x: x.diagonal() ** 2,
        unfold_of_a_line=lambda x: x.unfold(-1, 3, 2) ** 2,
        index_select=lambda x: x.index_select(0, ints(4)) ** 2,
        max=lambda x: x.max(-1)[0] ** 2,
    ),
    *_gradients(
        X,
        create_graph=False,
        mish=F.mish,
        silu_once=F.silu,
        logit_once=torch.logit,
        dropout_once=lambda x: torch.native_dropout(x, 0.5, True)[0],
        rms_norm=nn.RMSNorm(6),
    ),
    *_gradients(X, reals(4, 1), weight_norm=lambda v, g: torch._weight_norm(v, g, 0)),
    *_gradients(X, reals(4, 1), create_graph=False, weight_norm_once=lambda v, g: torch._weight_norm(v, g, 0)),
    *_gradients(
        reals(2, 4, 3),
        batch_norm=lambda x: F.batch_norm(x, None, None, x[0, :, 0], x[0, :, 1], training=True),
        batch_norm_eval=lambda x: F.batch_norm(x, meta(4), meta(4), x[0, :, 0], x[0, :, 1]),
    ),
    *_gradients(reals(2, 4, 3), create_graph=False, group_norm=nn.GroupNorm(2, 4)),
    *_gradients(
        LINE,
        max_pool1d=nn.MaxPool1d(2),
        avg_pool1d=nn.AvgPool1d(2),
        linear_interpolation=_scaled("linear"),
        conv1d=nn.Conv1d(4, 6, 3),
    ),
    *_gradients(
        IMAGE,
        max_pool2d=nn.MaxPool2d(2),
        fractional_max_pool2d=nn.FractionalMaxPool2d(2, output_size=3),
        avg_pool2d=nn.AvgPool2d(2),
        adaptive_avg_pool2d=nn.AdaptiveAvgPool2d(3),
        adaptive_max_pool2d=nn.AdaptiveMaxPool2d(3),
        bilinear_interpolation=_scaled("bilinear"),
        bicubic_interpolation=_scaled("bicubic"),
        bilinear_antialiased=partial(F.interpolate, size=(4, 10), mode="bilinear", antialias=True),
        bicubic_antialiased=partial(F.interpolate, size=(4, 10), mode="bicubic", antialias=True),
        conv2d=nn.Conv2d(4, 6, 3, stride=2, padding=1),
        conv2d_grouped=nn.Conv2d(4, 6, 3, groups=2),
        conv2d_transposed=nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2),
    ),
    *_gradients(
        VOLUME,
        max_pool3d=nn.MaxPool3d(2),
        fractional_max_pool3d=nn.FractionalMaxPool3d(2, output_size=3),
        avg_pool3d=nn.AvgPool3d(2),
        adaptive_avg_pool3d=nn.AdaptiveAvgPool3d(3),
        adaptive_max_pool3d=nn.AdaptiveMaxPool3d(3),
        trilinear_interpolation=_scaled("trilinear"),
    ),
    *(
        Case(f"{case.name}_backward", gradient_of(case.run), case.inputs)
        for mode in ("nearest", "nearest_exact", "reflected", "replicated")
        for case in RESAMPLING
        if case.name in {f"{mode}{i}d" for i in (1, 2, 3)}
    ),
    *_gradients(IMAGE, reals(2, 5, 3, 2), create_graph=False, grid_sample=_sampled("bilinear")),
    *_gradients(VOLUME, reals(2, 5, 3, 2, 3), create_graph=False, grid_sample3d=_sampled("bilinear")),
    *_gradients(
        X, CLASSES, cross_entropy=F.cross_entropy, cross_entropy_weighted=lambda x, y: F.cross_entropy(x, y, meta(6))
    ),
    *_gradients(reals(2, 6, 3, 3), ints(2, 3, 3), cross_entropy_of_images=F.cross_entropy),
    *_gradients(
        X, X,
        mse=F.mse_loss,
        huber=F.huber_loss,
        smooth_l1=F.smooth_l1_loss,
        bce=F.binary_cross_entropy,
        bce_weighted=lambda x, y: F.binary_cross_entropy(x, y, meta(4, 6)),
    ),
    *_gradients(X, meta(4, 6), soft_margin=F.soft_margin_loss),
    *_gradients(X, CLASSES, create_graph=False, multi_margin=F.multi_margin_loss),
    *_gradients(X, ints(4, 6), create_graph=False, multilabel_margin=F.multilabel_margin_loss),
    *_gradients(
        reals(5, 2, 4),
        ints(2, 3),
        create_graph=False,
        ctc=lambda x, y: torch.ops.aten._ctc_loss(x, y, [5, 4], [3, 2])[0]
    ),
    *_gradients(reals(2, 4, 5), reals(2, 6, 5), create_graph=False, cdist=partial(torch.cdist, p=1.0)),
    *_gradients(
        X,
        create_graph=False,
        pdist=torch.pdist,
        segment=partial(torch.segment_reduce, reduce="mean", lengths=torch.tensor([2, 2])),
    ),
    *_gradients(
        reals(10, 3), ints(2, 5), embedding=lambda weight, i: F.embedding(i, weight) ** 2
    ),
    *_gradients(X, bools(4, 6), X, masked_scatter=lambda x, m, source: x.masked_scatter(m, source) ** 2),
    *_gradients(Q, KV, KV, create_graph=False, attention=attend),
]  # fmt: skip

ZERO = [*VIEWS, *COPIES, *CREATION, *RANDOMNESS]
"""what computes nothing forward, and nothing backward but the sums of what expand repeats"""

CASES = [
    *ELEMENTWISE, *ACTIVATIONS, *MATRICES, *ATTENTION, *NORMS, *CONVOLUTIONS, *CHANNELS, *POOLS,
    *RESAMPLING, *LOSSES, *REDUCTIONS, *LONG_TAIL, *ZERO, *INDEXING, *QUANTIZED, *HOME,
    *GRADIENTS,
]  # fmt: skip

X_SPEC, ROIS, FEATURES = spec(4, 6), spec(5, 5), spec(2, 8, 11, 11)
CALL_ARGUMENTS: Mapping[str, Mapping[str, Any]] = {
    **{f"optimizer.{name}": {"param": X_SPEC} for name in ("sgd", "sgd_momentum", "adam", "adamw")},
    "aten::masked_select": {"self": X_SPEC, "out": spec(3)},  # its size depends on data
    "aten::native_layer_norm": {"input": X_SPEC, "weight": spec(6)},
    "aten::native_group_norm": {"input": X_SPEC},
    **{
        f"aten::{name}": {"input": spec(4, 6, 3), "training": True}
        for name in (
            "_native_batch_norm_legit", "_native_batch_norm_legit_functional", "cudnn_batch_norm",
            "miopen_batch_norm", "_batch_norm_with_update", "_batch_norm_with_update_functional",
            "_native_batch_norm_legit_no_training", "_batch_norm_no_update",
        )
    },
    "aten::_scaled_mm": {"self": spec(16, 32, dtype="float8_e4m3fn"), "out": spec(16, 48, dtype="bfloat16")},
    "aten::_embedding_bag_forward_only": {"weight": spec(10, 3), "indices": spec(20, dtype="int64")},
    "aten::_fake_quantize_per_tensor_affine_cachemask_tensor_qparams": {"self": X_SPEC},
    "aten::allclose": {"self": X_SPEC, "other": X_SPEC},  # its answer depends on data
    **{
        f"aten::{name}": {
            "input": spec(2, 4, 9), "weight": spec(6, 4, 3), "transposed": False, "out": spec(2, 6, 7),
        }
        for name in ("_convolution", "convolution_overrideable")
    },
    "aten::bincount": {"self": spec(4, dtype="int64")},  # its size depends on data
    "aten::to": {"self": X_SPEC},
    "aten::is_same_size": {"self": X_SPEC, "other": X_SPEC},
    "aten::_has_same_storage_numel": {"self": X_SPEC, "other": X_SPEC},
    "torchvision.nms": {"dets": spec(7, 4)},
    "torchvision.roi_align": {"rois": ROIS, "out": spec(5, 8, 3, 3), "sampling_ratio": 2},
    "torchvision.ps_roi_align": {"rois": ROIS, "out": (spec(5, 2, 2, 2),) * 2, "sampling_ratio": 2},
    "torchvision.roi_pool": {"input": FEATURES, "rois": ROIS, "out": (spec(5, 8, 3, 3),) * 2},
    "torchvision.ps_roi_pool": {"input": FEATURES, "rois": ROIS, "out": (spec(5, 2, 2, 2),) * 2},
    "torchvision.deform_conv2d": {
        "input": FEATURES, "weight": spec(6, 4, 3, 3), "out": spec(2, 6, 9, 9), "offset_groups": 2, "use_mask": True,
    },
    "aten::_fused_rms_norm_backward": {
        "input": X_SPEC, "normalized_shape": (6,), "weight": spec(6), "output_mask": (True, True),
    },
    "aten::_scaled_dot_product_flash_attention_backward": {
        "grad_out": spec(2, 4, 5, 8), "query": spec(2, 4, 5, 8), "key": spec(2, 4, 7, 8), "value": spec(2, 4, 7, 8),
    },
    "aten::convolution_backward_overrideable": {
        "grad_output": spec(2, 6, 4, 4), "input": spec(2, 4, 9, 8), "weight": spec(6, 2, 3, 3), "stride": (2, 2),
        "padding": (0, 0), "dilation": (1, 1), "transposed": False, "groups": 2, "output_mask": (True, True, True),
        "grad_outputs": frozenset((0, 1, 2)),
    },
    **{
        f"aten::{name}": {"input": spec(4, 6, 3), "grad_outputs": frozenset((0, 1, 2))}
        for name in ("batch_norm_backward", "cudnn_batch_norm_backward", "miopen_batch_norm_backward")
    },
    "aten::_linalg_eigvals": {"self": spec(2, 5, 5)},
    "aten::_safe_softmax": {"self": X_SPEC},
    "aten::_fused_rms_norm": {"input": X_SPEC, "normalized_shape": (6,), "weight": spec(6)},
    "aten::_local_scalar_dense": {"self": spec()},
    "aten::_sparse_addmm": {"mat1": spec(4, 5), "mat2": spec(5, 3), "out": spec(4, 3)},
    "aten::is_nonzero": {"self": spec()},
    "aten::_amp_foreach_non_finite_check_and_unscale_": {"self": (X_SPEC, spec(6))},
    "aten::_amp_update_scale_": {"self": spec()},
    **{str(key): {} for key, _ in shipped() if str(key).startswith("c10d.")},
    "aten::sym_size": {"self": X_SPEC, "dim": 0},
}  # fmt: skip
"""targets that a trace meets only inside of something else that a rule names, or not without data"""


@cache
def graph_of(case: Case) -> OpGraph:
    """The graph of a case, annotated."""
    return run_passes(build(trace(case.run, case.inputs, {}, shipped())))


@cache
def ops_of(case: Case) -> tuple[Op, ...]:
    """The calls of a case, annotated."""
    return tuple(graph_of(case).calls())


@cache
def rule_calls() -> tuple[RuleCall, ...]:
    """Every rule at every case that reaches it."""
    return (*_traced(), *_offered())


@cache
def distinct_calls() -> tuple[RuleCall, ...]:
    """The same without those that ask a rule what another one has asked it, as views do in many cases."""
    calls: dict[Any, RuleCall] = {}
    for call in rule_calls():
        requested = {name: call.arguments[name] for name in call.rule.requested_names() if name in call.arguments}
        calls.setdefault((id(call.rule), repr(requested)), call)
    return tuple(calls.values())


def _traced() -> Iterator[RuleCall]:
    for case in CASES:
        for op in ops_of(case):
            rule = shipped().find(op.call)
            assert rule is not None, f"no rule for {op.target} in {case}"
            yield RuleCall(case.name, rule, target_of(op), call_arguments(op, OPTIONS), op)


def _offered() -> Iterator[RuleCall]:
    for target, arguments in CALL_ARGUMENTS.items():
        yield RuleCall(target, shipped().rules[target], target, {**OPTIONS, **arguments})


def target_of(op: Op) -> str:
    """The operator's name without overload and without the underscore of its in-place variant."""
    schema = getattr(op.call, "_schema", None)
    return op.target if schema is None else str(schema.name).removesuffix("_")


def costs_of(run: Callable[..., Any], *inputs: Any, attention: str = "flash") -> list[Cost]:
    """The costs of a call, Op by Op."""
    found_rules = [(op, shipped().find(op.call)) for op in ops_of(Case("", run, inputs))]
    return [rule.evaluate(call_arguments(op, {"attention": attention})) for op, rule in found_rules if rule is not None]


def cost_of(run: Callable[..., Any], *inputs: Any, attention: str = "flash") -> Cost:
    """The cost of a call that is a single Op."""
    (cost,) = costs_of(run, *inputs, attention=attention)
    return cost
