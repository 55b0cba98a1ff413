"""Exceptions of this package, each with its exit code."""


class CnnscopeError(Exception):
    """A failure with a message for the user: the request, the fault, the remedy."""

    exit_code = 2


class RequestError(CnnscopeError):
    """The request is wrong: an unknown model, a malformed input, an unusable option."""

    exit_code = 2


class UnknownModelError(RequestError):
    """No library has a model of that name."""


class ModelError(CnnscopeError):
    """The request is sound, but the model failed to build or to run."""

    exit_code = 3
