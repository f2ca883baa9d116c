"""Errors that a user can act on. The command line turns each into one sentence and an exit code."""

from __future__ import annotations


class OmnimatteError(Exception):
    """Something failed while working. The message is one sentence: what, where, and what to do."""

    exit_code = 1


class InputError(OmnimatteError):
    """The user's input or options are wrong: nothing was written."""

    exit_code = 2


class VideoError(InputError):
    """A video or an image sequence cannot be read, or is too short."""


class MaskError(InputError):
    """A mask is missing, unreadable or unfit; names the object, the frame and the file."""


class NoObjectError(MaskError):
    """There is no object to work on: nothing moves, or no mask has anything."""


class PlateError(InputError):
    """The background given by the user cannot be read or does not fit the video."""


class WeightsError(InputError):
    """A weights file is missing, damaged, or does not fit the network."""


class OptionError(InputError):
    """An option's value is outside its range, or two options contradict each other."""


class OutputError(InputError):
    """The output exists already, or cannot be written."""


class MissingProgramError(OmnimatteError):
    """A program or system library that the tool needs is not installed."""


class MissingLibraryError(InputError):
    """An optional library that the user's options need is not installed."""


class ResultError(InputError):
    """A folder is not a finished result, or its files are damaged or missing."""
