"""Programs derived from a model or composed of functions: graphs, compiled modules, transforms, control flow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.nn.utils import rnn
from zoo import Case, Entry, floats, ids, on_meta

from families.training import Block, Trunk

Program = tuple[str, Callable[[], Case]]


def entries() -> Iterator[Entry]:
    for name, build in [*graphs(), *sequences(), *transforms(), *control(), *flexible(), *caches()]:
        yield Entry("programs", name, build)


# -- graphs ------------------------------------------------------------------------------------------------------------


def graphs() -> Iterator[Program]:
    sequence, image = floats(2, 9, 32), floats(2, 3, 32, 32)
    for name, make, x in (("attention", Block, sequence), ("convolutions", convolutions, image)):
        yield name, lambda make=make, x=x: Case(on_meta(make), (x,))
        yield f"{name}, exported", lambda make=make, x=x: Case(exported(on_meta(make), x), (x,))
        yield (
            f"{name}, exported for training",
            lambda make=make, x=x: Case(exported(on_meta(make), x).module(), (x,)),
        )
        yield f"{name}, compiled", lambda make=make, x=x: Case(torch.compile(on_meta(make)), (x,))
    yield "convolutions, graph module", lambda: Case(fx.symbolic_trace(on_meta(convolutions)), (image,))
    yield "checkpointed blocks, compiled", lambda: Case(torch.compile(on_meta(checkpointed)), (floats(2, 9, 12),))
    yield "attention, its blocks compiled", lambda: Case(on_meta(partly_compiled), (floats(2, 9, 12),))


def exported(model: nn.Module, x: Tensor) -> Any:
    return torch.export.export(model, (x,), strict=False)


def convolutions() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 3, groups=4), nn.Flatten()
    )


def checkpointed() -> nn.Module:
    return Trunk(checkpointed=True)


def partly_compiled() -> nn.Module:
    model = Trunk()
    for block in model.blocks:
        block.compile()
    return model


# -- sequences of several lengths --------------------------------------------------------------------------------------


class Packed(nn.Module):
    """A recurrent layer over sequences of several lengths, which stand in the program."""

    def __init__(self, layer: nn.Module, *lengths: int) -> None:
        super().__init__()
        self.layer, self.lengths = layer, torch.tensor(lengths, device="cpu")

    def forward(self, x: Tensor) -> Tensor:
        packed = rnn.pack_padded_sequence(x, self.lengths, batch_first=True, enforce_sorted=False)
        padded, _ = rnn.pad_packed_sequence(self.layer(packed)[0], batch_first=True)
        return padded


def sequences() -> Iterator[Program]:
    for name, layer in {"RNN": nn.RNN, "GRU": nn.GRU, "LSTM": nn.LSTM}.items():
        for bidirectional in (False, True):
            yield (
                f"{name}, 3 layers, dropout{', both directions' * bidirectional}",
                lambda layer=layer, bidirectional=bidirectional: Case(
                    on_meta(lambda: layer(6, 10, num_layers=3, dropout=0.2, bidirectional=bidirectional)).train(),
                    (floats(5, 3, 6),),
                ),
            )
            yield (
                f"{name}, packed{', both directions' * bidirectional}",
                lambda layer=layer, bidirectional=bidirectional: Case(
                    on_meta(
                        lambda: Packed(
                            layer(6, 10, num_layers=2, bidirectional=bidirectional, batch_first=True), 5, 3, 2
                        )
                    ),
                    (floats(3, 5, 6),),
                ),
            )
    yield (
        "LSTM, projection, packed",
        lambda: Case(
            on_meta(lambda: Packed(nn.LSTM(6, 10, proj_size=4, batch_first=True), 5, 3, 2)), (floats(3, 5, 6),)
        ),
    )


# -- torch.func --------------------------------------------------------------------------------------------------------


class Called(nn.Module):
    """A module that gives its layer's parameters to a function of a transform."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.layer = nn.Sequential(nn.Linear(12, 16), nn.Tanh(), nn.Linear(16, 4))
        self.function = function

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(self.layer, dict(self.layer.named_parameters()), *inputs)


