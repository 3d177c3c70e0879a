"""The design, held by tests: one direction of data, and a report that needs no torch."""

import ast
import re
import subprocess
import sys
import types
from collections.abc import Iterable
from pathlib import Path

import networkx as nx
import pytest
import torch
import torch.utils.checkpoint

import graphflops
from graphflops.core import torch_compat
from graphflops.core.errors import UnsupportedTorch

PACKAGE = Path(graphflops.__file__).parent
ROOMS = ("core", "report", "rules", "tracing", "graph", "analysis", "verify", "integrations", "models", "cli")
"""from the ground: a room imports those before it"""
ENTRANCES = ("graphflops", "graphflops.__main__")
MAX_LINES = 450


def modules() -> dict[str, Path]:
    """The modules of the package: dotted name → file."""
    modules = {}
    for file in PACKAGE.rglob("*.py"):
        parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
        modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return modules


def imports() -> "nx.DiGraph[str]":
    """Which module imports which, wherever in the file."""
    files, graph = modules(), nx.DiGraph()
    for module, file in files.items():
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [
                    name if (name := f"{node.module}.{alias.name}") in files else node.module for alias in node.names
                ]
            graph.add_edges_from(
                (module, name) for name in names if name in files and name not in (module, "graphflops")
            )
    return graph


def room(module: str) -> str:
    """The room of a module."""
    return module.split(".")[1]


def rooms() -> "nx.DiGraph[str]":
    """Which room imports which."""
    edges = ((room(importer), room(imported)) for importer, imported in imports().edges if importer not in ENTRANCES)
    return nx.DiGraph((importer, imported) for importer, imported in edges if importer != imported)


def test_a_room_never_imports_one_above_it() -> None:
    upward = {(above, below) for above, below in rooms().edges if ROOMS.index(above) < ROOMS.index(below)}
    assert upward == set()


def test_the_rooms_have_at_most_nine_floors() -> None:
    assert {file.parent.name for file in PACKAGE.glob("*/__init__.py")} == set(ROOMS)
    assert len(nx.dag_longest_path(rooms())) <= 9


def test_at_most_ten_entries_lie_under_the_package() -> None:
    entries = {file.relative_to(PACKAGE).parts[0] for file in PACKAGE.rglob("*.py")}
    assert len(entries - {"__init__.py", "__main__.py"}) <= 10


def test_no_files_import_each_other_in_a_circle() -> None:
    circles = [sorted(files) for files in nx.strongly_connected_components(imports()) if len(files) > 1]
    assert circles == []


def test_the_design_names_files_that_are_there() -> None:
    text = (PACKAGE.parent / "docs" / "design.md").read_text(encoding="utf-8")
    named = set(re.findall(r"graphflops/[\w./]+\w/?", text))
    assert len(named) > 30
    assert [path for path in named if not (PACKAGE.parent / path).exists()] == []


def test_a_room_of_tracing_never_imports_one_above_it() -> None:
    rooms = ("session", "copies", "values", "interception", "isolation", "recording", "folding", "")
    edges = {
        tuple(rooms.index(module.split(".")[2] if module.count(".") == 3 else "") for module in edge)
        for edge in imports().edges
        if all(module.startswith("graphflops.tracing.") for module in edge)
    }
    assert [(importer, imported) for importer, imported in edges if importer < imported] == []


def test_no_file_is_long() -> None:
    files = [*PACKAGE.rglob("*.py"), *(PACKAGE.parent / "rules").rglob("*.py")]
    assert [file.relative_to(PACKAGE.parent).as_posix() for file in files if lines_of(file) > MAX_LINES] == []


def lines_of(file: Path) -> int:
    return len(file.read_text().splitlines())


@pytest.mark.parametrize(
    "part",
    ["core.sizes", "core.costs", "core.entries", "core.rate", "report.conventions", "report.report", "report.text"],
)
def test_loading_a_report_does_not_import_torch(part: str) -> None:
    code = f"import sys, graphflops.{part}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_no_public_function_shares_the_name_of_its_module() -> None:
    modules = {file.stem for file in PACKAGE.glob("*.py")}
    assert not modules & set(graphflops.__all__)


def test_every_public_name_is_there_and_documented() -> None:
    for name in graphflops.__all__:
        assert getattr(graphflops, name).__doc__, name


