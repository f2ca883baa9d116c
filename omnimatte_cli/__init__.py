"""omnimatte: split a video into one RGBA layer per object, effects included, and a clean plate."""

__version__ = "0.1.0"
