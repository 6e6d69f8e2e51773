"""Darkroom trains, distils, evaluates, runs and serves latent diffusion models."""

import os

__version__ = "0.1.0"

# Both are read when PyTorch starts; docs/performance.md has what they are worth. Large feature maps in huge pages cost
# a fraction of the page faults, and threads that wait for others sleep instead of keeping them from the processor.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
