"""Capture: a model and its inputs become a torch.fx graph of operators, on fake tensors. Nothing is executed.

The model's own Python runs, on a copy, with fake tensors, which have shape and dtype and no data. A call is
intercepted in one of three ways (``interception``), and is a leaf wherever a rule names it:

    calls of modules              classes of modules; and the module path of everything else
    autograd.Function.apply       custom functions; one without a rule is recorded as its own forward and backward
    functions and operators       composite operators (linear, attention), else the ATen operators that they run

    attempts      the ways to a graph: folded, with every block, exported       trace()
    tracer        which calls are leaves                                         Tracer
    writer        writes nodes, each with a NodeRecord                           GraphWriter
    isolation     a thread of its own; nothing that the user holds is written to
"""
