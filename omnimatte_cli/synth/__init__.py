"""Rendered scenes with true layers."""
