"""The error for a user's mistake."""


class RefusedError(ValueError):
    """A user's mistake in one line, printed without a traceback."""
