"""Large matrices of cases: ``make test`` runs some of them, and ``make test-all`` all."""

from collections import Counter

import pytest


@pytest.hookimpl(tryfirst=True)  # before pytest deselects what is slow
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as slow all cases but each n-th of a test that is marked ``sampled(n)``."""
    cases: Counter[str] = Counter()
    for item in items:
        if (marker := item.get_closest_marker("sampled")) is not None:
            test = item.nodeid.partition("[")[0]
            if cases[test] % marker.args[0]:
                item.add_marker(pytest.mark.slow)
            cases[test] += 1
