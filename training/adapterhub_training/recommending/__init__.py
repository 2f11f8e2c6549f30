"""Which adapters of a hub are likely to help with new data: vectors and weights are compared, no text leaves."""
