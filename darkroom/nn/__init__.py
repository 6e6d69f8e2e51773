"""Bricks that know nothing of diffusion."""
