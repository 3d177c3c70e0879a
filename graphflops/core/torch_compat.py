"""All private names of PyTorch that graphflops uses, with their replacements by version. No other file uses one.

PyTorch gives no guarantee for these names. All are looked up when this file is imported, and so are the attributes of
PyTorch's objects that other files read (``ATTRIBUTES``): if a version lacks one, ``UnsupportedTorch`` names it, and no
number is too small. ``docs/versions.md`` lists the tested versions.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from types import CodeType, FunctionType, ModuleType
from typing import Any

import torch
import torch.utils.checkpoint
from torch import fx, nn

from graphflops.core.errors import UnsupportedTorch

try:
    from torch._C import BufferDict as BufferDict
    from torch._C import DisableTorchFunction as DisableTorchFunction
    from torch._C import DispatchKey as DispatchKey
    from torch._C import ModuleDict as ModuleDict
    from torch._C import ParameterDict as ParameterDict
    from torch._C._functorch import is_functorch_wrapped_tensor as is_functorch_wrapped_tensor
    from torch._C._functorch import peek_interpreter_stack as peek_interpreter_stack
    from torch._functorch.autograd_function import custom_function_call
    from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack as temporarily_clear_interpreter_stack
    from torch._library.autograd import make_autograd_impl
    from torch._library.custom_ops import OPDEFS as OPDEFS
    from torch._library.custom_ops import CustomOpDef as CustomOpDef
    from torch._ops import HigherOrderOperator as HigherOrderOperator
    from torch._ops import OpOverload as OpOverload
    from torch._ops import OpOverloadPacket as OpOverloadPacket
    from torch._subclasses.fake_impls import op_implementations_checks as op_implementations_checks
    from torch._subclasses.fake_tensor import DataDependentOutputException as DataDependentOutputException
    from torch._subclasses.fake_tensor import DynamicOutputShapeException as DynamicOutputShapeException
    from torch._subclasses.fake_tensor import FakeTensor as FakeTensor
    from torch._subclasses.fake_tensor import FakeTensorMode as FakeTensorMode
    from torch._subclasses.fake_tensor import UnsupportedOperatorException as UnsupportedOperatorException
    from torch._subclasses.fake_tensor import in_kernel_invocation_manager as in_kernel_invocation_manager
    from torch.jit._recursive import wrap_cpp_module as wrap_cpp_module
    from torch.jit._script import RecursiveScriptModule as RecursiveScriptModule
    from torch.library import _impls
    from torch.utils._python_dispatch import TorchDispatchMode as TorchDispatchMode
    from torch.utils._python_dispatch import is_traceable_wrapper_subclass as is_traceable_wrapper_subclass
    from torch.utils._pytree import tree_any as tree_any
    from torch.utils._pytree import tree_flatten as tree_flatten
    from torch.utils._pytree import tree_leaves as tree_leaves
    from torch.utils._pytree import tree_map as tree_map
    from torch.utils._pytree import tree_unflatten as tree_unflatten
    from torch.utils.checkpoint import SAC_IGNORED_OPS as SAC_IGNORED_OPS
    from torch.utils.checkpoint import _CachedTorchDispatchMode, _checkpoint_hook, _CheckpointFrame

    SelectiveCheckpointMode = _CachedTorchDispatchMode
    function_of_graph = torch._C._create_function_from_graph
    current_graph_task = torch._C._current_graph_task_id
    current_autograd_node = torch._C._current_autograd_node
    next_sequence_number = torch._C._autograd._get_sequence_nr
    DisableAutocast = torch._C._DisableAutocast
    DisableTorchDispatch = torch._C._DisableTorchDispatch
    has_computed_kernel = torch._C._dispatch_has_computed_kernel_for_dispatch_key
    is_registered = torch._C._dispatch_has_kernel
    has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key
    set_grad_enabled = torch._C._set_grad_enabled
    schemas_of = torch._C._jit_get_schemas_for_operator
    open_dispatch_modes = torch._C._len_torch_dispatch_stack
    open_function_modes = torch._C._len_torch_function_stack
    top_saved_tensors_hooks = torch._C._autograd._top_saved_tensors_default_hooks
    SingleLevelFunction = torch.autograd.function._SingleLevelFunction
    no_dispatch_modes = torch.utils._python_dispatch._disable_current_modes
    _open_modes = torch.utils._python_dispatch._get_current_dispatch_mode_stack
    _pop_mode = torch.utils._python_dispatch._pop_mode
    _push_mode = torch.utils._python_dispatch._push_mode
    _pop_saved_tensors_hooks = torch._C._autograd._pop_saved_tensors_default_hooks
    _push_saved_tensors_hooks = torch._C._autograd._push_saved_tensors_default_hooks
except (ImportError, AttributeError) as error:
    raise UnsupportedTorch(f"torch {torch.__version__} is not supported: {error}") from error

ATTRIBUTES: tuple[tuple[str, Any, tuple[str, ...]], ...] = (
    ("an operator", torch.ops.aten.mm.default, ("_schema", "_opname", "_overloadname", "_op_dk")),
    ("an operator", torch.ops.aten.mm, ("_qualified_op_name",)),
    ("a custom operator", CustomOpDef, ("_init_fn", "_qualname", "_opoverload", "_backend_fns")),
    ("a TorchScript module", RecursiveScriptModule, ("_c",)),
    ("a TorchScript object", torch._C.ScriptModule, ("_has_method", "_get_method")),
    ("an exported program", torch.export.ExportedProgram, ("_graph_module",)),
    ("inference mode", torch._C, ("_InferenceMode",)),
    ("backward", torch.autograd, ("_engine_run_backward",)),
    ("a function of autograd", torch.ones(1, requires_grad=True).exp().grad_fn, ("_sequence_nr",)),
    ("a tensor", torch.Tensor, ("_base", "_version", "_backward_hooks", "_values")),
    ("a Function", torch.autograd.Function, ("_backward_cls",)),
    ("a storage", torch.UntypedStorage, ("_cdata",)),
    ("a tensor", torch.Tensor, ("register_hook", "register_post_accumulate_grad_hook")),
    (
        "a module",
        nn.Module(),
        (
            *("_parameters", "_buffers", "_modules", "_apply", "_call_impl", "_compiled_call_impl"),
            *("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"),
            *("_get_backward_hooks", "_get_backward_pre_hooks"),
        ),
    ),
    ("a wrapper", nn.parallel.DistributedDataParallel, ("_pre_forward", "_run_ddp_forward", "_post_forward")),
    (
        "the hooks of all modules",
        nn.modules.module,
        ("_global_backward_hooks", "_global_backward_pre_hooks", "_global_buffer_registration_hooks"),
    ),
    ("a graph", fx.Graph(), ("_root", "_graph_namespace")),
    ("a graph's names", fx.Graph()._graph_namespace, ("_base_count",)),
    ("a graph's node", fx.Graph()._root, ("_next", "_prev")),
)
"""private attributes of PyTorch's objects that other files read: the kind of object, an example, the names"""


