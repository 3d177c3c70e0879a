"""The pytest plugin: the fixture ``cost`` and the marker ``budget``. PyTorch is imported when ``cost`` is called."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

import pytest

from graphflops.core.errors import BudgetExceeded, UsageError

if TYPE_CHECKING:
    from graphflops.report.budgets import Budget
    from graphflops.report.report import Report

MARKER = "budget"
_checked = pytest.StashKey[int]()
"""number of reports that a test has checked against its budget"""


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line(
        "markers",
        'budget(total="16.4 G", parameters="26 M", unknown=0, tolerance="2%"): limits for reports of the fixture cost',
    )


@pytest.fixture
def cost(request: pytest.FixtureRequest) -> Callable[..., Report]:
    """``graphflops.analyze``: counts a model without running it; the test fails if it is over the budget of its marker.

    ``cost(model, (x,), optimizer=None)`` takes the arguments of ``analyze`` and returns its Report.
    """
    budget = _budget_of(request.node)

    def count(*args: Any, **kwargs: Any) -> Report:
        from graphflops import analyze

        report = analyze(*args, **kwargs)
        if budget is not None:
            request.node.stash[_checked] = request.node.stash.get(_checked, 0) + 1
            try:
                budget.check(report)
            except BudgetExceeded as error:
                pytest.fail(f"over budget: {error}", pytrace=False)
        return report

    return count


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Fail a test that has a budget and counted nothing."""
    result = yield
    if _budget_of(item) is not None and not item.stash.get(_checked, 0):
        pytest.fail("the test has a budget and counts nothing: call the fixture cost(model, args)", pytrace=False)
    return result


def _budget_of(item: pytest.Item) -> Budget | None:
    """The budget of a test's nearest marker; None if it has no marker."""
    marker = item.get_closest_marker(MARKER)
    if marker is None:
        return None
    from graphflops.report.budgets import Budget

    try:
        if marker.args:
            raise UsageError('give limits by name, as in @pytest.mark.budget(total="16.4 G")')
        return Budget.of(**marker.kwargs)
    except UsageError as error:
        raise pytest.UsageError(f"{item.nodeid}: {error}") from error
