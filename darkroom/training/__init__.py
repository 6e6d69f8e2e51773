"""One loop, one file per objective."""