def _probe() -> None:
    """Check that this version of PyTorch has all names.

    Raises:
        UnsupportedTorch: a name is missing.
    """
    for owner, example, names in ATTRIBUTES:
        for name in names:
            if not hasattr(example, name) and name not in _names_in_methods(example):
                refuse(f"{owner} has no {name}")
    frame = set(_CheckpointFrame.__init__.__code__.co_names)
    for missing in sorted({"recompute_fn", "weak_holders", "early_stop"} - frame):
        refuse(f"the frame of a checkpoint has no {missing}")
    if not frame & {"saved_args", "input_saver"}:
        refuse("the frame of a checkpoint has no saved inputs")
    if "frame" not in _free_names(_checkpoint_hook.__init__.__code__, "pack_hook"):
        refuse("the hooks of a checkpoint have no frame")
    generator = "_checkpoint_without_reentrant_generator"  # since 2.15 it delegates to a second function
    functions = vars(torch.utils.checkpoint)
    function = functions.get(f"{generator}_impl", functions.get(generator))
    if "recompute_context" not in _free_names(getattr(function, "__code__", None), "recompute_fn"):
        refuse("a checkpoint has no context")
    if "storage" not in SelectiveCheckpointMode.__init__.__code__.co_names:
        refuse("a selective checkpoint has no storage")