@pytest.mark.parametrize("part", ["laws", "growth", "arrays", "law_json", "law_text", "plotting"])
def test_loading_a_law_does_not_import_torch(part: str) -> None:
    code = f"import sys, graphflops.analysis.scaling.{part}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_naming_the_law_imports_neither_numpy_nor_sympy_nor_torch() -> None:
    heavy = "{'numpy', 'sympy', 'torch'} & {*sys.modules}"
    code = f"import sys, graphflops; graphflops.law, graphflops.multiples; sys.exit(len({heavy}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def private_names(file: Path) -> set[str]:
    """Private names of torch in a file: imported, reached by dots from what is imported, or read of its objects.

    An operator is no such name, whatever it is called, nor what Python itself calls so.
    """
    tree = ast.parse(file.read_text())
    known: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            known |= {
                name.asname or "torch": (name.asname and name.name) or "torch"
                for name in node.names
                if name.name.split(".")[0] == "torch"
            }
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "torch":
            known |= {name.asname or name.name: f"{node.module}.{name.name}" for name in node.names}

    def dotted(node: ast.expr) -> str:
        if isinstance(node, ast.Attribute):
            return f"{inner}.{node.attr}" if (inner := dotted(node.value)) else ""
        return known.get(node.id, "") if isinstance(node, ast.Name) else ""

    reached = {dotted(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return {name for name in {*known.values(), *reached} if is_private(name)}


def is_private(name: str) -> bool:
    parts = name.split(".")
    own = (part.startswith("_") and not part.endswith("__") for part in parts)
    return any(own) and parts[:2] != ["torch", "ops"]


def attributes_of_others(files: Iterable[Path]) -> set[str]:
    """Private attributes that are read of objects of other packages: nothing in these files defines them."""
    read, defined = set(), set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                defined.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                defined.add(node.id)
            elif isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.endswith("__"):
                is_own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
                (defined if is_own else read).add(node.attr)
    return read - defined


class TestPrivateNamesOfTorch:
    """They change from version to version: all are in one file, which says so if one is missing."""

    FILES = (*PACKAGE.rglob("*.py"), *(PACKAGE.parent / "rules").glob("*.py"))
    HOME = PACKAGE / "core" / "torch_compat.py"
    OF_LIBRARIES = frozenset({"_from_config", "_has_ops"})  # of transformers and torchvision
    OF_PYTHON = frozenset(
        {"_replace", "_getframe", "_current_frames", "_inst", "_rand", "_slotnames", "_started", "_lru_cache_wrapper"}
    )

    def test_are_in_one_file(self) -> None:
        private = {file.name: names for file in self.FILES if file != self.HOME and (names := private_names(file))}
        assert private == {}
        assert "torch._C" in private_names(self.HOME)

    def test_of_its_objects_are_looked_up_when_that_file_is_loaded(self) -> None:
        probed = {name for _, _, names in torch_compat.ATTRIBUTES for name in names}
        operators = {name for name in attributes_of_others(self.FILES) if hasattr(torch.ops.aten, name)}
        operators.add("_fused_rms_norm_backward")  # since PyTorch 2.9
        read = attributes_of_others([file for file in self.FILES if file != self.HOME])
        assert read - probed - operators - self.OF_PYTHON - self.OF_LIBRARIES == set()

    def test_that_a_version_lacks_are_named_in_one_line(self, monkeypatch: pytest.MonkeyPatch) -> None:
        attributes = (("a tensor", torch.Tensor, ("_no_such_attribute",)),)
        monkeypatch.setattr(torch_compat, "ATTRIBUTES", attributes)
        with pytest.raises(UnsupportedTorch, match=r"^torch \S+ is not supported: a tensor has no _no_such_attribute$"):
            torch_compat._probe()

    def test_that_are_gone_stop_the_analysis_by_name(self) -> None:
        code = """
import torch._C
del torch._C._dispatch_has_kernel
import graphflops
try:
    graphflops.analyze(torch.nn.Linear(2, 2), (torch.zeros(1, 2),))
except graphflops.GraphflopsError as error:
    print(error)
"""
        process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert re.fullmatch(r"torch \S+ is not supported: .*'_dispatch_has_kernel'\n", process.stdout)

    def test_of_a_checkpoint_are_never_taken_for_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        hook = torch.utils.checkpoint._checkpoint_hook

        class Renamed(hook):  # as a version would be whose hooks hold their frame in another way
            def __init__(self, record: object) -> None:
                super().__init__(record)
                self.pack_hook = types.FunctionType(renamed.__code__, {"__name__": hook.__module__})

        def renamed(tensor: object) -> object:
            return tensor

        monkeypatch.setattr(torch.utils.checkpoint, "_checkpoint_hook", Renamed)

        class Model(torch.nn.Linear):
            def forward(self, input: torch.Tensor) -> torch.Tensor:
                return torch.utils.checkpoint.checkpoint(super().forward, input, use_reentrant=False)

        with pytest.raises(UnsupportedTorch, match="a hook of a checkpoint, is not known"):
            graphflops.analyze(Model(2, 2), (torch.zeros(1, 2),))
