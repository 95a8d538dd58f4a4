"""Why an update did not come, by kind: what is to be done about each differs.

None of them touches what the node runs.
"""

from dat_runtime.errors import DatError


class UpdateError(DatError):
    """An update cannot be had now."""


class ExpiredMetadata(UpdateError):
    """The signed statements are past their time: the repository is not refreshed, or held back.

    Updates are blocked until it is refreshed; what runs goes on.
    """


class UntrustedMetadata(UpdateError):
    """Statements whose signatures, versions or hashes do not fit: somebody or something is wrong.

    The keys did not sign them, or an older or mixed state is served.
    """


class Unreachable(UpdateError):
    """A file did not come: no connection, not there, too slow, or cut short."""


class WrongFile(UpdateError):
    """A file came that is not the signed one: swapped, damaged, or longer than it may be."""


class BadOffer(UpdateError):
    """What the keys signed is not an offer that this runtime understands."""
