"""The one error that a user of the toolkit is meant to read."""


class InputError(ValueError):
    """Something the user gave is wrong: a file, a record, a flag or a field.

    The message is one sentence that names the thing, says what was found and what is wanted. Scripts print it
    without a traceback and end with exit status 2 (see `pipelines.script`).
    """
