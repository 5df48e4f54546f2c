class Refusal(Exception):
    """What was asked for cannot be done, or must not. In words for people."""
