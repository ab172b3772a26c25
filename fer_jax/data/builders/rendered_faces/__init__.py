"""Procedurally drawn faces."""
