"""Values of tensors: known, assumed, or such that only data can tell."""
