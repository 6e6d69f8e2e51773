"""Embedders: each turns one kind of input into one of the three slots of a `Conditioning`."""
