"""The attributes of modules that are numbers, which rates may name: ``top_k``, ``config.num_experts``."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from torch import nn

from graphflops.core.messages import try_getattr


def module_attributes(modules: Mapping[str, nn.Module]) -> dict[str, dict[str, Any]]:
    """Module path → the module's attributes that are numbers, by name; those of its ``config`` as ``config.NAME``."""
    of_class: dict[type, dict[str, Any]] = {}
    of_config: dict[int, dict[str, Any]] = {}  # one object serves many modules

    def class_numbers(owner: type) -> dict[str, Any]:
        if owner not in of_class:
            of_class[owner] = _numbers(vars(owner))
        return of_class[owner]

    def config_numbers(config: Any) -> dict[str, Any]:
        if id(config) not in of_config:
            numbers = {**class_numbers(type(config)), **_numbers(try_getattr(config, "__dict__", {}))}
            of_config[id(config)] = {f"config.{name}": number for name, number in numbers.items()}
        return of_config[id(config)]

    attributes = {}
    for path, module in modules.items():
        numbers = {**class_numbers(type(module)), **_numbers(vars(module))}
        if "config" in vars(module) or hasattr(type(module), "config"):
            numbers |= config_numbers(try_getattr(module, "config"))
        attributes[path] = numbers
    return attributes


def _numbers(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in attributes.items()
        if name[:1] != "_"
        and (isinstance(value, (int, float)) or type(value) is Fraction)
        and not isinstance(value, bool)
    }
