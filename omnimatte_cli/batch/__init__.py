"""Folders of shots: each is a run of `omnimatte decompose` of its own, so that none stops another."""
