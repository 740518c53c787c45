"""What can go wrong with a store that is a server of its own."""


class StoreUnavailable(OSError):
    """The object store does not answer, or refuses, just now.

    Args:
        message: What was asked of which server, why it failed and what helps; in one line, without secrets.
        passing: Whether trying again later may help with nobody doing anything.
    """

    code = "STORE_UNAVAILABLE"

    def __init__(self, message: str, *, passing: bool = False) -> None:
        super().__init__(message)
        self.passing = passing
