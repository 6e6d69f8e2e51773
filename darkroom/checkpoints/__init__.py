"""Bytes ↔ state dict ↔ system. The only package that knows foreign names, and where untrusted files come in."""
