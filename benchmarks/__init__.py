"""This project beside its peers: the same random weights, the same work, in turns. `python -m benchmarks --help`."""