def transforms() -> Iterator[Program]:
    from torch import func

    def energy(layer: nn.Module, parameters: Any, x: Tensor) -> Tensor:
        return func.functional_call(layer, parameters, (x,)).square().sum()

    def gradient(layer: nn.Module, parameters: Any, x: Tensor) -> Any:
        return func.grad(lambda p: energy(layer, p, x))(parameters)

    def force(layer: nn.Module, parameters: Any, x: Tensor) -> Tensor:
        return func.grad(lambda y: energy(layer, parameters, y))(x)

    def each_sample(layer: nn.Module, parameters: Any, x: Tensor) -> Any:
        return func.vmap(func.grad(lambda p, y: energy(layer, p, y)), in_dims=(None, 0))(parameters, x)

    def ensemble(layer: nn.Module, parameters: Any, x: Tensor) -> Tensor:
        stacked = {
            name: torch.stack([parameter, 2 * parameter, 3 * parameter]) for name, parameter in parameters.items()
        }
        return func.vmap(lambda p, y: func.functional_call(layer, p, (y,)), in_dims=(0, None))(stacked, x)

    def one_by_one(layer: nn.Module, parameters: Any, x: Tensor) -> Tensor:
        return func.vmap(layer)(x)

    def jacobian(way: Callable[..., Any]) -> Callable[..., Any]:
        return lambda layer, parameters, x: way(lambda y: func.functional_call(layer, parameters, (y,)))(x)

    def second(layer: nn.Module, parameters: Any, x: Tensor) -> Any:
        return func.hessian(lambda y: energy(layer, parameters, y))(x)

    def pushed(layer: nn.Module, parameters: Any, x: Tensor) -> Any:
        return func.jvp(lambda y: func.functional_call(layer, parameters, (y,)), (x,), (torch.ones_like(x),))

    def pulled(layer: nn.Module, parameters: Any, x: Tensor) -> Any:
        out, back = func.vjp(lambda y: func.functional_call(layer, parameters, (y,)), x)
        return back(torch.ones_like(out))

    def called(layer: nn.Module, parameters: Any, x: Tensor) -> Tensor:
        return func.functional_call(layer, {name: 2 * parameter for name, parameter in parameters.items()}, (x,))

    def inner_step(layer: nn.Module, parameters: Any, x: Tensor) -> Tensor:
        steps = func.grad(lambda p: energy(layer, p, x))(parameters)
        return energy(layer, {name: parameter - 0.1 * steps[name] for name, parameter in parameters.items()}, x)

    batch, vector = floats(5, 12), floats(12)
    variants: dict[str, tuple[Callable[..., Any], Tensor]] = {
        "functional_call": (called, batch),
        "grad of parameters": (gradient, batch),
        "grad of the input": (force, batch),
        "vmap": (one_by_one, batch),
        "vmap over an ensemble": (ensemble, batch),
        "vmap of grad, each sample's gradient": (each_sample, batch),
        "vjp": (pulled, batch),
        "jvp": (pushed, batch),
        "jacrev": (jacobian(func.jacrev), vector),
        "jacfwd": (jacobian(func.jacfwd), vector),
        "hessian": (second, vector),
        "grad inside of a step, as in MAML": (inner_step, batch),
    }
    for name, (function, x) in variants.items():
        yield name, lambda function=function, x=x: Case(on_meta(lambda: Called(function)), (x,))
    yield "autograd.grad of the input", lambda: Case(on_meta(Force), (floats(5, 12),))


class Force(nn.Module):
    """The gradient of an energy, by autograd, to be trained: as force fields are."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Sequential(nn.Linear(12, 16), nn.Tanh(), nn.Linear(16, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = x.requires_grad_()
        return torch.autograd.grad(self.layer(x).sum(), x, create_graph=True)[0]


# -- control flow ------------------------------------------------------------------------------------------------------


class Branches(nn.Module):
    """Two branches of one cost, of which data chooses."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(12, 12), nn.Linear(12, 12)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cond(x.sum() > 0, lambda y: self.one(y), lambda y: self.two(y).tanh(), (x,))