def _names_in_methods(cls: Any) -> set[str]:
    """Names that the methods of a class use, among them the attributes of its instances."""
    methods = (method for method in vars(cls).values() if isinstance(method, FunctionType))
    return {name for method in methods for name in method.__code__.co_names}


def refuse(missing: str) -> None:
    """Raise ``UnsupportedTorch`` for a missing name."""
    raise UnsupportedTorch(f"torch {torch.__version__} is not supported: {missing}")


def _free_names(code: CodeType | None, function: str) -> tuple[str, ...]:
    """Free variables of an inner function, given the code of the outer one."""
    inner = (constant for constant in (code.co_consts if code else ()) if isinstance(constant, CodeType))
    return next((nested.co_freevars for nested in inner if nested.co_name == function), ())


_probe()

# -- modules that PyTorch imports lazily ---------------------------------------------------------------------------

FAKE_TENSOR_LOG = "torch._subclasses.fake_tensor"
"""name of the logger for operators that fail on fake tensors"""


def decompositions() -> dict[Any, Any]:
    """PyTorch's table of decompositions: operator → function."""
    table: dict[Any, Any] = getattr(*_replaceable(import_module("torch._decomp"), "decomposition_table"))
    return table


def export_module() -> ModuleType:
    """The module of ``torch.export`` that logs failures."""
    return import_module("torch.export._trace")


def stance() -> tuple[Any, str] | None:
    """Module and name of the function that decides whether a compiled call is compiled, if it is imported."""
    module = sys.modules.get("torch._dynamo.eval_frame")
    return None if module is None else _replaceable(module, "_callback_from_stance")


def flex_device_check() -> tuple[Any, str] | None:
    """Module and name of the function with which flex attention rejects training on a CPU, if it is imported."""
    module = sys.modules.get("torch.nn.attention.flex_attention")
    return None if module is None else _replaceable(module, "_validate_device")


def graph_break_reasons() -> list[Any]:
    """Dynamo's records of the breaks of its graphs in this process: objects with ``reason`` and ``user_stack``."""
    module = sys.modules.get("torch._dynamo.utils")
    return [] if module is None else [*getattr(*_replaceable(module, "graph_break_reasons"))]


def device_guard() -> tuple[Any, str] | None:
    """Module and name of the function with which a FakeTensorMode prepares for a missing GPU, if there is one.

    PyTorch 2.10 crashes when a second thread calls it.
    """
    name = "_ensureCUDADeviceGuardSet"
    return (torch._C, name) if hasattr(torch._C, name) else None


def _replaceable(module: ModuleType, name: str) -> tuple[Any, str]:
    if not hasattr(module, name):
        refuse(f"{module.__name__} has no {name}")
    return module, name


# -- modules -------------------------------------------------------------------------------------------------------

module_call: Callable[..., Any] = nn.Module._call_impl
"""PyTorch's call of a module"""
_GLOBALS = vars(nn.modules.module)
_NO_GLOBAL_HOOKS: dict[str, Any] = {
    name: OrderedDict() for name in _GLOBALS if name.startswith("_global_") and "hooks" in name
}
called_alone = FunctionType(nn.Module._call_impl.__code__, {**_GLOBALS, **_NO_GLOBAL_HOOKS}, "_call_impl", None, None)
"""PyTorch's call of a module without global module hooks, which would see and keep fake tensors."""


