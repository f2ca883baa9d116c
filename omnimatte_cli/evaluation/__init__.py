"""Scores against scenes with true layers."""
