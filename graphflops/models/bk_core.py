"""BK-Core: the diagonal of the resolvent of a tridiagonal matrix, in O(N).

For H tridiagonal with diagonal a, lower diagonal b and upper diagonal c, and a complex number z that is no
eigenvalue of H, G = diag((H − zI)⁻¹) follows from two recursions over minors of H − zI:

    θ_0 = 1,      θ_1 = a_1 − z,  θ_i = (a_i − z) θ_{i−1} − b_{i−1} c_{i−1} θ_{i−2}     (leading minors)
    φ_{N+1} = 1,  φ_N = a_N − z,  φ_i = (a_i − z) φ_{i+1} − b_i c_i φ_{i+2}             (trailing minors)
    G_ii = θ_{i−1} φ_{i+1} / θ_N
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from graphflops.models.checks import require_bool, require_grad_blend, require_size

INVERSE_SQUARE_FLOOR = 1e-6
"""The least |G_ii|² that the inverse-square rule divides by, so that its slope stays within 1 / floor = 10⁶."""


def resolvent_diagonal(
    diagonal: Tensor, lower: Tensor, upper: Tensor, z: complex, dtype: torch.dtype = torch.complex128
) -> Tensor:
    """G = diag((H − zI)⁻¹) of tridiagonal matrices H, differentiable by autograd in every tensor.

    The minors grow or shrink geometrically with N and would leave the range of a float64. So after each step the
    pair (θ_{i−1}, θ_i) is divided by the power of two 2^s_i that brings the larger of the two into [1/2, 1), and
    the exponents are kept apart: θ_i = t_i · 2^p_i with p_i = s_1 + … + s_i, and φ_i = f_i · 2^q_i likewise. They
    meet only at the end, where the growth cancels:

        G_ii = t_{i−1} f_{i+1} / t_N · 2^(p_{i−1} + q_{i+1} − p_N)

    Multiplying by a power of two rounds nothing, and changes θ_i by a factor that is put back exactly, so for
    autograd the powers are constants.

    Args:
        diagonal: (..., N), the diagonals a, real or complex.
        lower: (N−1,) or (..., N−1), the diagonals below, b_i = H[i+1, i].
        upper: (N−1,) or (..., N−1), the diagonals above, c_i = H[i, i+1].
        z: argument of the resolvent. At an eigenvalue of H the result is not finite.
        dtype: dtype of the computation, complex128 or complex64.

    Returns:
        (..., N) in that dtype.

    Raises:
        ValueError: N is 0, or `lower` or `upper` does not have N−1 entries.
    """
    _check_shapes(diagonal, lower, upper)
    n = diagonal.shape[-1]
    shifted = diagonal.to(dtype) - z
    products = (lower.to(dtype) * upper.to(dtype)).expand(*diagonal.shape[:-1], n - 1)

    # The trailing minors are the leading minors of the matrix read from its last corner: one loop does both.
    minors, exponents = _leading_minors(
        torch.stack((shifted, shifted.flip(-1))), torch.stack((products, products.flip(-1)))
    )
    theta, phi = minors[0, ..., :n], minors[1, ..., :n].flip(-1)
    power = exponents[0, ..., :n] + exponents[1, ..., :n].flip(-1) - exponents[0, ..., n:]
    return theta * phi / minors[0, ..., n:] * torch.exp2(power.to(shifted.real.dtype))


def _leading_minors(diagonal: Tensor, products: Tensor) -> tuple[Tensor, Tensor]:
    """θ_0 … θ_N as (t, p), each (..., N+1), with θ_i = t_i · 2^p_i.

    `diagonal` (..., N) holds a_i − z, `products` (..., N−1) holds b_i c_i, both complex.
    """
    current = torch.ones_like(diagonal[..., 0])
    previous = torch.zeros_like(current)
    # A zero in front makes the first step θ_1 = a_1 θ_0 − 0 like all others.
    products = torch.cat((previous.unsqueeze(-1), products), dim=-1)

    minors = [current]
    shifts = [torch.zeros_like(current, dtype=torch.int32)]
    for a, bc in zip(diagonal.unbind(-1), products.unbind(-1), strict=True):
        previous, current = current, a * current - bc * previous
        # The larger of the pair sets the scale: one minor alone may vanish, two in a row only if H − zI is singular.
        size = torch.maximum(previous.detach().abs(), current.detach().abs())
        mantissa, shift = torch.frexp(size)
        scale = mantissa / size  # 2^−shift, exactly
        previous, current = previous * scale, current * scale
        minors.append(current)
        shifts.append(shift)
    return torch.stack(minors, dim=-1), torch.stack(shifts, dim=-1).cumsum(dim=-1)


def _check_shapes(diagonal: Tensor, lower: Tensor, upper: Tensor) -> None:
    n = diagonal.shape[-1] if diagonal.dim() else 0
    if n < 1:
        raise ValueError(f"diagonal must have shape (..., N) with N >= 1, got {tuple(diagonal.shape)}")
    for name, band in (("lower", lower), ("upper", upper)):
        if band.dim() < 1 or band.shape[-1] != n - 1:
            raise ValueError(
                f"{name} must have shape (N−1,) or (..., N−1) with N−1 = {n - 1} beside a diagonal of N = {n}, "
                f"got {tuple(band.shape)}"
            )


@torch.library.custom_op("graphflops::bk_core", mutates_args=())
def bk_core(diagonal: Tensor, lower: Tensor, upper: Tensor, z_real: float, z_imag: float, grad_blend: float) -> Tensor:
    """(Re G, Im G) of `resolvent_diagonal` as one operator with an analytic gradient for `diagonal`.

    Let ḡ_i = ∂L/∂Re G_ii + i ∂L/∂Im G_ii. The gradient blends two rules:

        theory:          ∂L/∂a_i = −Re(conj(ḡ_i) · G_ii²), from dG_ii/da_i = −G_ii²
        inverse-square:  ∂L/∂a_i = −Re(conj(ḡ_i) / G_ii²), |G_ii|² held at or above `INVERSE_SQUARE_FLOOR`
        blended:         (1 − grad_blend) · theory + grad_blend · inverse-square

    Both are local: G_ii is differentiated by its own a_i only. The full gradient also has dG_ii/da_j = −G_ij G_ji
    for j ≠ i; those off-diagonal terms are dropped here, which makes the backward pass O(1) per site and needs
    nothing but the features. `lower`, `upper`, and z get no gradient.

    Args:
        diagonal: (B, N), real; computed in float64 whatever its dtype.
        lower: (N−1,) or (B, N−1), real.
        upper: (N−1,) or (B, N−1), real.
        z_real: Re z.
        z_imag: Im z.
        grad_blend: the share of the inverse-square rule, in [0, 1].

    Returns:
        (B, N, 2) in float64. The gradient comes back in the dtype of `diagonal`.

    Raises:
        ValueError: as `resolvent_diagonal`.
    """
    return torch.view_as_real(resolvent_diagonal(diagonal, lower, upper, complex(z_real, z_imag)))


@torch.library.custom_op("graphflops::bk_core_single", mutates_args=())
def bk_core_single(
    diagonal: Tensor, lower: Tensor, upper: Tensor, z_real: float, z_imag: float, grad_blend: float
) -> Tensor:
    """`bk_core` in single precision, as kernels on accelerators compute it: (B, N, 2) in float32."""
    return torch.view_as_real(resolvent_diagonal(diagonal, lower, upper, complex(z_real, z_imag), torch.complex64))


def _features_like(dtype: torch.dtype, diagonal: Tensor, lower: Tensor, upper: Tensor, *_: float) -> Tensor:
    _check_shapes(diagonal, lower, upper)
    return diagonal.new_empty((*diagonal.shape, 2), dtype=dtype)


bk_core.register_fake(partial(_features_like, torch.float64))
bk_core_single.register_fake(partial(_features_like, torch.float32))


def keep_features(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    """Save what `local_gradient` needs: the first operand is the potential, the last is the blend."""
    ctx.save_for_backward(output)
    ctx.dtype = inputs[0].dtype
    ctx.grad_blend = inputs[-1]
    ctx.others = len(inputs) - 1


def local_gradient(ctx: Any, grad_features: Tensor) -> tuple[Tensor | None, ...]:
    """The blended gradient of `bk_core` for the first operand, none for the others."""
    (features,) = ctx.saved_tensors
    square = torch.view_as_complex(features).square()
    # 1 / G² = conj(G²) / |G²|²; with |G²| floored it is bounded and goes to 0, not to infinity, with G.
    inverse_square = square.conj() / square.abs().clamp_min(INVERSE_SQUARE_FLOOR).square()
    slope = (1 - ctx.grad_blend) * square + ctx.grad_blend * inverse_square
    grad = -(torch.view_as_complex(grad_features.contiguous()).conj() * slope).real
    return grad.to(ctx.dtype), *[None] * ctx.others


bk_core.register_autograd(local_gradient, setup_context=keep_features)
bk_core_single.register_autograd(local_gradient, setup_context=keep_features)


class BKCore(nn.Module):
    """A potential v on a line of N sites to the features (Re G, Im G), G = diag((Δ + diag(v) − zI)⁻¹).

    Δ is the discrete Laplacian: −2 on the diagonal, 1 beside it. H = Δ + diag(v) is real and symmetric, so
    |G_ii| ≤ 1 / |Im z|. There are no parameters; Δ is held in buffers outside the state dict.

    Args:
        n_seq: N, the number of sites.
        z: where the resolvent is taken, off the real axis.
        use_analytic_gradient: the local gradient of the operator `bk_core`; if False, autograd goes through the
            recursions and the gradient is the full one.
        grad_blend: the share of the inverse-square rule in the analytic gradient, in [0, 1].
        use_custom_kernel: the operator `bk_core_single`, which has the analytic gradient alone.
        allow_shorter: take lines of fewer than N sites as well.

    Raises:
        ValueError: an argument is out of its range, or z is real.
    """

    diagonal: Tensor
    lower: Tensor
    upper: Tensor

    def __init__(
        self,
        n_seq: int,
        z: complex = 1j,
        *,
        use_analytic_gradient: bool = True,
        grad_blend: float = 0.5,
        use_custom_kernel: bool = False,
        allow_shorter: bool = False,
    ) -> None:
        super().__init__()
        require_size("n_seq", n_seq)
        require_bool("use_analytic_gradient", use_analytic_gradient)
        require_grad_blend(grad_blend)
        self.n_seq = n_seq
        self.z = complex(z)
        self.use_analytic_gradient = use_analytic_gradient
        self.grad_blend = grad_blend
        self.use_custom_kernel = use_custom_kernel
        self.allow_shorter = allow_shorter
        if self.z.imag == 0:
            raise ValueError(f"z must lie off the real axis, where the eigenvalues of H are, got {z!r}")
        if use_custom_kernel and not use_analytic_gradient:
            raise ValueError("use_custom_kernel has the analytic gradient alone: use_analytic_gradient must be True")
        self.register_buffer("diagonal", torch.full((n_seq,), -2.0, dtype=torch.float64), persistent=False)
        self.register_buffer("lower", torch.ones(n_seq - 1, dtype=torch.float64), persistent=False)
        self.register_buffer("upper", torch.ones(n_seq - 1, dtype=torch.float64), persistent=False)

    def forward(self, v: Tensor) -> Tensor:
        """The features (B, N, 2) in float64, or float32 of the custom kernel, of a real potential v (B, N).

        Raises:
            ValueError: v is complex, or its last size is not `n_seq`.
        """
        require_line(v, self.n_seq, allow_shorter=self.allow_shorter)
        diagonal, lower, upper = self.diagonal, self.lower, self.upper
        if v.shape[-1] != self.n_seq:
            n = v.shape[-1]
            diagonal, lower, upper = diagonal[:n], lower[: n - 1], upper[: n - 1]
        diagonal = diagonal + v
        if not self.use_analytic_gradient:
            return torch.view_as_real(resolvent_diagonal(diagonal, lower, upper, self.z))
        operator = bk_core_single if self.use_custom_kernel else bk_core
        features: Tensor = operator(diagonal, lower, upper, self.z.real, self.z.imag, self.grad_blend)
        return features

    def extra_repr(self) -> str:
        """The arguments, for `repr`."""
        return (
            f"n_seq={self.n_seq}, z={self.z}, use_analytic_gradient={self.use_analytic_gradient}, "
            f"grad_blend={self.grad_blend}"
        )


def require_line(v: Tensor, n_seq: int, *, allow_shorter: bool = False) -> None:
    """Raise ValueError unless v is a real potential on a line of `n_seq` sites, or of fewer if that is allowed."""
    fits = v.dim() >= 1 and (v.shape[-1] == n_seq or (allow_shorter and 1 <= v.shape[-1] <= n_seq))
    if v.is_complex() or not fits:
        raise ValueError(f"v must be real of shape (B, n_seq) = (B, {n_seq}), got {v.dtype} of shape {tuple(v.shape)}")