@contextmanager
def no_registration_hooks_left() -> Iterator[None]:
    """Remove the hooks on registered buffers that a failed ``torch.export`` leaves before PyTorch 2.10."""
    hooks: dict[int, Any] = nn.modules.module._global_buffer_registration_hooks
    before = {*hooks}
    try:
        yield
    finally:
        for key in [key for key in hooks if key not in before]:
            if getattr(hooks[key], "__module__", "").startswith("torch."):
                hooks.pop(key, None)


def hooks_of_all_modules() -> tuple[Any, Any]:
    """Global backward hooks of modules."""
    return nn.modules.module._global_backward_hooks, nn.modules.module._global_backward_pre_hooks


# -- the nodes of a graph ------------------------------------------------------------------------------------------


def last_node(graph: fx.Graph) -> fx.Node:
    """The last node; the root if the graph is empty."""
    return graph._root._prev


def nodes_after(graph: fx.Graph, node: fx.Node) -> Iterator[fx.Node]:
    """The nodes after a node."""
    while node._next is not graph._root:
        node = node._next
        yield node


def name_counts(graph: fx.Graph) -> dict[str, int]:
    """The number of names of each kind in a graph; the graph names the next node by it."""
    return graph._graph_namespace._base_count


# -- tags of operators ---------------------------------------------------------------------------------------------

_REDUCTION = getattr(torch.Tag, "reduction", None)
_REDUCTIONS = frozenset(
    {
        *("all", "amax", "amin", "aminmax", "any", "argmax", "argmin", "count_nonzero", "linalg_vector_norm"),
        *("logsumexp", "max", "mean", "min", "nansum", "norm", "prod", "std", "std_mean", "sum", "var", "var_mean"),
    }
)
"""operators with the tag ``reduction``, for versions without this tag"""


def is_reduction(op: OpOverload) -> bool:
    """Whether an operator is a reduction."""
    if _REDUCTION is not None:
        return _REDUCTION in op.tags
    return str(op._schema.name).removeprefix("aten::") in _REDUCTIONS and "other" not in op._overloadname


# -- fake tensors --------------------------------------------------------------------------------------------------

_TAKES_GRAD = "requires_grad" in inspect.signature(FakeTensor.__new__).parameters


def fake_tensor(
    mode: FakeTensorMode, meta: torch.Tensor, device: torch.device, grad: bool, parameter: bool
) -> FakeTensor:
    """Make a fake tensor from a meta tensor; call it where nothing is dispatched."""
    if _TAKES_GRAD:
        return FakeTensor(mode, meta, device, requires_grad=grad, _is_param=parameter)
    fake = FakeTensor(mode, meta.requires_grad_(grad) if grad else meta, device)
    if parameter:
        fake._is_param = True  # for isinstance(fake, nn.Parameter)
    return fake


# -- other tensors -------------------------------------------------------------------------------------------------


