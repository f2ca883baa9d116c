"""Generative Omnimatte, stage 2: layers from solo videos and a clean background video."""
