"""Pixels in and out: reading any picture, writing with records inside, labels, grids."""
