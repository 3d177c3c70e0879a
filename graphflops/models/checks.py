"""Checks of arguments that the configuration and the modules share."""


def require_size(name: str, value: object) -> None:
    """Raise ValueError unless `value` is an int (a bool is not) of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be an int >= 1, got {value!r}")


def require_top_k(top_k: object, num_experts: int) -> None:
    """Raise ValueError unless `top_k` is an int in 1..num_experts."""
    if isinstance(top_k, bool) or not isinstance(top_k, int) or not 1 <= top_k <= num_experts:
        raise ValueError(f"top_k must be an int in 1..num_experts = 1..{num_experts}, got {top_k!r}")


def require_dropout(value: object) -> None:
    """Raise ValueError unless `value` is a probability in [0, 1)."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise ValueError(f"dropout must be a number in [0, 1), got {value!r}")


def require_grad_blend(value: object) -> None:
    """Raise ValueError unless `value` is a number in [0, 1]."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError(f"grad_blend must be a number in [0, 1], got {value!r}")


def require_share(name: str, value: object) -> None:
    """Raise ValueError unless `value` is a number in (0, 1]."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise ValueError(f"{name} must be a number in (0, 1], got {value!r}")


def require_positive(name: str, value: object) -> None:
    """Raise ValueError unless `value` is a finite number above 0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise ValueError(f"{name} must be a finite number > 0, got {value!r}")


def require_bits(value: object) -> None:
    """Raise ValueError unless `value` is a supported bit width, 8 or 4."""
    if isinstance(value, bool) or value not in (4, 8):
        raise ValueError(f"quantization_bits must be 8 or 4, got {value!r}")


def require_bool(name: str, value: object) -> None:
    """Raise ValueError unless `value` is True or False."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be a bool, True or False, got {value!r}")
