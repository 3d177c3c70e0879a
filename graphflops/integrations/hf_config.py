"""Configurations of Hugging Face models: a file, a model type, or a repository of the Hub; weights are not read."""

from __future__ import annotations

import dataclasses
import inspect
import json
import socket
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from graphflops.core.errors import UsageError
from graphflops.core.messages import USER_EXCEPTIONS, format_error
from graphflops.integrations.overrides import check_field

LOCAL = "download its config.json in a browser and name the file: hf:./config.json"
_PER_LAYER = ("layer_types", "mlp_layer_types", "layers_block_type")


def load_config(name: str, overrides: dict[str, Any], target: str) -> tuple[Any, tuple[str, ...]]:
    """The configuration that a name stands for, with changes, and notes on where it is from.

    Raises:
        UsageError: no such file, model type or repository; access to it needs a login; a field does not exist.
    """
    from transformers import CONFIG_MAPPING

    path = Path(name).expanduser()
    if path.is_dir() and (path / "config.json").exists():
        path /= "config.json"
    if path.is_file():
        return _from_file(path, overrides, target), ()
    if name in CONFIG_MAPPING:
        config_class = _config_class(name, target)
        return _create(config_class, _checked(config_class, {}, overrides, target), target), (
            f"the default configuration of {config_class.__name__}",
        )
    if path.suffix == ".json" or name.startswith((".", "/", "~")):
        raise UsageError(f"{target}: there is no file {name}")
    file, note = _from_hub(name, target)
    return _from_file(file, overrides, target), note


def _from_file(path: Path, overrides: dict[str, Any], target: str) -> Any:
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{target}: {path} cannot be read as JSON: {format_error(error)}") from error
    if not isinstance(fields, dict):
        raise UsageError(f"{target}: {path} is not a configuration of a model, which is a JSON object")
    model_type = fields.get("model_type")
    if "_class_name" in fields:
        raise UsageError(f"{target}: {path} is a configuration of diffusers: write diffusers:{path}")
    if model_type is None and "architecture" in fields:
        raise UsageError(f"{target}: {path} is a configuration of timm: write timm:{fields['architecture']}")
    if not isinstance(model_type, str):
        raise UsageError(f"{target}: {path} has no model_type, so it is not a configuration of transformers")
    config_class = _config_class(model_type, target, own_code="auto_map" in fields)
    return _create(config_class, _checked(config_class, fields, overrides, target), target)


def _config_class(model_type: str, target: str, *, own_code: bool = False) -> Any:
    import transformers
    from transformers import CONFIG_MAPPING

    if model_type in CONFIG_MAPPING:
        return CONFIG_MAPPING[model_type]
    if own_code:
        raise UsageError(
            f"{target}: the code of model_type {model_type!r} is on the Hub, and graphflops does not execute it. Build "
            "the model in a file of your own, and name it: file.py:factory"
        )
    version = f"transformers {transformers.__version__}"
    raise UsageError(f"{target}: {version} has no model_type {model_type!r}: pip install --upgrade transformers")


def _checked(config_class: Any, fields: Mapping[str, Any], overrides: dict[str, Any], target: str) -> dict[str, Any]:
    """Fields of a configuration with changes; a name with dots is a field of an inner configuration."""
    changed = dict(fields)
    for name, value in overrides.items():
        outer, _, inner = name.partition(".")
        if not inner:
            check_field(name, {*_fields(config_class), *fields}, config_class.__name__, target)
            changed[name] = [value] if name == "architectures" and isinstance(value, str) else value
            continue
        check_field(outer, config_class.sub_configs, config_class.__name__, target)
        inner_class = config_class.sub_configs[outer]
        inner_fields = changed.get(outer) or {}
        if "AutoConfig" in inner_class.__name__:
            changed[outer] = {**inner_fields, inner: value}
        else:
            changed[outer] = _checked(inner_class, inner_fields, {inner: value}, target)
    depth = overrides.get("num_hidden_layers")
    if isinstance(depth, int):
        for name in _PER_LAYER:  # a list of the full depth contradicts another depth
            if name not in overrides and isinstance(changed.get(name), list):
                changed[name] = changed[name][:depth]
    return changed


def _fields(config_class: Any) -> set[str]:
    names = set(config_class.attribute_map) | {"architectures", "dtype", "torch_dtype"}
    names |= {name for name, member in inspect.getmembers_static(config_class) if getattr(member, "fset", None)}
    if dataclasses.is_dataclass(config_class):
        return names | {field.name for field in dataclasses.fields(config_class)}
    bases = config_class.__mro__[:-1]
    return names | {name for base in bases for name in inspect.signature(base.__init__).parameters} - {"self", "kwargs"}


def _create(config_class: Any, fields: dict[str, Any], target: str) -> Any:
    try:
        return config_class.from_dict(fields)
    except USER_EXCEPTIONS as error:
        message = f"{config_class.__name__} refuses this configuration: {format_error(error)}"
        raise UsageError(f"{target}: {message}") from error


def _from_hub(name: str, target: str) -> tuple[Path, tuple[str, ...]]:
    """The config.json of a repository, from the local cache if it is there."""
    import huggingface_hub
    from huggingface_hub import constants, errors
    from transformers import CONFIG_MAPPING

    repository, _, revision = name.partition("@")
    near = get_close_matches(name.rpartition("/")[2].lower(), list(CONFIG_MAPPING), n=3)
    hint = f". Model types of transformers: {', '.join(f'hf:{match}' for match in near)}" if near else ""
    try:
        cached = huggingface_hub.try_to_load_from_cache(repository, "config.json", revision=revision or None)
        if isinstance(cached, str):
            return Path(cached), (f"the configuration of {name} in the local cache of the Hub",)
        if constants.HF_HUB_OFFLINE:
            raise UsageError(
                f"{target}: {name} is not in the local cache, and HF_HUB_OFFLINE is set. Unset it, or {LOCAL}{hint}"
            )
        _check_reachable(constants.ENDPOINT)
        file = huggingface_hub.hf_hub_download(repository, "config.json", revision=revision or None)
        return Path(file), (f"the configuration of {name} on the Hub",)
    except errors.GatedRepoError as error:
        raise UsageError(
            f"{target}: access to {name} needs a login: accept its terms on https://huggingface.co/{repository}, then "
            f"run 'hf auth login' or set HF_TOKEN. Or {LOCAL}"
        ) from error
    except errors.RepositoryNotFoundError as error:
        message = f"the Hub has no model {name!r}, or it is private: check the name, or {LOCAL}{hint}"
        raise UsageError(f"{target}: {message}") from error
    except errors.HFValidationError as error:
        message = f"{name!r} is no model type, no file and no repository of the Hub (OWNER/NAME){hint}"
        raise UsageError(f"{target}: {message}") from error
    except errors.RemoteEntryNotFoundError as error:
        raise UsageError(f"{target}: {name} has no config.json, so it is not a model of transformers") from error
    except errors.RevisionNotFoundError as error:
        raise UsageError(f"{target}: {repository} has no revision {revision!r}") from error
    except OSError as error:
        message = f"the Hub cannot be reached, and {name} is not in the local cache; {LOCAL}{hint}"
        raise UsageError(f"{target}: {message}") from error


def _check_reachable(endpoint: str) -> None:
    """Connect to the Hub, unless a proxy does: without a network its client tries for half a minute.

    Raises:
        OSError: there is no connection.
    """
    url = urlsplit(endpoint)
    if url.scheme not in getproxies() and url.hostname:
        socket.create_connection((url.hostname, url.port or 443), timeout=5).close()
