"""Programs that store state wherever Python allows it: a run changes that state, and an analysis must not."""

import collections
import functools
import itertools
import random
import types
import warnings
import weakref
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

TABLE: dict[str, Tensor] = {}
HISTORY: list[Tensor] = []
NESTED: dict[str, Any] = {"level": {"tensors": []}}
WINDOW: collections.deque[Tensor] = collections.deque(maxlen=2)
LAST: Tensor | None = None
SEEN: set[int] = set()
CONSTANT = torch.ones(4)
MEAN = torch.zeros(4)
CALLS = {"forward": 0}


class Box:
    def __init__(self, **attributes: Any) -> None:
        vars(self).update(attributes)


class Slotted:
    __slots__ = ("items", "tensor")

    def __init__(self) -> None:
        self.items, self.tensor = [], torch.zeros(4)


class Frozen(collections.OrderedDict[str, Any]):
    """A dict that cannot be changed once it is closed, like the configurations of some libraries."""

    closed = False

    def __setitem__(self, key: str, value: Any) -> None:
        if self.closed:
            raise TypeError("frozen")
        super().__setitem__(key, value)

    def clear(self) -> None:
        raise TypeError("frozen")

    def update(self, *args: Any, **kwargs: Any) -> None:
        raise TypeError("frozen")


class Instances(collections.OrderedDict[str, Any]):
    """A table of classes that returns a new instance at each lookup."""

    def __getitem__(self, key: str) -> Any:
        return super().__getitem__(key)()


ACTIVATIONS = Instances(relu=nn.ReLU, gelu=nn.GELU)


class Registry(list[Any]):
    """A list without duplicates."""

    def append(self, value: Any) -> None:
        if any(value is member for member in self):
            raise ValueError("twice")
        super().append(value)

    def extend(self, values: Any) -> None:
        for value in values:
            self.append(value)

    def clear(self) -> None:
        raise TypeError("kept")


class Program(nn.Module):
    """A layer, and some state."""

    shared: ClassVar[dict[str, Tensor]] = {}
    latest: Tensor | None = None

    def __init__(self, step: Callable[[Any, Tensor], Tensor], **attributes: Any) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.step = step
        for name, value in attributes.items():
            setattr(self, name, value)

    def forward(self, x: Tensor) -> Tensor:
        return self.step(self, self.layer(x))


class Noisy(Program):
    """Draws by functions that are defaults of its forward."""

    def forward(
        self, x: Tensor, scale: Callable[[], float] = random.random, *, bits: Any = random.getrandbits
    ) -> Tensor:
        return self.step(self, self.layer(x)) * scale() + bits(3)


class Key:
    """Equal to a key with equal parts."""

    __slots__ = ("parts",)

    def __init__(self, *parts: Any) -> None:
        self.parts = parts

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Key) and self.parts == other.parts

    def __hash__(self) -> int:
        return hash(self.parts)


def in_table(self: Any, h: Tensor) -> Tensor:
    if "mask" not in TABLE:
        TABLE["mask"] = torch.ones(4, 4) @ torch.ones(4, 4)
    return h @ TABLE["mask"]


def in_history(self: Any, h: Tensor) -> Tensor:
    HISTORY.append(h)
    return torch.stack(HISTORY).sum(0)


def in_nested(self: Any, h: Tensor) -> Tensor:
    NESTED["level"]["tensors"].append(h)
    NESTED["level"][len(NESTED["level"])] = h
    return h


def in_window(self: Any, h: Tensor) -> Tensor:
    WINDOW.append(h)
    return h


def in_global(self: Any, h: Tensor) -> Tensor:
    global LAST
    LAST = h if LAST is None else LAST + h
    return LAST


def in_counter(self: Any, h: Tensor) -> Tensor:
    CALLS["forward"] += 1
    SEEN.add(CALLS["forward"])
    return h


def in_class(self: Any, h: Tensor) -> Tensor:
    type(self).latest = h
    Program.shared["h"] = h
    return h


def over_a_global(self: Any, h: Tensor) -> Tensor:
    MEAN.mul_(0.9).add_(h.detach().mean(0), alpha=0.1)
    return h - MEAN


