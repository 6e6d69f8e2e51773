"""The server: jobs that survive, one engine for all of them, and three HTTP shapes to ask for pictures in."""
