"""omnimatte: split a video into one RGBA layer per object, effects included, and a clean plate.

from omnimatte_cli import decompose
result = decompose("input.mp4", masks="masks/", out="out/")
"""

__version__ = "0.1.0"

from omnimatte_cli.api import decompose

__all__ = ["__version__", "decompose"]
