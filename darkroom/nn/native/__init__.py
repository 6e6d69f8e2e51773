"""Kernels in C for what PyTorch does slowly on some processors. Everything works without them."""
