"""rules stub: what it writes loads as it is, leaves the call unknown, and prices it once it is filled in."""

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from graphflops import analyze
from graphflops.cli import main
from graphflops.integrations.factories import load_object
from graphflops.rules.stubs import stub


class Scan(nn.Module):
    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.decay = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor, state: Tensor | None = None, chunk: int = 2) -> Tensor:
        return x.cumsum(-2) * self.decay


class NeedsArguments(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.decay = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.decay


class Twice(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        return 2 * grad


@torch.library.custom_op("authoring::halve", mutates_args=())
def halve(x: Tensor, mask: Tensor | None = None, times: int = 1) -> Tensor:
    return x / 2


halve.register_fake(lambda x, mask=None, times=1: torch.empty_like(x))
halve.register_autograd(lambda ctx, grad: (grad / 2, None, None))

X = torch.zeros(3, 4, requires_grad=True)
TARGETS = {
    "Scan": Scan(),
    "NeedsArguments": NeedsArguments(4),
    "Twice": Twice.apply,
    "halve": halve,
}


@pytest.mark.parametrize("name", TARGETS)
def test_it_runs_as_it_is_and_the_call_stays_unknown(name: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    assert main(["rules", "stub", f"{__name__}:{name}", "-o", str(file)]) == 0
    report = analyze(TARGETS[name], (X,), rules=[file])
    (unknown,) = report.unknown
    assert "not filled in" in unknown.why


@pytest.mark.parametrize("name", TARGETS)
def test_filled_in_with_its_own_proposal_it_prices_the_call(name: str, tmp_path: Path) -> None:
    before, _, after = stub(load_object(f"{__name__}:{name}")).partition("    # return Cost(")
    body = f"    # return Cost({after}".replace("    # ", "    ").replace("elementwise=…", "elementwise=12")
    head = before[: before.index("    raise NotSupported")]
    file = tmp_path / "mine.py"
    text = (head + body).replace("mask.numel", "0").replace("state.numel", "0")
    file.write_text(text.replace('"decay": Work()', '"decay": Work(), "weight": Work()'))
    report = analyze(TARGETS[name], (X,), rules=[file])
    if name == "NeedsArguments":
        assert "gives no gradient of decay" in report.unknown[0].why, "its parameters show only once it is made"
    else:
        assert not report.unknown
    assert (report.forward, report.dgrad) == (12, X.numel())


def test_operands_come_from_forward_and_parameters_from_the_module() -> None:
    text = stub(Scan)
    assert "def scan(x: Spec, state: Spec | None = None, chunk: Any = None, decay: Spec | None = None, out: Any" in text
    assert '"decay": Work(),' in text


def test_it_overwrites_nothing_by_default(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.py"
    file.write_text("precious")
    command = ["rules", "stub", f"{__name__}:Scan", "-o", str(file)]
    assert main(command) == 1
    assert "mine.py exists" in capsys.readouterr().err
    assert file.read_text() == "precious"
    assert main([*command, "--force"]) == 0
    assert "@rule" in file.read_text()
    assert [file.name for file in tmp_path.iterdir()] == ["mine.py"]


def test_without_a_file_it_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rules", "stub", "torch.nn:Linear"]) == 0
    assert capsys.readouterr().out == stub(nn.Linear)


@pytest.mark.parametrize(("target", "says"), [("torch.nn:Linaer", "did you mean Linear"), ("sys:path", "list")])
def test_what_cannot_have_a_rule_is_said(target: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rules", "stub", target]) == 1
    assert says in capsys.readouterr().err
    assert "sys" in sys.modules
