"""How each task begins and is guided."""
