"""From a residual and its owners to layers."""
