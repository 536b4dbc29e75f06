"""Typed errors. Each names what is wrong and, in ``hint``, what to do about it."""

from __future__ import annotations

from collections.abc import Collection


class TernacError(Exception):
    """Base of all errors that a user can cause or cure.

    ``str(error)`` says what is wrong; ``error.hint`` says what to do (may be empty).
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(TernacError):
    """A wrong argument of a verb or of a public function."""


class UnknownExecutor(UsageError):
    """A name stands for no executor that can be used there; ``choices`` are the forms that can."""

    def __init__(self, name: str, choices: Collection[str]) -> None:
        super().__init__(f"unknown executor {name!r}", f"choose from: {', '.join(choices)}")
        self.name, self.choices = name, tuple(choices)


class ProgramError(TernacError):
    """A program file cannot be used."""


class BadProgramFile(ProgramError):
    """A program file is truncated, damaged, over-sized or not a program at all."""


class IllegalProgram(ProgramError):
    """An op of a program breaks the rules; the message names op index, name and reason."""


class DoesNotFit(ProgramError):
    """A legal program exceeds an engine: ``needed`` of ``resource``, of which there are ``limit``.

    The message names them too. ``limit`` is 0 if it is not a matter of size.
    """

    def __init__(
        self, message: str, hint: str = "", *, resource: str = "", needed: int = 0, limit: int = 0
    ) -> None:
        super().__init__(message, hint)
        self.resource, self.needed, self.limit = resource, needed, limit


def require(resource: str, needed: int, limit: int, message: str) -> None:
    """Raise DoesNotFit if ``needed`` of ``resource`` are more than ``limit``."""
    if needed > limit:
        raise DoesNotFit(message, resource=resource, needed=needed, limit=limit)


class OverBudget(TernacError):
    """A file from elsewhere needs ``needed`` of ``resource``, and one like it may need ``limit``.

    The message names them too; the hint says how to raise the limit (`ternac.limits`).
    """

    def __init__(
        self, message: str, hint: str = "", *, resource: str = "", needed: int = 0, limit: int = 0
    ) -> None:
        super().__init__(message, hint)
        self.resource, self.needed, self.limit = resource, needed, limit

    def at(self, place: str) -> OverBudget:
        """Return the same with ``place`` in front of the message."""
        return OverBudget(
            f"{place}: {self}", self.hint, resource=self.resource, needed=self.needed, limit=self.limit
        )


class UnsupportedOp(ProgramError):
    """A legal program has an op that an executor does not implement; the message names the op."""


class SnapshotError(TernacError):
    """A session snapshot is damaged or belongs to another program."""


class ArchiveError(TernacError):
    """A compressed text is damaged, or not one."""


class WrongProgram(ArchiveError):
    """A compressed text was made with another program than the one at hand; both hashes are attributes."""

    def __init__(self, message: str, hint: str, *, needed: str, given: str) -> None:
        super().__init__(message, hint)
        self.needed, self.given = needed, given


class CheckpointError(TernacError):
    """A training checkpoint is missing, damaged or belongs to another run."""


class TrainingDiverged(TernacError):
    """A loss is not a finite number; the message names the step."""


class DeviceError(TernacError):
    """Base of everything that can go wrong between the host and a board."""


class WrongBitstream(DeviceError):
    """The board carries another bitstream than the one asked for."""


class WrongGeometry(DeviceError):
    """The board's engine has another geometry than the program image was compiled for."""


class NoAnswer(DeviceError):
    """The board did not answer within the time-out, retries included."""


class BadFrame(DeviceError):
    """The board answered with frames that fail their check, retries included."""


class LostAnswer(DeviceError):
    """An answer was lost while others were in flight, or the board restarted.

    What the device has executed of the requests in flight is not known, and cannot be asked for.
    """


class DeviceRefused(DeviceError):
    """The board understood the request and refused it; the message gives its status."""


class ToolMissing(TernacError):
    """An external tool or optional package is not installed; the hint says how to get it."""


class BuildFailed(TernacError):
    """A step of a build failed; the message names the step and the log."""


class UnsafeCache(TernacError):
    """Another user could have put programs into the cache; the message names the folder and the reason."""


class Mismatch(TernacError):
    """Two executors differ; the message names token, op, element and both values."""


class ServerError(TernacError):
    """Base of what a server answers where it cannot do what it was asked."""


class Overloaded(ServerError):
    """As many requests or sessions as the server takes are there already; a later attempt may succeed."""


class Unavailable(ServerError):
    """No device is left to run on, no time was left, or the server is shutting down."""


class Cancelled(ServerError):
    """Whoever asked went away."""


class SessionBusy(ServerError):
    """Another request of the session is running; a session takes one at a time."""


class UnknownSession(ServerError):
    """No session of this name is kept; it was never made, was deleted, or was not used for too long."""
