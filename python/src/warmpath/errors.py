"""What can go wrong, as exceptions that name the remedy."""


class WarmpathError(Exception):
    """Anything that this package raises besides `ValueError` and `TypeError`."""


class IndexerUnavailable(WarmpathError):
    """The indexer can not be started, or does not answer."""


class RouteError(WarmpathError):
    """The indexer refused a request; `code` is stable, the text is for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
