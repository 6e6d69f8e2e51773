"""The catalogue of systems, as data, and the one function that builds them."""
