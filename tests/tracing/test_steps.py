"""A step as its user writes it: forward, backward and optimizer by what the engine and the optimizers really run.

The witness is what is dispatched when the step runs on real tensors, and the model alone, whose gradients are those of
the rules of its forward operators.
"""

import copy
import functools
import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from graphflops import CaptureError, Cost, Work, analyze, rule
from graphflops.analysis.mac_counter import MacCounterMode
from graphflops.models import ConfigurableResNetBK, ResNetBKConfig
from graphflops.report.report import Report
from graphflops.tracing.values import python_numbers

ROWS, A, B, C = 3, 4, 8, 6
X = torch.randn(ROWS, A)
Y = torch.randn(ROWS, C)


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(A, B), nn.GELU(), nn.Linear(B, C), nn.LayerNorm(C))


MLP = sum(parameter.numel() for parameter in mlp().parameters())


def critic() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(128, 1))


def macs(report: Report) -> dict[str, int]:
    """Phase → multiply-adds."""
    counts: dict[str, int] = {}
    for entry in report.entries:
        for phase, work in entry.work.items():
            counts[phase] = counts.get(phase, 0) + work.macs
    return {phase: count for phase, count in counts.items() if count}


def count_macs(step: Callable[..., Any], *args: Any) -> int:
    with MacCounterMode() as products:
        step(*args)
    return products.macs


def backward(report: Report) -> int:
    return macs(report).get("dgrad", 0) + macs(report).get("wgrad", 0)


