"""Claims of the papers in miniature: each by its protocol, with a table beside the paper's and a verdict."""
