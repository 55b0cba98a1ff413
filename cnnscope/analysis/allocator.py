"""Replay of the rules by which PyTorch's caching allocator takes memory of a CUDA device.

The rules are those of `c10/cuda/CUDACachingAllocator.cpp` with its default settings: requests are
rounded up to 512 bytes and served from the smallest free block that is large enough, of a pool of
small blocks (up to 1 MiB) or of large ones; what is left over is split off; freed blocks are joined
with free neighbours and kept. Where none fits, a segment is taken from the device: 2 MiB for small
blocks, 20 MiB for those below 10 MiB, else the request rounded up to 2 MiB.
"""

from __future__ import annotations

from bisect import bisect_left, insort

MIB = 2**20
_ROUND = 512  # kMinBlockSize
_SMALL = MIB  # kSmallSize
_SMALL_SEGMENT = 2 * MIB  # kSmallBuffer
_MEDIUM_SEGMENT = 20 * MIB  # kLargeBuffer
_LARGE = 10 * MIB  # kMinLargeAlloc
_ROUND_SEGMENT = 2 * MIB  # kRoundLarge


def rounded(nbytes: int) -> int:
    """Bytes of the block that a request gets at least; 0 for a request of none."""
    return -(-nbytes // _ROUND) * _ROUND


def segment(size: int) -> int:
    """Bytes that are taken from the device for a block of a rounded size."""
    if size <= _SMALL:
        return _SMALL_SEGMENT
    if size < _LARGE:
        return _MEDIUM_SEGMENT
    return -(-size // _ROUND_SEGMENT) * _ROUND_SEGMENT


class _Block:
    """Neighbouring bytes of a segment, in use or free."""

    __slots__ = ("address", "after", "before", "size")

    def __init__(self, address: int, size: int) -> None:
        self.address, self.size = address, size
        self.before: _Block | None = None
        self.after: _Block | None = None


def _joined(first: _Block, second: _Block) -> _Block:
    """The first of two neighbours, with the bytes of both."""
    first.size += second.size
    first.after = second.after
    if first.after is not None:
        first.after.before = first
    return first


class Allocator:
    """Blocks and segments after a sequence of requests.

    Attributes:
        allocated: bytes of the blocks in use (`torch.cuda.memory_allocated`).
        reserved: bytes of all segments (`torch.cuda.memory_reserved`).
        peak: the most that was allocated since it was last set.
    """

    def __init__(self) -> None:
        self.allocated = self.reserved = self.peak = 0
        self._free: tuple[list[tuple[int, int]], list[tuple[int, int]]] = ([], [])  # size, address
        self._blocks: dict[int, _Block] = {}  # free ones, by address
        self._used: dict[int, tuple[_Block, bool]] = {}  # by key

    def allocate(self, key: int, nbytes: int) -> None:
        """Serve a request; nothing is taken for one of no bytes."""
        if not nbytes:
            return
        size = rounded(nbytes)
        small = size <= _SMALL
        pool = self._free[small]
        place = bisect_left(pool, (size, -1))
        if place < len(pool):
            block = self._blocks.pop(pool.pop(place)[1])
        else:
            block = _Block(self.reserved, segment(size))
            self.reserved += block.size
        self._split(block, size, small=small)
        self._used[key] = block, small
        self.allocated += block.size
        self.peak = max(self.peak, self.allocated)

    def _split(self, block: _Block, size: int, *, small: bool) -> None:
        """Give back what a block has too much, if the rules have it split off."""
        left = block.size - size
        if left < _ROUND or (not small and left <= _SMALL):
            return
        rest = _Block(block.address + size, left)
        rest.before, rest.after = block, block.after
        if block.after is not None:
            block.after.before = rest
        block.after, block.size = rest, size
        self._put(rest, small=small)

    def _put(self, block: _Block, *, small: bool) -> None:
        insort(self._free[small], (block.size, block.address))
        self._blocks[block.address] = block

    def _take(self, block: _Block, *, small: bool) -> None:
        pool = self._free[small]
        pool.pop(bisect_left(pool, (block.size, block.address)))
        del self._blocks[block.address]

    def free(self, key: int) -> None:
        """Give a block back, and join it with free neighbours."""
        if key not in self._used:
            return
        block, small = self._used.pop(key)
        self.allocated -= block.size
        for neighbour in (block.after, block.before):
            if neighbour is not None and self._blocks.get(neighbour.address) is neighbour:
                self._take(neighbour, small=small)
                block = _joined(*sorted((block, neighbour), key=lambda one: one.address))
        self._put(block, small=small)