def in_object(self: Any, h: Tensor) -> Tensor:
    self.box.tensor = torch.cat([self.box.tensor, h])
    self.box.inner.items.append(h)
    self.box.inner.count += 1
    return self.box.tensor


def in_slots(self: Any, h: Tensor) -> Tensor:
    self.box.tensor = h
    self.box.items.append(h)
    return h


def in_containers(self: Any, h: Tensor) -> Tensor:
    self.pair[0].append(h)
    self.table["a"]["b"] = h
    self.queue.append(h)
    self.names.add("h")
    return h


def in_place(self: Any, h: Tensor) -> Tensor:
    self.plain.add_(1)
    self.layer.weight.data.mul_(0.5)
    self.layer.bias.data = torch.zeros(4)
    return h * self.plain


def in_attributes(self: Any, h: Tensor) -> Tensor:
    self.result = h
    self.register_buffer("late", h.detach())
    del self.gone
    self.layer.register_forward_hook(lambda *_: None)
    self.layer.requires_grad_(False)
    self.eval()
    return h


def in_random(self: Any, h: Tensor) -> Tensor:
    torch.manual_seed(random.randrange(5))
    random.shuffle(list(range(3)))
    self.generator.manual_seed(3)
    self.dice.random()
    next(self.numbers)
    return F.dropout(h) * random.random() + torch.rand(4)


def by_contents(self: Any, h: Tensor) -> Tensor:
    self.table[Key("again", Key(1))] = h
    return h * self.table[Key("scale", Key(0))] * len(self.keys)


def in_settings(self: Any, h: Tensor) -> Tensor:
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    return h


def kept_weakly(self: Any, h: Tensor) -> Tensor:
    self.weak[self.layer] = h
    return h * self.reference().weight.sum()


def frozen(self: Any, h: Tensor) -> Tensor:
    return h * self.config["scale"] + len(self.registry)


def converted(self: Any, h: Tensor) -> Tensor:
    return self.layer.to(torch.float64)(h.double())


def checkpointed(self: Any, h: Tensor) -> Tensor:
    return checkpoint(self.layer, h, use_reentrant=False)


@functools.lru_cache
def cached(size: int) -> Tensor:
    return torch.eye(size) @ torch.ones(size, size)


def from_cache(self: Any, h: Tensor) -> Tensor:
    return h @ cached(4)


def scripted(module: nn.Module) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.script(module)


def programs() -> dict[str, nn.Module]:
    """Fresh models by name."""
    torch.manual_seed(0)
    closed = Frozen(scale=2)
    closed.closed = True
    registry = Registry()
    registry.append(object())
    layer = nn.Linear(4, 4)
    inner = types.SimpleNamespace(items=[], count=0)
    models = {
        step.__name__: Program(step)
        for step in (in_table, in_history, in_nested, in_window, in_global, in_counter, in_class, over_a_global)
    }
    models |= {
        "in_object": Program(in_object, box=Box(tensor=torch.zeros(1, 4), inner=inner)),
        "in_slots": Program(in_slots, box=Slotted()),
        "in_containers": Program(
            in_containers, pair=([], 1), table={"a": {}}, queue=collections.deque(), names={"x"}, twice=[[]] * 2
        ),
        "in_place": Program(in_place, plain=torch.ones(4)),
        "in_attributes": Program(in_attributes, gone=1),
        "in_random": Program(in_random, generator=torch.Generator(), dice=random.Random(5), numbers=itertools.count(3)),
        "drawn by defaults": Noisy(from_cache),
        "by_contents": Program(by_contents, table={Key("scale", Key(0)): 2.0}, keys={Key(1), Key(Key(2))}),
        "in_settings": Program(in_settings),
        "kept_weakly": Program(
            kept_weakly, weak=weakref.WeakKeyDictionary(), reference=weakref.ref(layer), other=layer
        ),
        "frozen": Program(frozen, config=closed, registry=registry),
        "converted": Program(converted),
        "checkpointed": Program(checkpointed),
        "from_cache": Program(from_cache),
        "batch norm": nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)),
        "spectral norm": nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4)),
        "weight norm": nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)),
        "scripted": scripted(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU())),
        "scripted inside": nn.Sequential(nn.Linear(4, 4), scripted(nn.Linear(4, 4))),
    }
    return models
