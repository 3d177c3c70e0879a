"""DOT: a parser of Graphviz's language reads the tree, with the numbers and names of the report."""

from collections import defaultdict
from pathlib import Path

import pytest
import torch
from hypothesis import given
from made_reports import FEW, reports
from torch import nn

from graphflops import Report, analyze
from graphflops.cli import main

pydot = pytest.importorskip("pydot", reason="pydot is not installed: it comes with the extra dev")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # pydot's use of pyparsing


def parsed(text: str) -> tuple[dict[str, dict[str, str]], list[tuple[str, str]]]:
    """Node → its attributes, and the edges."""
    (graph,) = pydot.graph_from_dot_data(text)
    nodes = {node.get_name(): node.get_attributes() for node in graph.get_nodes() if node.get_name() != "node"}
    return nodes, [(edge.get_source(), edge.get_destination()) for edge in graph.get_edges()]


@FEW
@given(reports())
def test_it_is_a_tree_whose_nodes_sum_to_the_report(report: Report) -> None:
    nodes, edges = parsed(report.to_dot())
    flops = {name: int(attributes["flops"].strip('"')) for name, attributes in nodes.items()}
    assert len(edges) == len(nodes) - 1
    below: dict[str, int] = defaultdict(int)
    for around, inner in edges:
        below[around] += flops[inner]
    assert flops["n0"] == report.total
    assert all(flops[name] == total for name, total in below.items())


def test_a_name_is_a_string_on_its_line() -> None:
    class Odd(nn.Module):
        def forward(self, x):
            return x + 1

    Odd.__name__ = Odd.__qualname__ = 'a"]; n9 -> n0 [label="\\N\n&lt;'
    nodes, _ = parsed(analyze(nn.Sequential(Odd()), (torch.ones(2),), training=False).to_dot())
    assert set(nodes) == {"n0", "n1"}
    assert nodes["n1"]["label"].startswith('"0 a\\"]; n9 -> n0 [label=\\"\\\\N\\\\n&amp;lt;\\n')


def test_the_darker_a_node_the_larger_its_share() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 24))
    nodes, _ = parsed(analyze(model, (torch.ones(1, 8),), training=False).to_dot())
    assert [node["fillcolor"] for node in nodes.values()] == ['"#08519c"', '"#467cb5"', '"#c1d4e6"']


def test_the_command_writes_it(tmp_path: Path) -> None:
    path = tmp_path / "modules.dot"
    assert main(["analyze", "torch.nn:GELU", "--input", "input=2x3", "--dot", str(path)]) == 0
    assert len(parsed(path.read_text(encoding="utf-8"))[0]) == 1
