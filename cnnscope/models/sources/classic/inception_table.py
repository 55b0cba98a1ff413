"""Table 1 of Szegedy et al. 2014, "Going Deeper with Convolutions": the inception modules."""

from typing import NamedTuple


class Block(NamedTuple):
    """A row of table 1: what an inception module is given, and how wide its branches are."""

    in_channels: int
    size: int  # of its square input
    ch1: int  # 1x1
    reduce3: int  # 1x1 before the 3x3
    ch3: int  # 3x3
    reduce5: int  # 1x1 before the 5x5
    ch5: int  # 5x5
    project: int  # 1x1 behind the pool


BLOCKS = {
    "3a": Block(192, 28, 64, 96, 128, 16, 32, 32),
    "3b": Block(256, 28, 128, 128, 192, 32, 96, 64),
    "4a": Block(480, 14, 192, 96, 208, 16, 48, 64),
    "4b": Block(512, 14, 160, 112, 224, 24, 64, 64),
    "4c": Block(512, 14, 128, 128, 256, 24, 64, 64),
    "4d": Block(512, 14, 112, 144, 288, 32, 64, 64),
    "4e": Block(528, 14, 256, 160, 320, 32, 128, 128),
    "5a": Block(832, 7, 256, 160, 320, 32, 128, 128),
    "5b": Block(832, 7, 384, 192, 384, 48, 128, 128),
}
