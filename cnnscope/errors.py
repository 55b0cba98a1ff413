"""What can go wrong, and the exit code each kind ends with."""


class CnnscopeError(Exception):
    """A failure with a message for a person: what was asked, what broke, what to do."""

    exit_code = 2


class RequestError(CnnscopeError):
    """The request is wrong: an unknown model, a malformed input, an unusable option."""

    exit_code = 2


class ModelError(CnnscopeError):
    """The request is sound, but the model failed to build or to run."""

    exit_code = 3
