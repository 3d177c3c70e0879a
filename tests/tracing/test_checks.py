"""Checks of values, in whatever spelling, pass as in a run on right data; what is no check is refused as before."""

from __future__ import annotations

import linecache
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from real_run import Program, analyzed_macs, real_macs, report_of
from torch import Tensor

from graphflops import CaptureError, analyze
from graphflops.tracing.values.assumptions import DISTRIBUTIONS_VALID

X = torch.ones(12, 8)

PASSING = """
assert y.max() < 1e9
assert (y.max() < 1e9).item()
assert y.max().item() < 1e9
assert float(y.max()) < 1e9
if y.max().item() > 1e9: raise ValueError
if not (-1e9 <= y.min().item() and y.max().item() <= 1e9): raise ValueError
if not -1e9 <= y.min() <= 1e9: raise ValueError
if y.max() > 1e9: raise ValueError(f"{y.max().item()}")
if (y > 1e9).any().item(): raise ValueError
if (y > 1e9).sum() > 0: raise ValueError
if (y > 1e9).sum().item() > 0: raise ValueError
if torch.count_nonzero(y > 1e9): raise ValueError
if len(torch.where(y > 1e9)[0]) > 0: raise ValueError
if y[y > 1e9].numel() > 0: raise ValueError
assert all(each < 1e9 for each in y.flatten())
assert max(y.flatten().tolist()) < 1e9
if torch.isnan(y).any(): raise ValueError
if math.isnan(y.sum().item()): raise ValueError
if math.isinf(float(y.mean())): raise ValueError
if not np.isfinite(y.mean().item()): raise ValueError
if y.mean().item() != y.mean().item(): raise ValueError
if y.std() == 0: raise ValueError
if y.std().item() == 0: raise ValueError
assert y.norm() < 1e9
assert torch.equal(y, y.clone())
assert y.equal(y)
assert torch.allclose(y, y + 0)
if torch.allclose(y, y + 10): raise ValueError
torch.testing.assert_close(y, y.clone())
torch._assert(y.max() < 1e9, "too large")
torch._check(y.max().item() < 1e9)
low = y.min().item(); assert low > -1e9
mean = y.mean().item(); y = y if math.isfinite(mean) else y * 0
""".strip().splitlines()


def program(line: str, path: Path) -> Program:
    """A program with a line of its own between two layers; checks are read in its file."""
    names: dict[str, Any] = {"torch": torch, "math": math, "np": np}
    lines = ["y = m.linear(x)", *line.split("; "), "return m.linear(y)"]
    source = "\n    ".join(["def function(m, x):", *lines]) + "\n"
    path.write_text(source)
    linecache.checkcache(str(path))
    exec(compile(source, str(path), "exec"), names)
    return Program(names["function"])


@pytest.mark.parametrize("line", PASSING)
def test_checks_pass(line: str, tmp_path: Path) -> None:
    model = program(line, tmp_path / "checked.py")
    assert analyzed_macs(model, X) == real_macs(model, X)


def test_a_check_of_given_values_is_one_of_these_values() -> None:
    def checked(m: Program, x: Tensor, places: Tensor) -> Tensor:
        assert places.max() < 10, "too large"
        return m.linear(x[places])

    good, bad = torch.tensor([1, 2]), torch.tensor([1, 11])
    assert report_of(Program(checked), X, good).assumptions == ("the values of input_1 are used as they were given",)
    with pytest.raises(CaptureError, match="too large"):
        analyze(Program(checked), (X, bad))
    without = report_of(Program(checked), X, good.to("meta"))
    assert [text.partition(": ")[2] for text in without.assumptions] == ["data-dependent branch; took the True branch"]


@pytest.mark.parametrize("line", ["y = y if y.sum() > 0 else -y", "y = y if y.sum().item() > 0 else -y"])
def test_a_comparison_that_is_no_check_is_refused(line: str, tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match="data-dependent control flow"):
        analyze(program(line, tmp_path / "compared.py"), (X,))


def test_tensors_of_other_shapes_are_not_equal() -> None:
    def compared(m: Program, x: Tensor) -> Tensor:
        return m.linear(x) if torch.equal(x, x[1:]) else m.linear(m.linear(x))

    assert analyzed_macs(Program(compared), X) == real_macs(Program(compared), X)


D = torch.distributions
positive = torch.nn.functional.softplus
DISTRIBUTIONS: dict[str, Callable[[Tensor], D.Distribution]] = {
    "Normal": lambda y: D.Normal(y, positive(y)),
    "LogNormal": lambda y: D.LogNormal(y, positive(y)),
    "Gumbel": lambda y: D.Gumbel(y, positive(y)),
    "Gamma": lambda y: D.Gamma(positive(y), positive(y)),
    "Beta": lambda y: D.Beta(positive(y), positive(y)),
    "Dirichlet": lambda y: D.Dirichlet(positive(y)),
    "StudentT": lambda y: D.StudentT(positive(y)),
    "Uniform": lambda y: D.Uniform(y, y + 1),
    "VonMises": lambda y: D.VonMises(y, positive(y)),
    "Weibull": lambda y: D.Weibull(positive(y), positive(y)),
    "Bernoulli": lambda y: D.Bernoulli(logits=y),
    "Binomial": lambda y: D.Binomial(5, logits=y),
    "Poisson": lambda y: D.Poisson(positive(y)),
    "Categorical": lambda y: D.Categorical(logits=y),
    "OneHotCategorical": lambda y: D.OneHotCategoricalStraightThrough(probs=y.softmax(-1)),
    "Multinomial": lambda y: D.Multinomial(5, logits=y),
    "RelaxedBernoulli": lambda y: D.RelaxedBernoulli(torch.tensor(0.5), logits=y),
    "MultivariateNormal": lambda y: D.MultivariateNormal(y, torch.diag_embed(positive(y))),
    "LowRank": lambda y: D.LowRankMultivariateNormal(y, y[..., None], positive(y)),
    "Independent": lambda y: D.Independent(D.Normal(y, positive(y)), 1),
    "Mixture": lambda y: D.MixtureSameFamily(D.Categorical(logits=y), D.Normal(y, positive(y))),
    "Tanh": lambda y: D.TransformedDistribution(D.Normal(y, positive(y)), [D.TanhTransform(cache_size=1)]),
}


def likelihood(make: Callable[[Tensor], D.Distribution]) -> Program:
    def function(m: Program, x: Tensor) -> Tensor:
        distribution = make(m.linear(x))
        drawn = distribution.rsample() if distribution.has_rsample else distribution.sample()
        return distribution.log_prob(drawn).sum() + distribution.log_prob(drawn.detach()).sum()

    return Program(function)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_distributions_are_exact_with_their_default_validation_which_is_said_once(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(D.Distribution, "_validate_args", True)  # torch.compile, called once, switches it off for good
    model = likelihood(DISTRIBUTIONS[name])
    assert analyzed_macs(model, X[:4]) == real_macs(model, X[:4])
    assert report_of(model, X[:4]).assumptions == (DISTRIBUTIONS_VALID,)


def test_divergences_are_exact() -> None:
    for name in ("Normal", "Gamma", "Beta", "Dirichlet", "Categorical", "MultivariateNormal"):
        make = DISTRIBUTIONS[name]
        model = Program(lambda m, x, make=make: D.kl_divergence(make(m.linear(x)), make(m.linear(x + 1))))
        assert analyzed_macs(model, X[:4]) == real_macs(model, X[:4]), name
