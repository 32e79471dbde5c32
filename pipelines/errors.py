"""What a user did wrong."""


class RefusedError(ValueError):
    """A user's mistake in one line, printed without a traceback."""
