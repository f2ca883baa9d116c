"""Many shots, each a run of `omnimatte decompose` of its own: none stops another."""
