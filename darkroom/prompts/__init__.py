"""Prompts: A1111's grammar, what they say at each step, and weighted words as conditioning."""
