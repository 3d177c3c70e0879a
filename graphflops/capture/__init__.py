"""Stage 1, trace: model and inputs to a torch.fx graph of operators, on fake tensors. No arithmetic is done.

The model's Python runs on fake tensors, which have shape and dtype and no data. Three watchers look on
(``watching``), and what a rule names is a leaf for each of them:

    copies of modules           module classes, and whose work it is: the module path
    autograd.Function.apply     custom backward: always a leaf, its body is not what autograd differentiates
    functions and operators     composite ones with a rule (linear, attention), else the ATen operators they run

So Python that depends on shapes works, and Python that depends on data is refused with the user's own line. A copy of
the model runs (``copying``), in a thread of its own (``isolation``): the user's own is only read.
"""

from graphflops.capture.layouts import spec_of
from graphflops.capture.tracer import Trace, trace

__all__ = ["Trace", "spec_of", "trace"]
