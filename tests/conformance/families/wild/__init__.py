"""The wild: models of public packages that nobody here wrote, unmodified, as small as they can be configured.

`make wild` installs the packages of the extra `wild` beside the environment, without what they ask for in turn, and
runs this family. Each file is a kind of model; each maker imports its package when it is called.
"""

from __future__ import annotations

from zoo import Entry

from families.wild import attention, audio, diffusion, flows, graphs, language, reinforcement, science, spikes, vision  # noqa: F401
from families.wild.table import ENTRIES


def entries() -> list[Entry]:
    return ENTRIES
