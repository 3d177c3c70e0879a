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
