"""Import this before torchvision, timm or transformers: beside a CPU build of torch they import only with it."""

from __future__ import annotations

from graphflops.integrations.torchvision_operators import import_torchvision

import_torchvision()
