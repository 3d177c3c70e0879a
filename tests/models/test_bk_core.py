"""BK-Core: the diagonal of a tridiagonal resolvent, its two gradients, and the operator that carries them."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

import graphflops.models.bk_core as module
from graphflops.models import BKCore
from graphflops.models.bk_core import INVERSE_SQUARE_FLOOR, bk_core, resolvent_diagonal

SIZES = st.sampled_from([1, 2, 3, 5, 16])
SEEDS = st.integers(0, 2**32 - 1)
OFF_AXIS = st.builds(complex, st.floats(-3, 3), st.floats(0.2, 2) | st.floats(-2, -0.2))
quick = settings(max_examples=25, deadline=None)


def dense_resolvent_diagonal(diagonal: Tensor, lower: Tensor, upper: Tensor, z: complex) -> Tensor:
    n = diagonal.shape[-1]
    matrix = torch.diag_embed(diagonal.to(torch.complex128) - z)
    if n > 1:
        matrix = matrix + torch.diag_embed(lower.to(torch.complex128), -1)
        matrix = matrix + torch.diag_embed(upper.to(torch.complex128), 1)
    return torch.linalg.inv(matrix).diagonal(dim1=-2, dim2=-1)


def unscaled_resolvent_diagonal(diagonal: Tensor, lower: Tensor, upper: Tensor, z: complex) -> Tensor:
    n = diagonal.shape[-1]
    a, bc = diagonal.to(torch.complex128) - z, (lower * upper).to(torch.complex128)
    one, zero = torch.ones_like(a[..., 0]), torch.zeros_like(a[..., 0])
    theta, phi = [zero, one], [zero, one]
    for i in range(n):
        theta.append(a[..., i] * theta[-1] - (bc[..., i - 1] * theta[-2] if i else zero))
        j = n - 1 - i
        phi.append(a[..., j] * phi[-1] - (bc[..., j] * phi[-2] if i else zero))
    return torch.stack([theta[i + 1] * phi[n - i] / theta[-1] for i in range(n)], dim=-1)


def random_bands(n: int, seed: int, batch: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    """Real tridiagonal H with b·c > 0: its eigenvalues are real, so a z off the real axis is none of them."""
    generator = torch.Generator().manual_seed(seed)
    diagonal = 3 * torch.randn(batch, n, generator=generator, dtype=torch.float64)
    lower, upper = 0.5 + 1.5 * torch.rand(2, batch, n - 1, generator=generator, dtype=torch.float64)
    return diagonal, lower, upper


def random_cotangent(n: int, seed: int, batch: int = 2) -> Tensor:
    return torch.randn(batch, n, 2, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64)


def gradient(features_of: Callable[[Tensor], Tensor], v: Tensor, cotangent: Tensor) -> Tensor:
    leaf = v.clone().requires_grad_()
    (grad,) = torch.autograd.grad(features_of(leaf), leaf, cotangent)
    return grad


class TestResolventDiagonal:
    @quick
    @given(n=SIZES, seed=SEEDS, z=OFF_AXIS)
    def test_is_the_diagonal_of_the_dense_inverse(self, n: int, seed: int, z: complex) -> None:
        bands = random_bands(n, seed)
        expected = dense_resolvent_diagonal(*bands, z)
        actual = resolvent_diagonal(*bands, z)
        assert actual.dtype == torch.complex128
        torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9)

    def test_is_the_unscaled_recursion_where_that_stays_in_range(self) -> None:
        bands = random_bands(9, seed=0)
        torch.testing.assert_close(resolvent_diagonal(*bands, 1j), unscaled_resolvent_diagonal(*bands, 1j))

    @pytest.mark.parametrize("n", [1, 2, 7])
    def test_takes_complex_hermitian_bands(self, n: int) -> None:
        generator = torch.Generator().manual_seed(n)
        diagonal = torch.randn(3, n, generator=generator, dtype=torch.float64).to(torch.complex128)
        upper = torch.randn(3, n - 1, generator=generator, dtype=torch.complex128)
        bands = diagonal, upper.conj(), upper
        torch.testing.assert_close(
            resolvent_diagonal(*bands, 0.3 - 0.5j), dense_resolvent_diagonal(*bands, 0.3 - 0.5j), rtol=1e-9, atol=1e-9
        )

    def test_one_pair_of_side_bands_serves_the_whole_batch(self) -> None:
        diagonal, lower, upper = random_bands(6, seed=0)
        shared = resolvent_diagonal(diagonal, lower[0], upper[0], 1j)
        repeated = resolvent_diagonal(diagonal, lower[:1].expand(2, -1), upper[:1].expand(2, -1), 1j)
        torch.testing.assert_close(shared, repeated, rtol=0, atol=0)

    def test_takes_any_leading_dimensions(self) -> None:
        diagonal, lower, upper = random_bands(5, seed=0, batch=6)
        flat = resolvent_diagonal(diagonal, lower, upper, 1j)
        split = resolvent_diagonal(diagonal.view(2, 3, 5), lower.view(2, 3, 4), upper.view(2, 3, 4), 1j)
        torch.testing.assert_close(split, flat.view(2, 3, 5), rtol=0, atol=0)

    def test_of_a_single_site_is_the_reciprocal(self) -> None:
        empty = torch.empty(0, dtype=torch.float64)
        actual = resolvent_diagonal(torch.tensor([[3.0]], dtype=torch.float64), empty, empty, 1 + 1j)
        torch.testing.assert_close(actual, torch.tensor([[1 / (3 - 1 - 1j)]], dtype=torch.complex128))

    def test_passes_through_a_vanishing_minor(self) -> None:
        # θ_1 = a_1 − z = 0, yet H − zI is regular.
        bands = torch.tensor([[1j, 2.0]]), torch.tensor([1.0]), torch.tensor([1.0])
        torch.testing.assert_close(resolvent_diagonal(*bands, 1j), dense_resolvent_diagonal(*bands, 1j))

    def test_is_right_where_the_unscaled_recursion_overflows(self) -> None:
        diagonal = 1e3 * (1 + torch.rand(1, 300, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
        band = torch.ones(299, dtype=torch.float64)
        assert not unscaled_resolvent_diagonal(diagonal, band, band, 1j).isfinite().all()
        torch.testing.assert_close(
            resolvent_diagonal(diagonal, band, band, 1j),
            dense_resolvent_diagonal(diagonal, band, band, 1j),
            rtol=1e-9,
            atol=1e-12,
        )

    def test_is_right_where_the_unscaled_recursion_underflows(self) -> None:
        diagonal = 1e-3 * torch.rand(1, 300, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        band = torch.full((299,), 1e-4, dtype=torch.float64)
        assert not unscaled_resolvent_diagonal(diagonal, band, band, 1e-3j).isfinite().all()
        torch.testing.assert_close(
            resolvent_diagonal(diagonal, band, band, 1e-3j),
            dense_resolvent_diagonal(diagonal, band, band, 1e-3j),
            rtol=1e-9,
            atol=1e-9,
        )

    @pytest.mark.parametrize("a", [-2.0, 1e3])
    def test_far_inside_a_long_uniform_line_is_the_closed_form(self, a: float) -> None:
        # The resolvent of an infinite uniform line is ±1 / sqrt((a − z)² − 4), the sign of Im G that of Im z.
        n, z = 2000, 1j
        diagonal, band = torch.full((1, n), a, dtype=torch.float64), torch.ones(n - 1, dtype=torch.float64)
        actual = resolvent_diagonal(diagonal, band, band, z)
        bulk = ((a - z) ** 2 - 4) ** -0.5
        bulk = bulk if bulk.imag > 0 else -bulk
        assert actual.isfinite().all()
        torch.testing.assert_close(
            actual[:, 500:1500], torch.full((1, 1000), bulk, dtype=torch.complex128), rtol=1e-9, atol=0
        )

    @pytest.mark.parametrize(
        ("diagonal", "lower", "upper", "named"),
        [((2, 0), (0,), (0,), "diagonal"), ((2, 4), (4,), (3,), "lower"), ((2, 4), (3,), (1,), "upper")],
    )
    def test_refuses_bands_that_do_not_fit(self, diagonal, lower, upper, named: str) -> None:
        with pytest.raises(ValueError, match=named):
            resolvent_diagonal(torch.ones(diagonal), torch.ones(lower), torch.ones(upper), 1j)


class TestFullGradient:
    @quick
    @given(n=SIZES, seed=SEEDS, z=OFF_AXIS)
    def test_is_that_of_the_dense_inverse_in_every_band(self, n: int, seed: int, z: complex) -> None:
        cotangent = random_cotangent(n, seed)
        grads = []
        for function in (resolvent_diagonal, dense_resolvent_diagonal):
            leaves = [band.requires_grad_() for band in random_bands(n, seed)]
            features = torch.view_as_real(function(*leaves, z))
            grads.append(torch.autograd.grad(features, leaves, cotangent, allow_unused=True, materialize_grads=True))
        for actual, expected in zip(*grads, strict=True):
            torch.testing.assert_close(actual, expected, rtol=1e-8, atol=1e-8)

    def test_is_right_on_lines_where_the_unscaled_recursion_overflows(self) -> None:
        n, band = 300, torch.ones(299, dtype=torch.float64)
        v = 1e3 * (1 + torch.rand(1, n, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
        cotangent = random_cotangent(n, seed=0, batch=1)
        actual = gradient(lambda a: torch.view_as_real(resolvent_diagonal(a, band, band, 1j)), v, cotangent)
        expected = gradient(lambda a: torch.view_as_real(dense_resolvent_diagonal(a, band, band, 1j)), v, cotangent)
        torch.testing.assert_close(actual, expected, rtol=1e-8, atol=1e-16)

    def test_is_what_bk_core_gives_without_the_analytic_gradient(self) -> None:
        core = BKCore(6, use_analytic_gradient=False)
        v, cotangent = random_bands(6, seed=0)[0], random_cotangent(6, seed=0)

        def dense(v: Tensor) -> Tensor:
            return torch.view_as_real(dense_resolvent_diagonal(core.diagonal + v, core.lower, core.upper, core.z))

        torch.testing.assert_close(gradient(core, v, cotangent), gradient(dense, v, cotangent))


class TestAnalyticGradient:
    def features(
        self, bands: tuple[Tensor, Tensor, Tensor], z: complex, grad_blend: float
    ) -> Callable[[Tensor], Tensor]:
        return lambda diagonal: bk_core(diagonal, bands[1], bands[2], z.real, z.imag, grad_blend)

    @quick
    @given(n=SIZES, seed=SEEDS, z=OFF_AXIS)
    def test_of_the_theory_is_the_diagonal_of_the_dense_jacobian(self, n: int, seed: int, z: complex) -> None:
        bands, cotangent = random_bands(n, seed, batch=1), random_cotangent(n, seed, batch=1)

        def dense(diagonal: Tensor) -> Tensor:
            return torch.view_as_real(dense_resolvent_diagonal(diagonal, bands[1][0], bands[2][0], z))

        jacobian = torch.autograd.functional.jacobian(dense, bands[0][0])  # (N, 2, N)
        local = jacobian.diagonal(dim1=0, dim2=2).T  # (N, 2): ∂(Re G_ii, Im G_ii)/∂a_i
        actual = gradient(self.features(bands, z, grad_blend=0.0), bands[0], cotangent)
        torch.testing.assert_close(actual[0], (cotangent[0] * local).sum(-1), rtol=1e-8, atol=1e-8)

    def test_inverse_square_divides_by_the_square_of_g(self) -> None:
        bands, cotangent = random_bands(8, seed=3), random_cotangent(8, seed=3)
        g = resolvent_diagonal(*bands, 1j)
        assert (g.abs().square() > INVERSE_SQUARE_FLOOR).all()
        expected = -(torch.view_as_complex(cotangent).conj() / g**2).real
        torch.testing.assert_close(gradient(self.features(bands, 1j, grad_blend=1.0), bands[0], cotangent), expected)

    def test_inverse_square_is_bounded_where_g_vanishes(self) -> None:
        bands = torch.full((1, 3), 1e9, dtype=torch.float64), torch.ones(2), torch.ones(2)
        grad = gradient(self.features(bands, 1j, grad_blend=1.0), bands[0], torch.ones(1, 3, 2, dtype=torch.float64))
        assert grad.isfinite().all()
        assert (grad.abs() <= 2 / INVERSE_SQUARE_FLOOR).all()

    @quick
    @given(n=SIZES, seed=SEEDS, blend=st.floats(0, 1))
    def test_blend_is_linear_between_the_two(self, n: int, seed: int, blend: float) -> None:
        bands, cotangent = random_bands(n, seed), random_cotangent(n, seed)
        theory, inverse_square, blended = (
            gradient(self.features(bands, 1j, share), bands[0], cotangent) for share in (0.0, 1.0, blend)
        )
        torch.testing.assert_close(blended, (1 - blend) * theory + blend * inverse_square, rtol=1e-9, atol=1e-9)

    def test_drops_the_influence_of_other_sites(self) -> None:
        bands, cotangent = random_bands(5, seed=1, batch=1), torch.zeros(1, 5, 2, dtype=torch.float64)
        cotangent[0, 2, 1] = 1.0
        grad = gradient(self.features(bands, 1j, grad_blend=0.5), bands[0], cotangent)
        assert grad.nonzero().tolist() == [[0, 2]]

    def test_does_not_run_the_recursion_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        diagonal, lower, upper = random_bands(4, seed=0)
        diagonal.requires_grad_()
        features = bk_core(diagonal, lower, upper, 0.0, 1.0, 0.5)
        monkeypatch.setattr(module, "resolvent_diagonal", lambda *_: pytest.fail("the recursion ran again"))
        features.sum().backward()
        assert diagonal.grad is not None

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_comes_back_in_the_dtype_of_the_input(self, dtype: torch.dtype) -> None:
        v = torch.randn(2, 4, dtype=dtype, requires_grad=True)
        features = bk_core(v, torch.ones(3), torch.ones(3), 0.0, 1.0, 0.5)
        assert features.dtype == torch.float64
        features.sum().backward()
        assert v.grad is not None
        assert v.grad.dtype == dtype

    def test_goes_to_the_diagonal_only(self) -> None:
        leaves = [band.requires_grad_() for band in random_bands(4, seed=0)]
        bk_core(*leaves, 0.0, 1.0, 0.5).sum().backward()
        assert [leaf.grad is None for leaf in leaves] == [False, True, True]


class TestOperator:
    @pytest.mark.parametrize("n", [1, 5])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("requires_grad", [False, True])
    def test_keeps_the_rules_of_a_custom_operator(self, n: int, dtype: torch.dtype, requires_grad: bool) -> None:
        diagonal = torch.randn(2, n, dtype=dtype, requires_grad=requires_grad)
        band = torch.ones(n - 1, dtype=torch.float64)
        torch.library.opcheck(
            bk_core,
            (diagonal, band, band, 0.0, 1.0, 0.5),
            test_utils=("test_schema", "test_autograd_registration", "test_faketensor"),
        )

    @pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
    def test_traces_forward_and_backward(self) -> None:
        diagonal, band = torch.randn(2, 4, requires_grad=True), torch.ones(3)
        torch.library.opcheck(bk_core, (diagonal, band, band, 0.0, 1.0, 0.5), test_utils=("test_aot_dispatch_dynamic",))

    @pytest.mark.parametrize("analytic", [True, False])
    def test_has_shapes_without_data(self, analytic: bool) -> None:
        with FakeTensorMode():
            v = torch.empty(3, 7, requires_grad=True)
            features = BKCore(7, use_analytic_gradient=analytic)(v)
            features.sum().backward()
            assert (features.shape, features.dtype) == ((3, 7, 2), torch.float64)
            assert v.grad is not None
            assert (v.grad.shape, v.grad.dtype) == ((3, 7), torch.float32)

    @pytest.mark.parametrize("analytic", [True, False])
    def test_has_shapes_on_the_meta_device(self, analytic: bool) -> None:
        features = BKCore(7, use_analytic_gradient=analytic).to("meta")(torch.empty(3, 7, device="meta"))
        assert (features.shape, features.dtype) == ((3, 7, 2), torch.float64)

    def test_refuses_bands_that_do_not_fit_without_data_too(self) -> None:
        with pytest.raises(ValueError, match="lower"):
            bk_core(torch.ones(2, 4, device="meta"), torch.ones(4), torch.ones(3), 0.0, 1.0, 0.5)


class TestBKCoreModule:
    @pytest.mark.parametrize("analytic", [True, False])
    @pytest.mark.parametrize("n", [1, 2, 9])
    def test_is_the_resolvent_of_the_laplacian_plus_the_potential(self, n: int, analytic: bool) -> None:
        v = random_bands(n, seed=n)[0]
        side = torch.ones(n - 1, dtype=torch.float64)
        expected = torch.view_as_real(dense_resolvent_diagonal(v - 2, side, side, 0.5 + 1j))
        actual = BKCore(n, z=0.5 + 1j, use_analytic_gradient=analytic)(v)
        torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9)

    @quick
    @given(seed=SEEDS, z=OFF_AXIS)
    def test_features_are_bounded_by_the_distance_of_z_to_the_real_axis(self, seed: int, z: complex) -> None:
        features = BKCore(12, z=z)(random_bands(12, seed)[0])
        assert (torch.view_as_complex(features).abs() <= (1 + 1e-9) / abs(z.imag)).all()

    def test_keeps_the_laplacian_out_of_the_state_dict(self) -> None:
        core = BKCore(5)
        assert core.state_dict() == {}
        assert {name: tuple(buffer.shape) for name, buffer in core.named_buffers()} == {
            "diagonal": (5,),
            "lower": (4,),
            "upper": (4,),
        }

    @pytest.mark.parametrize("v", [torch.zeros(2, 6), torch.zeros(()), torch.zeros(2, 5, dtype=torch.complex64)])
    def test_names_the_value_and_the_expectation(self, v: Tensor) -> None:
        with pytest.raises(ValueError, match=r"\(B, 5\), got .* of shape") as refusal:
            BKCore(5)(v)
        assert str(tuple(v.shape)) in str(refusal.value)

    @pytest.mark.parametrize(
        ("arguments", "named"),
        [
            ({"n_seq": 0}, "n_seq"),
            ({"n_seq": 5, "z": 2.0}, "z"),
            ({"n_seq": 5, "grad_blend": 1.5}, "grad_blend"),
            ({"n_seq": 5, "use_analytic_gradient": 1}, "use_analytic_gradient"),
        ],
    )
    def test_refuses_arguments_out_of_range(self, arguments: dict[str, object], named: str) -> None:
        with pytest.raises(ValueError, match=named):
            BKCore(**arguments)
