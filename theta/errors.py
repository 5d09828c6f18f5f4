"""The errors that a user can meet. Each message is one line with what, where, the value and the remedy.

ThetaError
├── SettingsError     params.yaml, or a parameter of a call, is wrong
├── DataError         the conversations, or a file made from them, cannot be used
├── StorageError      a file or folder cannot be written
├── BaseModelError    the base model cannot be found, fetched or used
├── TrainingError     training cannot start or had to stop
│   └── TrainingInterruptedError   stopped from outside; the next run resumes from the saved state
├── OutOfMemoryError  the GPU or the machine has too little memory
├── GenerationError   a prompt cannot be answered
├── ExportError       the exported folder does not hold what it should
└── ProjectError      the folder is not a project, or git or DVC refuses what was asked of it
"""


class ThetaError(Exception):
    """An error that the user can correct; commands print it in one line and exit with code 1."""


class SettingsError(ThetaError):
    """A setting is missing, unknown, of the wrong type or out of its range."""


class DataError(ThetaError):
    """Conversations, or a file made from them, cannot be used."""


class StorageError(ThetaError):
    """A file or folder cannot be written: the disk is full, access is denied, or something else has its name."""


class BaseModelError(ThetaError):
    """The base model cannot be found, fetched or used."""


class TrainingError(ThetaError):
    """Training cannot start, or had to stop."""


class TrainingInterruptedError(TrainingError):
    """Training was stopped from outside; the resume state is on disk."""


class OutOfMemoryError(ThetaError):
    """The GPU or the machine has too little memory for the settings."""


class GenerationError(ThetaError):
    """A prompt cannot be answered."""


class ExportError(ThetaError):
    """The exported folder does not hold what it should."""


class ProjectError(ThetaError):
    """The folder is not a project of Theta, or git or DVC refuses what was asked of it."""


def reason(fault: BaseException) -> str:
    """Return the first line of another library's message, or the name of the error if it has none."""
    return (str(fault).splitlines() or [""])[0].strip() or type(fault).__name__