def integer_product(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Product of int8 matrices."""
    return torch._int_mm(left, right)


def local_part(tensor: Any) -> torch.Tensor:
    """The local shard of a distributed tensor."""
    part: torch.Tensor = tensor._local_tensor
    return part


# -- custom autograd functions -------------------------------------------------------------------------------------

APPLY_IS_PYTHON: bool = isinstance(vars(torch.autograd.Function)["apply"], classmethod)
"""whether ``autograd.Function.apply`` is a Python function that calls ``SingleLevelFunction.apply``: before 2.15"""
FunctionMeta: Any = type(torch.autograd.Function)
"""metaclass of autograd Functions"""


def function_apply() -> tuple[Any, str]:
    """Class and name of the function that applies autograd Functions.

    Before 2.15 it also covers an ``apply`` that was looked up earlier. Since then ``apply`` is C++, which looks up
    ``BACKWARD`` and then ``forward`` on the class.
    """
    return SingleLevelFunction if APPLY_IS_PYTHON else torch.autograd.Function, "apply"


BACKWARD = "_backward_cls"
"""an attribute of an autograd Function that only ``apply`` looks up"""


# -- backward passes -----------------------------------------------------------------------------------------------


def engine() -> tuple[Any, str]:
    """Module and name of the function that runs a backward pass."""
    return torch.autograd, "_engine_run_backward"


def inference_guard() -> tuple[Any, str]:
    """Module and name of the class that ``torch.inference_mode`` enters."""
    return torch._C, "_InferenceMode"


def sequence_number(function: Any) -> int:
    """Sequence number of a node of autograd's graph."""
    return int(function._sequence_nr())


def in_backward() -> bool:
    """Whether this thread runs a backward pass."""
    return bool(current_graph_task() != -1)


@contextmanager
def no_modes_above(is_last: Callable[[Any], bool]) -> Iterator[None]:
    """A context without the dispatch modes that were entered after the one for which ``is_last`` is true."""
    above: list[Any] = []
    modes = _open_modes()
    while any(map(is_last, modes)) and not is_last(modes.pop()):
        above.append(_pop_mode())
    try:
        yield
    finally:
        for mode in reversed(above):
            _push_mode(mode)


def python_kernels(op: OpOverload) -> list[Callable[..., Any]]:
    """Python kernels of an operator of ``torch.library``, that of the CPU first."""
    definition = OPDEFS.get(op._schema.name)
    if definition is None:  # registered with a Library, which stores only their keys
        namespace, name = op._schema.name.split("::")
        overload = f".{op._schema.overload_name}" if op._schema.overload_name else ""
        places = (DispatchKey.CPU, DispatchKey.CompositeExplicitAutograd)
        registered = [key for key in places if f"{namespace}/{name}{overload}/{key.name}" in _impls]
        return [functools.partial(op._op_dk, key) for key in registered]
    by_device = definition._backend_fns
    kernels = (by_device.get("cpu"), by_device.get(None), definition._init_fn)
    return [kernel for kernel in dict.fromkeys(kernels) if kernel is not None]


def is_of_custom_operator(function: Any) -> bool:
    """Whether PyTorch generated a Function for an operator of ``torch.library.custom_op``."""
    return getattr(function.forward, "__module__", "") == make_autograd_impl.__module__


def is_function_call(operator: HigherOrderOperator) -> bool:
    """Whether an operator is the call of a Function in a transform of ``torch.func``."""
    return operator is custom_function_call


def is_of_transformation(function: Any) -> bool:
    """Whether a transform of ``torch.func`` generated a Function."""
    return getattr(function.forward, "__module__", "") == type(custom_function_call).__module__


def applied_by(node: Any) -> Any:
    """The custom Function of a node of autograd's graph, if it has one."""
    return getattr(type(node), "_forward_cls", None)


# -- checkpoints ---------------------------------------------------------------------------------------------------

RECOMPUTED = getattr(torch.utils.checkpoint, "_RECOMPUTE", None)
"""before 2.13 there is none: a list of results has those alone that were kept"""


def saved_tensors_hooks() -> list[tuple[Any, Any]]:
    """All active hooks on saved tensors, in order; the last one is called."""
    hooks: list[tuple[Any, Any]] = []
    try:
        while (top := top_saved_tensors_hooks(True)) is not None:
            hooks.append(top)
            _pop_saved_tensors_hooks()
    finally:
        hooks.reverse()
        for pair in hooks:
            _push_saved_tensors_hooks(*pair)
    return hooks


@contextmanager
def no_saved_tensors_hooks() -> Iterator[None]:
    """A context without hooks on saved tensors."""
    hooks = saved_tensors_hooks()
    for _ in hooks:
        _pop_saved_tensors_hooks()
    try:
        yield
    finally:
        for pair in hooks:
            _push_saved_tensors_hooks(*pair)


def is_of_checkpoint(pack: Any) -> bool:
    """Whether ``torch.utils.checkpoint`` registered a hook on saved tensors."""
    return getattr(pack, "__module__", "") == torch.utils.checkpoint.__name__


def is_frame(value: Any) -> bool:
    """Whether a value is PyTorch's record of a checkpointed region, which before 2.12 has a tensor."""
    return isinstance(value, _CheckpointFrame)
