"""Distributions, flows, processes and differential equations."""

from __future__ import annotations

import torch
from torch import nn
from zoo import Case

from families.wild.table import signal, wild


@wild("zuko", "neural spline flow, its log-likelihood")
def _() -> Case:
    import zuko

    flow = zuko.flows.NSF(features=3, context=2, transforms=2, hidden_features=[16])

    class Likelihood(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.flow = flow

        def forward(self, x: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
            return -self.flow(context).log_prob(x).mean()

    return Case(Likelihood(), (signal(8, 3), signal(8, 2)))


@wild("zuko", "masked autoregressive flow, sampled")
def _() -> Case:
    import zuko

    class Sampler(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.flow = zuko.flows.MAF(features=3, context=2, transforms=2, hidden_features=[16])

        def forward(self, context: torch.Tensor) -> torch.Tensor:
            return self.flow(context).rsample((4,))

    return Case(Sampler(), (signal(2, 2),))


@wild("zuko", "Gaussian mixture")
def _() -> Case:
    import zuko

    class Likelihood(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mixture = zuko.mixtures.GMM(features=3, context=2, components=4, hidden_features=[16])

        def forward(self, x: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
            return -self.mixture(context).log_prob(x).mean()

    return Case(Likelihood(), (signal(8, 3), signal(8, 2)))


@wild("torchdiffeq", "neural ODE, Runge-Kutta of fixed steps")
def _() -> Case:
    from torchdiffeq import odeint

    return Case(Equation(lambda f, y, t: odeint(f, y, t, method="rk4")), (signal(4, 3),))


@wild("torchdiffeq", "neural ODE, adjoint")
def _() -> Case:
    from torchdiffeq import odeint_adjoint

    return Case(Equation(lambda f, y, t: odeint_adjoint(f, y, t, method="midpoint")), (signal(4, 3),))


class Equation(nn.Module):
    """dy/dt by a small network, solved."""

    def __init__(self, solve: object) -> None:
        super().__init__()
        self.slope = Slope()
        self.solve = solve

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        return self.solve(self.slope, y, torch.linspace(0.0, 1.0, 4))


class Slope(nn.Module):
    """A function of time and state."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 3))

    def forward(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.net(y)


@wild("gpytorch", "exact Gaussian process, its marginal likelihood")
def _() -> Case:
    import gpytorch

    x, y = torch.linspace(0, 1, 12), signal(12)
    likelihood = gpytorch.likelihoods.GaussianLikelihood()

    class Process(gpytorch.models.ExactGP):
        def __init__(self) -> None:
            super().__init__(x, y, likelihood)
            self.mean_module = gpytorch.means.ConstantMean()
            self.covar_module = gpytorch.kernels.ScaleKernel(gpytorch.kernels.RBFKernel())

        def forward(self, x: torch.Tensor) -> object:
            return gpytorch.distributions.MultivariateNormal(self.mean_module(x), self.covar_module(x))

    class Loss(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.process = Process()
            self.mll = gpytorch.mlls.ExactMarginalLogLikelihood(likelihood, self.process)

        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return -self.mll(self.process(x), y)

    return Case(Loss().train(), (x, y))


@wild("gpytorch", "variational Gaussian process")
def _() -> Case:
    import gpytorch

    class Process(gpytorch.models.ApproximateGP):
        def __init__(self) -> None:
            points = torch.linspace(0, 1, 5).unsqueeze(-1)
            distribution = gpytorch.variational.CholeskyVariationalDistribution(5)
            super().__init__(gpytorch.variational.VariationalStrategy(self, points, distribution))
            self.mean_module = gpytorch.means.ConstantMean()
            self.covar_module = gpytorch.kernels.ScaleKernel(gpytorch.kernels.MaternKernel())

        def forward(self, x: torch.Tensor) -> object:
            return gpytorch.distributions.MultivariateNormal(self.mean_module(x), self.covar_module(x))

    class Loss(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.process = Process()
            self.likelihood = gpytorch.likelihoods.GaussianLikelihood()
            self.elbo = gpytorch.mlls.VariationalELBO(self.likelihood, self.process, num_data=12)

        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return -self.elbo(self.process(x), y)

    return Case(Loss().train(), (torch.linspace(0, 1, 12).unsqueeze(-1), signal(12)))


class Likelihood(nn.Module):
    """The negative log-likelihood of a distribution with parameters."""

    def __init__(self, distribution: nn.Module) -> None:
        super().__init__()
        self.distribution = distribution

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return -self.distribution.log_prob(x).mean()


@wild("nflows", "masked autoregressive flow")
def _() -> Case:
    from nflows.distributions import StandardNormal
    from nflows.flows import Flow
    from nflows.transforms import CompositeTransform, MaskedAffineAutoregressiveTransform, ReversePermutation

    layers = [MaskedAffineAutoregressiveTransform(features=4, hidden_features=16), ReversePermutation(features=4)]
    return Case(Likelihood(Flow(CompositeTransform(layers * 2), StandardNormal([4]))), (signal(8, 4),))


@wild("nflows", "neural spline flow by coupling")
def _() -> Case:
    from nflows.distributions import StandardNormal
    from nflows.flows import Flow
    from nflows.nn.nets import ResidualNet
    from nflows.transforms import PiecewiseRationalQuadraticCouplingTransform

    def net(inputs: int, outputs: int) -> nn.Module:
        return ResidualNet(inputs, outputs, hidden_features=16, num_blocks=1)

    spline = PiecewiseRationalQuadraticCouplingTransform(
        torch.tensor([1, 0, 1, 0]), net, num_bins=4, tails="linear", tail_bound=3.0
    )
    return Case(Likelihood(Flow(spline, StandardNormal([4]))), (signal(8, 4),))


@wild("normflows", "real NVP")
def _() -> Case:
    import normflows

    layers = []
    for _ in range(2):
        net = normflows.nets.MLP([2, 16, 4], init_zeros=True)
        layers += [normflows.flows.AffineCouplingBlock(net), normflows.flows.Permute(4, mode="swap")]
    return Case(Likelihood(normflows.NormalizingFlow(normflows.distributions.DiagGaussian(4), layers)), (signal(8, 4),))


@wild("normflows", "neural spline flow, autoregressive")
def _() -> Case:
    import normflows

    layers = [normflows.flows.AutoregressiveRationalQuadraticSpline(4, 1, 16), normflows.flows.LULinearPermute(4)]
    return Case(Likelihood(normflows.NormalizingFlow(normflows.distributions.DiagGaussian(4), layers)), (signal(8, 4),))


@wild("torchcde", "neural controlled differential equation")
def _() -> Case:
    import torchcde

    class Field(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 8 * 3))

        def forward(self, t: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
            return self.net(z).view(*z.shape[:-1], 8, 3)

    class Controlled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.field, self.initial = Field(), nn.Linear(3, 8)

        def forward(self, coefficients: torch.Tensor) -> torch.Tensor:
            path = torchcde.CubicSpline(coefficients)
            start = self.initial(path.evaluate(path.interval[0]))
            return torchcde.cdeint(path, self.field, start, path.interval, adjoint=False, method="rk4")

    points = torchcde.hermite_cubic_coefficients_with_backward_differences(signal(2, 6, 3))
    return Case(Controlled(), (points,))


@wild("torchsde", "stochastic differential equation, Euler")
def _() -> Case:
    import torchsde

    class Equation(nn.Module):
        noise_type, sde_type = "diagonal", "ito"

        def __init__(self) -> None:
            super().__init__()
            self.drift, self.spread = nn.Linear(3, 3), nn.Linear(3, 3)

        def f(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return self.drift(y)

        def g(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return torch.sigmoid(self.spread(y))

    class Solved(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.equation = Equation()

        def forward(self, y: torch.Tensor) -> torch.Tensor:
            return torchsde.sdeint(self.equation, y, torch.linspace(0, 1, 3), method="euler", dt=0.25)

    return Case(Solved(), (signal(4, 3),))


@wild("pyro-ppl", "affine autoregressive transform, conditioned")
def _() -> Case:
    import pyro.distributions as dist
    from pyro.distributions.transforms import affine_autoregressive

    class Flow(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.transform = affine_autoregressive(4, hidden_dims=[16])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            base = dist.Normal(torch.zeros(4), torch.ones(4)).to_event(1)
            return -dist.TransformedDistribution(base, [self.transform]).log_prob(x).mean()

    return Case(Flow(), (signal(8, 4),))


@wild("pyro-ppl", "evidence lower bound of a variational autoencoder")
def _() -> Case:
    import pyro
    import pyro.distributions as dist
    from pyro.infer import Trace_ELBO

    class Autoencoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encode, self.decode = nn.Linear(8, 4), nn.Linear(2, 8)

        def model(self, x: torch.Tensor) -> None:
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", dist.Normal(torch.zeros(len(x), 2), 1.0).to_event(1))
                pyro.sample("x", dist.Normal(self.decode(z), 1.0).to_event(1), obs=x)

        def guide(self, x: torch.Tensor) -> None:
            with pyro.plate("data", len(x)):
                mean, scale = self.encode(x).chunk(2, -1)
                pyro.sample("z", dist.Normal(mean, scale.exp()).to_event(1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return Trace_ELBO().differentiable_loss(self.model, self.guide, x)

    return Case(Autoencoder(), (signal(6, 8),))


@wild("botorch", "SingleTaskGP, its marginal likelihood")
def _() -> Case:
    import gpytorch
    from botorch.models import SingleTaskGP

    x, y = torch.rand(10, 2, dtype=torch.double), torch.rand(10, 1, dtype=torch.double)

    class Loss(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.process = SingleTaskGP(x, y)
            self.mll = gpytorch.mlls.ExactMarginalLogLikelihood(self.process.likelihood, self.process)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return -self.mll(self.process(x), self.process.train_targets)

    model = Loss().train()
    return Case(model, (model.process.train_inputs[0],))


@wild("FrEIA", "invertible network of GLOW blocks")
def _() -> Case:
    from FrEIA.framework import SequenceINN
    from FrEIA.modules import AllInOneBlock

    def net(inputs: int, outputs: int) -> nn.Module:
        return nn.Sequential(nn.Linear(inputs, 16), nn.ReLU(), nn.Linear(16, outputs))

    model = SequenceINN(4)
    for _ in range(2):
        model.append(AllInOneBlock, subnet_constructor=net)
    return Case(model, (signal(8, 4),))
