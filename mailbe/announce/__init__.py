"""What others are told of a running server: the zone files of its domains, and Thunderbird."""


class NothingToTell(Exception):
    """There is nothing that could be told; the message says why and what to do, in one line."""
