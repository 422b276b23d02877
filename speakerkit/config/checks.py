"""How a section of the configuration refuses an impossible value."""


def require(condition: bool, message: str) -> None:
    """ValueError with the message unless the condition holds: how a section refuses an impossible value."""
    if not condition:
        raise ValueError(message)
