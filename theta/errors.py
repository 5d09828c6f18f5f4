"""The errors that a user can meet. Each message is one line: what, where, the value, the remedy.

ThetaError
├── SettingsError     params.yaml, or a parameter of a call, is wrong
├── DataError         the conversations, or a file made from them, cannot be used
├── StorageError      a file or folder cannot be written where it should be
├── BaseModelError    the base model cannot be found, fetched or used
├── TrainingError     training cannot start or had to stop
│   └── TrainingInterruptedError   stopped from outside; the state is kept and the next run goes on
├── OutOfMemoryError  the GPU or the machine has too little memory
├── GenerationError   a prompt cannot be answered
└── ExportError       the exported folder does not hold what it should
"""


class ThetaError(Exception):
    """Something that the user can put right; commands print it in one line and exit with 1."""


class SettingsError(ThetaError):
    """A setting is missing, unknown, of the wrong type or out of its range."""


class DataError(ThetaError):
    """Conversations, or a file made from them, cannot be used."""


class StorageError(ThetaError):
    """A file or folder cannot be written: the disk is full, it is not allowed, or something else is in its place."""


class BaseModelError(ThetaError):
    """The base model cannot be found, fetched or used."""


class TrainingError(ThetaError):
    """Training cannot start, or had to stop."""


class TrainingInterruptedError(TrainingError):
    """Stopped from outside; the resume state is on disk."""


class OutOfMemoryError(ThetaError):
    """The GPU or the machine has too little memory for the settings."""


class GenerationError(ThetaError):
    """A prompt cannot be answered."""


class ExportError(ThetaError):
    """The exported folder does not hold what it should."""


def reason(fault: BaseException) -> str:
    """The first line of what another library says, or its kind if it says nothing."""
    return (str(fault).splitlines() or [""])[0].strip() or type(fault).__name__