class Loss(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return F.mse_loss(self.model(x), y)


class Trainer:
    """No module: an object that holds one."""

    def __init__(self) -> None:
        self.model = mlp()
        self.optimizer = torch.optim.AdamW(self.model.parameters())
        self.losses: list[torch.Tensor] = []

    def train_step(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        self.optimizer.zero_grad()
        loss = F.mse_loss(self.model(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.losses.append(loss.detach())
        return loss

    __call__ = train_step


class Lit(nn.Module):
    """A module that optimizes by hand, as Lightning's may."""

    def __init__(self) -> None:
        super().__init__()
        self.model = mlp()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), foreach=True)
        self.schedule = torch.optim.lr_scheduler.StepLR(self.optimizer, 1)

    def training_step(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        self.optimizer.zero_grad(set_to_none=False)
        loss = F.mse_loss(self.model(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0, foreach=True)
        self.optimizer.step()
        self.schedule.step()
        return loss

    forward = training_step


def si_exponent(trainer: Trainer) -> Callable[..., Any]:
    model, optimizer = trainer.model, trainer.optimizer

    def step(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        optimizer.zero_grad()
        loss = F.mse_loss(model(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.detach()

    return step


def of_arguments(model: nn.Module, optimizer: Any, x: torch.Tensor, y: torch.Tensor) -> None:
    optimizer.zero_grad()
    F.mse_loss(model(x), y).backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()


def partial() -> Callable[..., Any]:
    trainer = Trainer()
    return functools.partial(of_arguments, trainer.model, trainer.optimizer)


FORMS = {
    "function": lambda: si_exponent(Trainer()),
    "lambda": lambda: (lambda step: lambda x, y: step(x, y))(si_exponent(Trainer())),
    "partial": partial,
    "bound method": lambda: Trainer().train_step,
    "trainer": Trainer,
    "method of a module": lambda: Lit().training_step,
    "module": Lit,
}


@pytest.mark.parametrize("form", FORMS)
def test_a_step_costs_what_its_model_does_and_its_optimizer_apart(form: str) -> None:
    step = FORMS[form]()
    report = analyze(step, (X, Y))
    alone = analyze(Loss(mlp()), (X, Y), optimizer=None)
    for phase in ("forward", "dgrad", "wgrad"):
        assert report.work(phase) == alone.work(phase), phase
    assert report.optimizer > 0
    assert report.optimizer_name == "AdamW"
    assert not report.unknown
    assert sum(macs(report).values()) == count_macs(step, X, Y)


@pytest.mark.parametrize("form", FORMS)
def test_its_work_stands_under_the_modules_that_it_is_of(form: str) -> None:
    report = analyze(FORMS[form](), (X, Y))
    inner = next(path for path in report.modules if report.modules[path] == "Sequential")
    alone = analyze(Loss(mlp()), (X, Y), optimizer=None)
    for phase in ("forward", "backward"):
        for layer in "0123":
            assert report.by_module(phase)[f"{inner}.{layer}"] == alone.by_module(phase)[f"model.{layer}"]
    assert report.by_module("optimizer")[f"{inner}.0"] > report.by_module("optimizer")[f"{inner}.3"] > 0
    assert sum(report.by_component("total").values()) == report.total


def test_updates_are_what_the_optimizer_runs() -> None:
    model = nn.Linear(A, B)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)

    def step(x: torch.Tensor) -> None:
        model(x).sum().backward()
        optimizer.step()

    report = analyze(step, (X,))
    assert report.optimizer == 2 * (A * B + B) == analyze(model, (X,), optimizer="sgd").optimizer
    assert report.by_operator("optimizer")["add"] == report.optimizer


def test_adamw_in_a_step_is_the_operators_that_it_runs() -> None:
    model = nn.Linear(A, B)
    optimizer = torch.optim.AdamW(model.parameters())

    def step(x: torch.Tensor) -> None:
        model(x).sum().backward()
        optimizer.step()

    decay, mean, square, root, bias, epsilon, update = 1, 3, 1 + 3, 1, 1, 1, 3  # mul_, lerp_, mul_ and addcmul_, …
    per_element = decay + mean + square + root + bias + epsilon + update
    counted = 2  # each tensor has its own number of steps
    assert analyze(step, (X,)).optimizer == per_element * (A * B + B) + counted


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="since PyTorch 2.9")
def test_muon_in_a_step() -> None:
    model = nn.Linear(A, B, bias=False)
    optimizer = torch.optim.Muon(model.parameters())

    def step(x: torch.Tensor) -> None:
        model(x).sum().backward()
        optimizer.step()

    report = analyze(step, (X,))
    assert macs(report)["optimizer"] == count_macs(step, X) - 2 * ROWS * A * B
    assert report.optimizer == analyze(model, (X,), optimizer="Muon").optimizer


def test_an_update_by_hand_is_the_optimizers() -> None:
    model = nn.Linear(A, B, bias=False)

    def step(x: torch.Tensor) -> None:
        model(x).sum().backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= 0.1 * parameter.grad
                parameter.grad = None

    report = analyze(step, (X,))
    assert (report.optimizer, report.optimizer_name) == (2 * A * B, "as written")


class TestSeveral:
    def test_a_gan_with_two_optimizers(self) -> None:
        maker, judge = nn.Sequential(nn.Linear(5, 192), nn.Unflatten(1, (3, 8, 8)), nn.Tanh()), critic()
        of_maker = torch.optim.Adam(maker.parameters(), fused=True)
        of_judge = torch.optim.RMSprop(judge.parameters(), foreach=True)

        def step(noise: torch.Tensor, real: torch.Tensor) -> dict[str, torch.Tensor]:
            fake = maker(noise)
            of_judge.zero_grad()
            wrong = F.softplus(-judge(real)).mean() + F.softplus(judge(fake.detach())).mean()
            wrong.backward()
            of_judge.step()
            of_maker.zero_grad()
            maker_loss = F.softplus(-judge(fake)).mean()
            maker_loss.backward()
            of_maker.step()
            return {"judge": wrong, "maker": maker_loss}

        args = torch.randn(ROWS, 5), torch.randn(ROWS, 3, 8, 8)
        report = analyze(step, args)
        conv, head, generated = ROWS * 8 * 16 * 27, ROWS * 128, ROWS * 5 * 192
        assert macs(report) == {
            "forward": 3 * (conv + head) + generated,
            "dgrad": 3 * head + conv,  # to what the convolution made; and in the maker's turn to the image
            "wgrad": 3 * (conv + head) + generated,
        }
        assert sum(macs(report).values()) == count_macs(step, *args)
        assert report.optimizer_name == "RMSprop + Adam"
        assert report.by_component("optimizer")["maker"] > 0 < report.by_component("optimizer")["judge"]

    def test_a_gradient_penalty(self) -> None:
        judge = critic()
        optimizer = torch.optim.Adam(judge.parameters())

        def step(real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
            mixed = (0.3 * real + 0.7 * fake).requires_grad_()
            (slope,) = torch.autograd.grad(judge(mixed).sum(), mixed, create_graph=True)
            penalty = ((slope.flatten(1).norm(2, dim=1) - 1) ** 2).mean()
            loss = judge(fake).mean() - judge(real).mean() + 10 * penalty
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss

        args = torch.randn(ROWS, 3, 8, 8), torch.randn(ROWS, 3, 8, 8)
        report = analyze(step, args)
        assert macs(report)["forward"] == 3 * (ROWS * 8 * 16 * 27 + ROWS * 128), "gradients in it are backward"
        assert sum(macs(report).values()) == count_macs(step, *args)
        assert not report.unknown

    @pytest.mark.parametrize("second_order", [True, False])
    def test_an_inner_loop(self, second_order: bool) -> None:
        model = nn.Sequential(nn.Linear(A, B), nn.Tanh(), nn.Linear(B, C))
        optimizer = torch.optim.SGD(model.parameters(), 0.1)

        def step(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            weights = dict(model.named_parameters())
            for _ in range(2):
                loss = F.mse_loss(torch.func.functional_call(model, weights, (x,)), y)
                slopes = torch.autograd.grad(loss, list(weights.values()), create_graph=second_order)
                weights = {
                    name: value - 0.1 * slope for (name, value), slope in zip(weights.items(), slopes, strict=True)
                }
            outer = F.mse_loss(torch.func.functional_call(model, weights, (x,)), y)
            optimizer.zero_grad()
            outer.backward()
            optimizer.step()
            return outer

        report = analyze(step, (X, Y))
        assert macs(report)["forward"] == 3 * ROWS * (A * B + B * C)
        assert sum(macs(report).values()) == count_macs(step, X, Y)
        assert not report.unknown

    def test_gradients_that_are_accumulated(self) -> None:
        model = mlp()
        optimizer = torch.optim.SGD(model.parameters(), 0.1)

        def step(*batches: torch.Tensor) -> float:
            total = 0.0
            for batch in batches:
                loss = model(batch).pow(2).mean() / len(batches)
                loss.backward()
                total += loss.item()
            optimizer.step()
            optimizer.zero_grad()
            return total

        report, three = analyze(step, (X,)), analyze(step, (X, X, X))
        assert macs(three) == {phase: 3 * count for phase, count in macs(report).items()}
        assert three.optimizer == report.optimizer
        parameters = A * B + B + B * C + C + 2 * C
        extra = three.work("wgrad").accumulate - 3 * report.work("wgrad").accumulate
        assert extra == 2 * parameters, "what comes later is added to what is there"

    def test_a_graph_that_is_kept_and_gone_through_twice(self) -> None:
        model = mlp()

        def step(x: torch.Tensor) -> None:
            result = model(x)
            result.sum().backward(retain_graph=True)
            result.pow(2).sum().backward()

        once = analyze(lambda x: model(x).sum().backward(), (X,))
        twice = analyze(step, (X,))
        assert backward(twice) == 2 * backward(once)
        assert twice.optimizer == 0, "no optimizer steps"

    def test_a_closure_is_not_the_optimizers(self) -> None:
        model = mlp()
        optimizer = torch.optim.SGD(model.parameters(), 0.1)

        def step(x: torch.Tensor) -> Any:
            def closure() -> torch.Tensor:
                optimizer.zero_grad()
                loss = model(x).pow(2).sum()
                loss.backward()
                return loss

            return optimizer.step(closure)

        report = analyze(step, (X,))
        assert macs(report)["forward"] == ROWS * (A * B + B * C)
        assert report.optimizer == 2 * (A * B + B + B * C + C + 2 * C)


class TestGradientsThatAreAskedFor:
    def test_in_a_step_they_are_backward(self) -> None:
        model = mlp()
        optimizer = torch.optim.SGD(model.parameters(), 0.1)

        def step(x: torch.Tensor) -> None:
            parameters = list(model.parameters())
            for parameter, slope in zip(parameters, torch.autograd.grad(model(x).sum(), parameters), strict=True):
                parameter.grad = slope
            optimizer.step()

        assert macs(analyze(step, (X,))) == macs(analyze(lambda x: model(x).sum().backward(), (X,)))

    def test_in_a_model_they_are_part_of_its_forward(self) -> None:
        model = mlp()

        def saliency(x: torch.Tensor) -> torch.Tensor:
            x = x.detach().requires_grad_()
            return torch.autograd.grad(model(x).sum(), x)[0]

        report = analyze(saliency, (X,), training=True)
        assert macs(report) == {"forward": count_macs(saliency, X)}


class TestWhatIsTrainedAfterwards:
    def test_a_loss_that_was_gone_back_from_is_not_again(self) -> None:
        model = mlp()

        def step(x: torch.Tensor) -> torch.Tensor:
            loss = model(x).sum()
            loss.backward()
            return loss

        assert backward(analyze(step, (X,))) == backward(analyze(lambda x: model(x).sum(), (X,)))

    def test_other_results_of_a_step_are_not_trained(self) -> None:
        trainer = Trainer()

        def step(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            trainer.train_step(x, y)
            return trainer.model(x)

        once = analyze(trainer.train_step, (X, Y))
        assert backward(analyze(step, (X, Y))) == backward(once)


class TestCheckpoints:
    @pytest.mark.parametrize("reentrant", [True, False])
    def test_recomputation_of_checkpoints_is_recompute(self, reentrant: bool) -> None:
        layers = nn.Sequential(*[nn.TransformerEncoderLayer(8, 2, 16, batch_first=True) for _ in range(2)])
        optimizer = torch.optim.SGD(layers.parameters(), 0.1)

        def step(x: torch.Tensor) -> None:
            x = x.clone().requires_grad_()
            for layer in layers:
                x = checkpoint(layer, x, use_reentrant=reentrant)
            x.sum().backward()
            optimizer.step()

        x = torch.randn(2, 5, 8)
        report = analyze(step, (x,))
        assert macs(report)["recompute"] > 0
        assert sum(macs(report).values()) == count_macs(step, x)


READ: dict[str, Callable[[torch.Tensor, torch.Tensor], Any]] = {
    "float": lambda loss, out: float(loss),
    "item": lambda loss, out: loss.item(),
    "json": lambda loss, out: json.dumps({"loss": loss.item()}),
    "printf": lambda loss, out: "%.4f" % loss.item(),  # noqa: UP031
    "format": lambda loss, out: f"{loss.detach():.4f}",
    "perplexity": lambda loss, out: math.exp(float(loss)),
    "bounded": lambda loss, out: max(loss.item(), 1.0),
    "the best so far": lambda loss, out: loss.item() < 0.1,
    "numpy": lambda loss, out: out.detach().cpu().numpy().mean(),
    "list": lambda loss, out: out.detach().tolist(),
    "classes in numpy": lambda loss, out: out.argmax(1).cpu().numpy(),
    "hits in numpy": lambda loss, out: (out.argmax(1) == torch.zeros(ROWS)).numpy().mean(),
    "a class": lambda loss, out: int(out.argmax(1)[0]),
}


class TestWhatAStepLogs:
    """Its loss and its outputs are read as numbers, which no product depends on."""

    @staticmethod
    def step(read: Callable[[torch.Tensor, torch.Tensor], Any], *, first: bool) -> Callable[..., Any]:
        model = mlp()
        optimizer = torch.optim.SGD(model.parameters())

        def step(x: torch.Tensor, y: torch.Tensor) -> Any:
            optimizer.zero_grad()
            out = model(x)
            loss = F.mse_loss(out, y)
            message = read(loss, out) if first else None
            loss.backward()
            optimizer.step()
            return message if first else read(loss, out)

        return step

    @pytest.mark.parametrize("first", [False, True], ids=["at the end", "before backward"])
    @pytest.mark.parametrize("read", READ.values(), ids=READ)
    def test_is_what_runs_all_the_same(self, read: Any, first: bool) -> None:
        step = self.step(read, first=first)
        report = analyze(step, (X, Y), strict=True)
        assert sum(macs(report).values()) == count_macs(step, X, Y)

    def test_the_report_says_where(self) -> None:
        report = analyze(self.step(READ["float"], first=False), (X, Y))
        assert any("test_steps.py" in assumption and "½ assumed" in assumption for assumption in report.assumptions)


def by_value(norm: torch.Tensor, bound: float) -> bool:
    return bool(norm > bound)


class TestWhatAStepDecides:
    """A branch on a number that data decides: it is taken as False, and said."""

    def test_clipping_by_hand(self) -> None:
        model = mlp()
        optimizer = torch.optim.SGD(model.parameters())

        def step(x: torch.Tensor, y: torch.Tensor) -> None:
            optimizer.zero_grad()
            F.mse_loss(model(x), y).backward()
            for parameter in model.parameters():
                assert parameter.grad is not None
                if by_value(parameter.grad.norm(), 1e9):
                    parameter.grad.mul_(0.5)
            optimizer.step()

        report = analyze(step, (X, Y), strict=True)
        assert sum(macs(report).values()) == count_macs(step, X, Y)
        assert any("took the False branch" in assumption for assumption in report.assumptions)

    def test_a_loop_that_waits_for_it_ends_in_words(self) -> None:
        model = mlp()
        optimizer = torch.optim.SGD(model.parameters())

        def step(x: torch.Tensor, y: torch.Tensor) -> None:
            while not by_value(F.mse_loss(model(x), y), 0.0):
                optimizer.zero_grad()

        with (
            patch.object(python_numbers, "MAX_ASSUMED_READS", 20),
            pytest.raises(CaptureError, match="data-dependent control flow"),
        ):
            analyze(step, (X, Y))


class TestEvaluation:
    """A function that runs a model and reads what comes of it, without an optimizer."""

    def test_a_loop_over_batches(self) -> None:
        model = mlp().eval()
        batches = [(torch.randn(ROWS, A), torch.randint(0, C, (ROWS,))) for _ in range(2)]

        def evaluate() -> str:
            loss, hits = 0.0, 0
            with torch.no_grad():
                for x, y in batches:
                    out = model(x)
                    loss += F.cross_entropy(out, y).item()
                    hits += (out.argmax(1) == y).sum().item()
            return "%.3f %.1f%% %s" % (loss / 2, 100.0 * hits / 6, loss < 1.0)  # noqa: UP031

        report = analyze(evaluate, (), strict=True, training=False)
        assert sum(macs(report).values()) == count_macs(evaluate) == 2 * ROWS * (A * B + B * C)
        assert any("½ assumed" in assumption for assumption in report.assumptions)

    def test_in_the_forward_of_a_module_a_number_is_still_refused(self) -> None:
        class Decides(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.layer = nn.Linear(A, A)

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return x * float(self.layer(x).mean())

        with pytest.raises(CaptureError):
            analyze(lambda x: model(x), (X,)) if (model := Decides()) else None


class TestCheckpointFiles:
    """A step that saves its model: a file of tensors without data would take the place of the user's own."""

    def test_are_not_written(self, tmp_path: Path) -> None:
        model, file = mlp(), tmp_path / "model.pt"
        optimizer = torch.optim.SGD(model.parameters())
        torch.save(model.state_dict(), file)
        before = file.read_bytes()

        def step(x: torch.Tensor, y: torch.Tensor) -> None:
            F.mse_loss(model(x), y).backward()
            optimizer.step()
            torch.save(model.state_dict(), file)

        report = analyze(step, (X, Y), strict=True)
        assert file.read_bytes() == before
        assert any("torch.save writes no file" in assumption for assumption in report.assumptions)

    def test_to_memory_is(self) -> None:
        def model(x: torch.Tensor) -> torch.Tensor:
            memory = io.BytesIO()
            torch.save({"scale": 2.0}, memory)
            memory.seek(0)
            return x * torch.load(memory)["scale"]

        assert analyze(model, (X,), strict=True).work("forward").elementwise == ROWS * A


class TestDeepCopies:
    """Of the best model so far, of a target that follows, or of a model that is trained for itself."""

    def test_of_a_state(self) -> None:
        model, best = mlp(), []
        optimizer = torch.optim.SGD(model.parameters())

        def step(x: torch.Tensor, y: torch.Tensor) -> None:
            loss = F.mse_loss(model(x), y)
            loss.backward()
            optimizer.step()
            if loss.item() < 1.0:
                best.append(copy.deepcopy(model.state_dict()))

        report = analyze(step, (X, Y), strict=True)
        assert sum(macs(report).values()) == count_macs(step, X, Y)

    def test_of_a_model_that_is_trained(self) -> None:
        model = mlp()

        def step(x: torch.Tensor, y: torch.Tensor) -> nn.Module:
            F.mse_loss(model(x), y).backward()
            own = copy.deepcopy(model)
            assert all(isinstance(parameter, nn.Parameter) and parameter.grad is None for parameter in own.parameters())
            optimizer = torch.optim.SGD(own.parameters())
            F.mse_loss(own(x), y).backward()
            optimizer.step()
            return own

        report = analyze(step, (X, Y), strict=True)
        assert sum(macs(report).values()) == count_macs(step, X, Y)

    def test_of_a_result_is_refused_as_pytorch_does(self) -> None:
        with pytest.raises(CaptureError, match="deepcopy"):
            analyze(lambda x: copy.deepcopy(LAYER(x)), (X,))


LAYER = nn.Linear(A, A)


class TestPolicies:
    """An action is drawn by the chances that a policy gives it, and the environment is handed a number."""

    def test_an_action_is_drawn_and_read(self) -> None:
        policy = nn.Sequential(nn.Linear(A, B), nn.ReLU(), nn.Linear(B, C))
        optimizer = torch.optim.SGD(policy.parameters())

        def step(states: torch.Tensor) -> list[int]:
            actions, losses = [], []
            for state in states:
                chances = torch.distributions.Categorical(logits=policy(state))
                action = chances.sample()  # type: ignore[no-untyped-call]
                losses.append(-chances.log_prob(action))  # type: ignore[no-untyped-call]
                actions.append(action.item())
            returns = torch.tensor([torch.tensor(1.0) * i for i in range(ROWS)])
            (torch.stack(losses) * returns).sum().backward()
            optimizer.step()
            return actions

        report = analyze(step, (X,), strict=True)
        assert sum(macs(report).values()) == count_macs(step, X)


class TestScaledLosses:
    """A loss is scaled so that small gradients are not lost: the scaler skips a step whose gradients are not finite."""

    @staticmethod
    def step(scaler: torch.amp.GradScaler, *, clips: bool) -> Callable[..., Any]:
        model = mlp()
        optimizer = torch.optim.SGD(model.parameters())

        def step(x: torch.Tensor, y: torch.Tensor) -> None:
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = F.mse_loss(model(x), y)
            scaler.scale(loss).backward()
            if clips:
                scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            scaler.step(optimizer)
            scaler.update()

        return step

    @pytest.mark.parametrize("clips", [False, True])
    def test_the_step_is_taken(self, clips: bool) -> None:
        scaler = torch.amp.GradScaler("cpu")
        step = self.step(scaler, clips=clips)
        report = analyze(step, (X, Y), strict=True)
        assert any("assumed finite" in assumption for assumption in report.assumptions)
        assert sum(macs(report).values()) == count_macs(step, X, Y)
        without = analyze(self.step(torch.amp.GradScaler("cpu", enabled=False), clips=clips), (X, Y), strict=True)
        assert macs(report) == macs(without)
        unscaled = [entry for entry in report.entries if "non_finite_check" in entry.target]
        assert sum(entry.work["optimizer"].elementwise for entry in unscaled) == 2 * MLP

    def test_the_scaler_is_what_it_was(self) -> None:
        scaler = torch.amp.GradScaler("cpu")
        analyze(self.step(scaler, clips=True), (X, Y))
        assert scaler.state_dict() == torch.amp.GradScaler("cpu").state_dict()


def test_lbfgs_is_refused_in_words() -> None:
    model = mlp()
    optimizer = torch.optim.LBFGS(model.parameters())

    def step(x: torch.Tensor) -> Any:
        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            loss = model(x).pow(2).sum()
            loss.backward()
            return loss

        return optimizer.step(closure)

    with pytest.raises(CaptureError, match="LBFGS calls its closure as often as the values of gradients require"):
        analyze(step, (X,))


def test_optimizer_that_the_step_makes() -> None:
    model = mlp()

    def step(x: torch.Tensor) -> None:
        optimizer = torch.optim.Adagrad(model.parameters())
        model(x).sum().backward()
        optimizer.step()

    report = analyze(step, (X,))
    assert report.optimizer_name == "Adagrad"
    assert report.optimizer == analyze(model, (X,), optimizer="Adagrad").optimizer


def test_a_report_of_a_step_is_saved_and_shown(tmp_path: Any) -> None:
    report = analyze(si_exponent(Trainer()), (X, Y))
    read = Report.from_json(report.to_json(tmp_path / "step.json"))
    assert [read.flops(phase) for phase in ("forward", "backward", "optimizer")] == [
        report.forward,
        report.backward,
        report.optimizer,
    ]
    assert "aten.mm" in report.explain("model.0")


def test_operators_on_lists_are_seen_one_by_one() -> None:
    model = mlp()

    def step(x: torch.Tensor) -> None:
        model(x).sum().backward()
        parameters = list(model.parameters())
        with torch.no_grad():
            slopes = torch._foreach_mul([parameter.grad for parameter in parameters], 0.5)
            torch._foreach_addcmul_(parameters, slopes, slopes, value=-0.1)

    report = analyze(step, (X,))
    assert not report.unknown
    assert report.optimizer == (1 + 3) * (A * B + B + B * C + C + 2 * C)


class TestCallsThatRulesSpeakOf:
    def test_the_bundled_model_goes_back_as_without_a_step(self) -> None:
        model = ConfigurableResNetBK(ResNetBKConfig(vocab_size=20, d_model=8, n_layers=2, n_seq=8))
        optimizer = torch.optim.SGD(model.parameters(), 0.1)

        def loss(tokens: torch.Tensor) -> torch.Tensor:
            return model(tokens).float().sum()

        def step(tokens: torch.Tensor) -> None:
            loss(tokens).backward()
            optimizer.step()

        tokens = (torch.randint(0, 20, (2, 8)),)
        own, alone = analyze(step, tokens), analyze(loss, tokens)
        assert [own.flops(phase) for phase in ("forward", "dgrad", "wgrad")] == [
            alone.flops(phase) for phase in ("forward", "dgrad", "wgrad")
        ]
        assert own.by_module("backward") == alone.by_module("backward")

    def test_a_rule_of_a_function_wins_over_its_backward(self) -> None:
        model, twice = nn.Linear(A, B), Twice

        @rule(twice)
        def ruled(x):
            """Five, and seven on the way back."""
            return Cost(Work(elementwise=5), grads={"x": Work(elementwise=7)})

        def step(x: torch.Tensor) -> None:
            twice.apply(model(x)).sum().backward()

        by_rule, by_code = analyze(step, (X,), rules=[ruled]), analyze(step, (X,))
        assert by_rule.by_operator("backward")["Twice"] == 7
        assert by_code.by_operator("backward")["mul"] == ROWS * B
        assert backward(by_rule) == backward(by_code) == ROWS * A * B

    def test_no_gradients_of_gradients_through_what_does_not_run(self) -> None:
        @rule(Opaque, outputs=lambda x: x)
        def ruled(x):
            """Free."""
            return Cost(grads={"x": Work()})

        model = nn.Sequential(nn.Linear(A, B), Opaque())

        def step(x: torch.Tensor) -> None:
            x = x.clone().requires_grad_()
            (slope,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
            slope.sum().backward()

        with pytest.raises(CaptureError, match="Opaque is not run"):
            analyze(step, (X,), rules=[ruled])


class Twice(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, gradient):
        return 2 * gradient


class Opaque(nn.Module):
    def forward(self, x):
        raise NotImplementedError
