"""``load``: a model by its name, with example inputs."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

from graphflops.core.errors import UsageError
from graphflops.core.messages import USER_EXCEPTIONS, format_value, shortened
from graphflops.integrations import diffusers_models, factories, hf_models, timm_models, torchvision_models
from graphflops.integrations.hf_inputs import hf_inputs
from graphflops.integrations.loaded import Loaded, Sizes, floats
from graphflops.integrations.overrides import split_overrides
from graphflops.integrations.torchvision_operators import import_torchvision

Loader = Callable[[str, dict[str, Any], Sizes, str], Loaded]
LIBRARIES: dict[str, Loader] = {
    "torchvision": torchvision_models.load_torchvision,
    "timm": timm_models.load_timm,
    "hf": hf_models.load_hf,
    "diffusers": diffusers_models.load_diffusers,
}
SEARCHED = (
    ("torchvision", "torchvision", torchvision_models.has_model),
    ("timm", "timm", timm_models.has_model),
    ("hf", "transformers", hf_models.has_model),
)
"""prefix, package, and whether it has a name; a name without a library is of the first that has it"""


def library_of(target: str) -> str:
    """The prefix of a target that names a library, otherwise an empty string.

    >>> library_of("hf:llama"), library_of("my.models:tiny")
    ('hf', '')
    """
    prefix = target.partition(":")[0]
    return prefix if ":" in target and prefix in LIBRARIES else ""


def load(
    target: str,
    *,
    batch: int | None = None,
    seq: int | None = None,
    image: int | tuple[int, int] | None = None,
    training: bool = True,
) -> Loaded:
    """A model by its name, with example inputs: ``analyze(*load("hf:llama"))``. Weights are never downloaded.

    Args:
        target: ``hf:OWNER/NAME``, ``hf:./config.json``, ``hf:MODEL_TYPE``, ``timm:NAME``, ``torchvision:NAME`` or
            ``diffusers:CLASS``, with changes as in ``hf:llama?num_hidden_layers=2``; ``NAME`` alone for the first of
            torchvision, timm and transformers that has it; ``module:factory``, ``file.py:factory`` or
            ``module:Class(64, 2)``; or a file of ``torch.export.save``, ``model.pt2``.
        batch: leading size of every input; default 1.
        seq: tokens of a text; default 128.
        image: height and width of an image; default: the model's own.
        training: False puts a model of a library into evaluation mode, for ``analyze(…, training=False)``.

    Returns:
        A tuple of the model on the meta device, its positional and its keyword inputs; its ``notes`` say what was
        chosen. A model of your own code has no inputs, unless a library
        or its ``example_input_array`` knows them: pass them to ``analyze``.

    Raises:
        UsageError: a library is not installed or has no such model, the model cannot be built, or a size is wrong.
    """
    sizes = _sizes(batch, seq, image)
    if target.endswith(factories.EXPORTED):
        program, args, kwargs = factories.load_exported(target)
        return Loaded(program, args, kwargs, about=("the inputs that it was exported with",))
    library = library_of(target)
    if not library and ":" in target:
        model = factories.load_model(target)
        return Loaded(model, made_up=_known_inputs(model, sizes))
    name, overrides = split_overrides(target.removeprefix(f"{library}:"), target)
    about: tuple[str, ...] = ()
    if not library:
        library = _search(name)
        about = (f"{library}:{name}",)
    loaded = LIBRARIES[library](name, overrides, sizes, target)
    if not training:
        loaded.model.eval()
    return Loaded(loaded.model, about=(*about, *loaded.about), made_up=loaded.made_up)


def _known_inputs(model: Any, sizes: Sizes) -> Mapping[str, Any]:
    """Inputs of a model that a user's code built with a library, or that carries an example; none for others."""
    bases = {base.__module__.partition(".")[0] for base in type(model).__mro__}
    try:
        names = list(inspect.signature(model.forward).parameters)
    except USER_EXCEPTIONS:
        return {}  # the inputs are bound later, with an error that says why
    if (example := getattr(model, "example_input_array", None)) is not None:  # of Lightning
        if isinstance(example, Mapping):
            return example
        return dict(zip(names, example if isinstance(example, tuple) else (example,), strict=False))
    if "transformers" in bases and hasattr(model, "main_input_name"):
        return hf_inputs(model, sizes)[0]
    if "diffusers" in bases and hasattr(model, "config"):
        return diffusers_models.diffusers_inputs(model, sizes)
    size = getattr(model, "pretrained_cfg", None) or {}
    if "timm" in bases and "input_size" in size:
        channels, *image = size["input_size"]
        return {names[0]: floats(sizes.rows, channels, *(sizes.image or image))}
    return {}


def _search(name: str) -> str:
    """The prefix of the first library that has a model of this name."""
    if re.fullmatch(r"[\w.-]+/[\w.@-]+", name) or name.endswith("config.json"):
        return "hf"
    installed = [(prefix, has_model) for prefix, package, has_model in SEARCHED if find_spec(package) is not None]
    import_torchvision()
    for prefix, has_model in installed:
        if has_model(name):
            return prefix
    where = f" in {' or '.join(prefix for prefix, _ in installed)}" if installed else ""
    extras = " or ".join(f"'graphflops[{prefix}]'" for prefix, package, _ in SEARCHED if find_spec(package) is None)
    raise UsageError(
        f"no model {shortened(name, 200)!r}{where}; expected MODULE:FACTORY, FILE.py:FACTORY, hf:NAME, timm:NAME or "
        f"torchvision:NAME{f' (pip install {extras})' if extras else ''}"
    )


def _sizes(batch: Any, seq: Any, image: Any) -> Sizes:
    if isinstance(image, int):
        image = (image, image)
    if image is not None and not (isinstance(image, (tuple, list)) and len(image) == 2):
        raise UsageError(f"image must be a size, or a height and a width, not {format_value(image)}")
    sizes = {
        "batch": batch,
        "seq": seq,
        **(dict(zip(("image height", "image width"), image, strict=True)) if image else {}),
    }
    for name, size in sizes.items():
        if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
            raise UsageError(f"{name} must be a positive whole number, not {format_value(size)}")
    return Sizes(batch, seq, tuple(image) if image else None)
