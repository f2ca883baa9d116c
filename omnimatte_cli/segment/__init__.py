"""Rough masks where the user has none: what moves, what SAM sees, and what is carried along."""
