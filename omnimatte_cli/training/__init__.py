"""Synthetic scenes with known layers, and pretraining on them."""
