"""The options that several commands have, each with its help text."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from graphflops.core.errors import UsageError
from graphflops.core.messages import shortened
from graphflops.report.terminal import say

if TYPE_CHECKING:
    from graphflops.report.report import Report
    from graphflops.report.table import TableOptions

MODEL_HELP = "hf:NAME, timm:NAME, torchvision:NAME, FILE.py:FACTORY, MODULE:FACTORY or FILE.pt2"
CONFIG_HELP = "configuration of ResNet-BK: a preset, FIELD=VALUE, or both, separated by commas"
EXPLAIN_HELP = "explain the numbers of this module path, component or op, or of a pattern: 'layer1.*'"

Target = Annotated[str | None, typer.Argument(help=f"{MODEL_HELP}; default: ResNet-BK", show_default=False)]
Inputs = Annotated[
    list[str] | None, typer.Option("--input", "-i", help="NAME=SIZExSIZE:DTYPE, or NAME:=VALUE; repeatable")
]
Batch = Annotated[int | None, typer.Option("--batch", "-b", min=1, help="leading size of every input")]
Seq = Annotated[int | None, typer.Option(min=1, help="tokens of a text that is made up, and of ResNet-BK")]
Image = Annotated[str | None, typer.Option(help="size of an image that is made up: 224, or HEIGHTxWIDTH")]
Config = Annotated[str | None, typer.Option(help=CONFIG_HELP)]
Optimizer = Annotated[
    str, typer.Option(help="adamw, adam, sgd, sgd_momentum, a class of torch.optim, PACKAGE.CLASS, or none")
]
Inference = Annotated[bool, typer.Option("--inference", help="forward pass only: no backward, no optimizer")]
Convention = Annotated[str, typer.Option(help="standard, exact, torch, fvcore, …, or a file.toml")]
Attention = Annotated[str, typer.Option(help="attention backward: flash (recompute) or math")]
Rules = Annotated[list[Path] | None, typer.Option(help="file or folder with rules of your own; repeatable")]
Rate = Annotated[
    list[str] | None,
    typer.Option(
        help="how often data-dependent modules run: '*.experts.*=top_k/num_experts', 'blocks.3=0.3..0.8'; repeatable"
    ),
]
FailOver = Annotated[
    str | None, typer.Option(help="exit with code 3 if the total grew by more than this: 2%", metavar="SHARE")
]
Json = Annotated[Path | None, typer.Option(help="write the result to this JSON file")]
Csv = Annotated[Path | None, typer.Option(help="write a row for each module to this CSV file")]
Picture = Annotated[Path | None, typer.Option(help="draw the modules into this .svg, .png or .pdf file")]
Html = Annotated[Path | None, typer.Option(help="write a page for a browser to this HTML file")]
Markdown = Annotated[Path | None, typer.Option(help="write tables for a pull request to this Markdown file")]
Dot = Annotated[Path | None, typer.Option(help="write the tree of modules for Graphviz to this DOT file")]
Trace = Annotated[Path | None, typer.Option(help="write a timeline for Perfetto or chrome://tracing to this file")]

Depth = Annotated[int | None, typer.Option(min=0, help="levels of modules in the table; default: as many as fit")]
Top = Annotated[int | None, typer.Option(min=1, help="rows of each module; the others are summed in one")]
MinShare = Annotated[str | None, typer.Option("--min", help="sum rows with a smaller share in one: 1%")]
Sort = Annotated[str, typer.Option(help="cost, or order: as in the model")]
Phase = Annotated[str, typer.Option(help="show and sort by this phase: forward, backward, dgrad, optimizer, …")]
Columns = Annotated[
    str | None, typer.Option(help="columns of the table, separated by commas: output,parameters,forward,share, …")
]
By = Annotated[str, typer.Option(help="rows of the table: module, operator, or role (attention, MLP, norm, …)")]


def table_options(
    depth: int | None, top: int | None, min_share: str | None, sort: str, phase: str, columns: str | None, by: str
) -> "TableOptions":
    """The options of the table as it takes them.

    Raises:
        UsageError: an option has a value that is not accepted.
    """
    from graphflops.report.table import TableOptions

    names = None if columns is None else tuple(name.strip() for name in columns.split(","))
    return TableOptions(depth, top, _share(min_share), sort, phase, names, by)  # type: ignore[arg-type]


def _share(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        number = float(text.removesuffix("%"))
    except ValueError:
        raise UsageError(f"--min is {shortened(text, 100)!r}: pass a share such as 1% or 0.01") from None
    return number / 100 if text.endswith("%") else number


def optimizer_or_none(name: str) -> str | None:
    """The value of ``--optimizer`` as ``analyze`` takes it."""
    return None if name == "none" else name


def write_files(report: "Report", **paths: Path | None) -> None:
    """Write a report to the files that are given, each in the format of its keyword, and print their paths."""
    for name, path in paths.items():
        if path is not None:
            say(f"report     {getattr(report, f'to_{name}')(path)}")


def is_saved_report(target: str) -> bool:
    """Whether a target is a file of ``analyze --json``, and not a configuration of a model, ``hf:config.json``."""
    return target.endswith(".json") and not target.startswith(("hf:", "diffusers:"))
