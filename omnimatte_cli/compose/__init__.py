"""Recompose a finished result: remove, move, retime and recolour its objects."""
