"""Darkroom trains, distils, evaluates, runs and serves latent diffusion models."""

__version__ = "0.1.0"
