"""Blind studies: people, or a network in their place, say which of two pictures is better, and what that proves."""
