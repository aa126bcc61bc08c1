"""What the page answers when it cannot do what was asked."""


class PageError(Exception):
    """A request that cannot be answered.

    Attributes:
        status: the HTTP status.
        message: one sentence, which the page shows as it is.
    """

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status
        self.message = message