class Scanned(nn.Module):
    """A recurrence, a matrix product a step."""

    def __init__(self) -> None:
        super().__init__()
        self.step = nn.Linear(12, 12, bias=False)

    def forward(self, x: Tensor) -> Any:
        from torch._higher_order_ops.scan import scan

        def combine(state: Tensor, element: Tensor) -> tuple[Tensor, Tensor]:
            state = torch.tanh(self.step(state) + element)
            return state, state.clone()

        return scan(combine, torch.zeros_like(x[0]), x)


class Associative(nn.Module):
    """Running products of matrices, by halves."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(12, 12)

    def forward(self, x: Tensor) -> Tensor:
        from torch._higher_order_ops.associative_scan import associative_scan

        return associative_scan(torch.mul, self.inner(x), dim=0, combine_mode="generic")


class Repeated(nn.Module):
    """A loop whose number of steps stands in the program."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(12, 12)

    def forward(self, x: Tensor) -> Tensor:
        from torch._higher_order_ops.while_loop import while_loop

        count = torch.zeros((), dtype=torch.long, device=x.device)
        with torch.no_grad():
            return while_loop(lambda i, y: i < 4, lambda i, y: (i + 1, torch.tanh(self.inner(y))), (count, x))[1]


def control() -> Iterator[Program]:
    yield "cond", lambda: Case(on_meta(Branches), (floats(5, 12),))
    yield "scan", lambda: Case(on_meta(Scanned), (floats(7, 5, 12),))
    yield "associative_scan", lambda: Case(on_meta(Associative), (floats(8, 5, 12),))
    yield "while_loop", lambda: Case(on_meta(Repeated), (floats(5, 12),))
    yield "cond, exported", lambda: Case(exported(on_meta(Branches), floats(5, 12)), (floats(5, 12),))


# -- flexible attention ------------------------------------------------------------------------------------------------


class Flexible(nn.Module):
    """Attention whose scores a function changes."""

    def __init__(self, change: Callable[..., Tensor] | None = None, heads: int = 4, groups: int = 4) -> None:
        super().__init__()
        self.heads, self.groups, self.change = heads, groups, change
        self.query, self.key, self.value = nn.Linear(64, 16 * heads), *(nn.Linear(64, 16 * groups) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        from torch.nn.attention.flex_attention import flex_attention

        q = self.query(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = (projection(x).unflatten(-1, (self.groups, -1)).transpose(1, 2) for projection in (self.key, self.value))
        return flex_attention(q, k, v, score_mod=self.change, enable_gqa=self.heads != self.groups)


class Masked(nn.Module):
    """Attention under a mask that a function gives."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        from torch.nn.attention.flex_attention import create_block_mask, flex_attention

        length = q.shape[-2]
        mask = create_block_mask(lambda b, h, i, j: i >= j, None, None, length, length, device=q.device)
        return flex_attention(q, k, v, block_mask=mask)


def flexible() -> Iterator[Program]:
    x, heads = floats(2, 128, 64), floats(2, 4, 128, 16).requires_grad_()
    yield "flex_attention", lambda: Case(on_meta(Flexible), (x,))
    yield "flex_attention, scores changed", lambda: Case(on_meta(lambda: Flexible(distance)), (x,))
    yield "flex_attention, grouped queries", lambda: Case(on_meta(lambda: Flexible(groups=2)), (x,))
    yield "flex_attention, masked", lambda: Case(Masked(), (heads, heads, heads))


def distance(score: Tensor, batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
    return score + (query - key)


# -- caches ------------------------------------------------------------------------------------------------------------


class Cache:
    """Keys and values of earlier steps, in an object that PyTorch does not know as a container."""

    def __init__(self) -> None:
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []


class Cached(nn.Module):
    """A step of attention that returns its cache beside its result, as language models do."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.qkv = nn.Embedding(50, 64), nn.Linear(64, 192)

    def forward(self, tokens: Tensor, cache: Cache | None = None) -> dict[str, Any]:
        cache = cache or Cache()
        q, k, v = self.qkv(self.embed(tokens)).chunk(3, -1)
        cache.keys.append(k)
        cache.values.append(v)
        mixed = F.scaled_dot_product_attention(q, torch.cat(cache.keys, -2), torch.cat(cache.values, -2))
        return {"last": mixed, "cache": cache}


def caches() -> Iterator[Program]:
    yield "cache in the outputs", lambda: Case(on_meta(Cached), (ids(2, 9),))
