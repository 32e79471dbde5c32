"""The one exception whose message is meant for the person at the keyboard."""


class UserError(ValueError):
    """A user's mistake: one line that says what, which value, what was expected and what to type.

    A stage's `main` prints it without a traceback and exits with status 1.
    """
