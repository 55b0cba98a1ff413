"""Architectures that papers and courses teach and torchvision lacks, with random weights."""

from cnnscope.models.sources.classic.networks import (
    about,
    build,
    default_inputs,
    names,
    versions,
)

__all__ = ["about", "build", "default_inputs", "names", "versions"]
