"""Requests in, steps and pictures out."""
