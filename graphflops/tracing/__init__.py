"""Stage 1, trace: model and inputs to a torch.fx graph of operators, on fake tensors. No arithmetic is done.

The model's Python runs on fake tensors, which have shape and dtype and no data. Three watchers look on
(``watching``), and what a rule names is a leaf for each of them:

    nn.Module.__call__          module classes, and whose work it is: the module path
    autograd.Function.apply     custom backward: always a leaf, its body is not what autograd differentiates
    functions and operators     composite ones with a rule (linear, attention), else the ATen operators they run

So Python that depends on shapes works, and Python that depends on data is refused with the user's own line. The model
lends its place to stand-ins for the time of the trace (``lending``) and is given back as it was.
"""

from graphflops.tracing.stand_ins import spec_of
from graphflops.tracing.tracer import Trace, trace

__all__ = ["Trace", "spec_of", "trace"]
