"""What is asked for: checks, plans, grids, interpolation, and the records of it that pictures carry."""
