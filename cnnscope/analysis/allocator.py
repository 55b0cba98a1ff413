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

    __slots__ = ("address", "after", "before", "free", "size")

    def __init__(self, address: int, size: int) -> None:
        self.address, self.size, self.free = address, size, False
        self.before: _Block | None = None
        self.after: _Block | None = None


def _joined(first: _Block, second: _Block) -> _Block:
    """The first of two neighbours, with the bytes of both."""
    first.size += second.size
    first.after = second.after
    if first.after is not None:
        first.after.before = first
    return first


_Pool = list[tuple[int, int, _Block]]  # free blocks by size, and of one size by address


class Allocator:
    """Blocks and segments after a sequence of requests.

    Attributes:
        allocated: bytes of the blocks in use (`torch.cuda.memory_allocated`).
        reserved: bytes of all segments (`torch.cuda.memory_reserved`).
        peak: the most that was allocated since it was last set.
    """

    def __init__(self) -> None:
        self.allocated = self.reserved = self.peak = 0
        self._large: _Pool = []
        self._small: _Pool = []
        self._used: dict[int, tuple[_Block, _Pool]] = {}  # by key

    def allocate(self, key: int, nbytes: int) -> None:
        """Serve a request; nothing is taken for one of no bytes."""
        if not nbytes:
            return
        size = rounded(nbytes)
        pool, least = (self._small, _ROUND) if size <= _SMALL else (self._large, _SMALL + 1)
        place = bisect_left(pool, (size, -1))
        if place < len(pool):
            block = pool.pop(place)[2]
            block.free = False
        else:
            block = _Block(self.reserved, segment(size))
            self.reserved += block.size
        if block.size - size >= least:
            _put(_split(block, size), pool)
        self._used[key] = block, pool
        self.allocated += block.size
        self.peak = max(self.peak, self.allocated)

    def free(self, key: int) -> None:
        """Give a block back, and join it with free neighbours."""
        if key not in self._used:
            return
        block, pool = self._used.pop(key)
        self.allocated -= block.size
        after, before = block.after, block.before
        if after is not None and after.free:
            _take(after, pool)
            block = _joined(block, after)
        if before is not None and before.free:
            _take(before, pool)
            block = _joined(before, block)
        _put(block, pool)


def _split(block: _Block, size: int) -> _Block:
    """What a block has too much for a size, as a block of its own behind it."""
    rest = _Block(block.address + size, block.size - size)
    rest.before, rest.after = block, block.after
    if block.after is not None:
        block.after.before = rest
    block.after, block.size = rest, size
    return rest


def _put(block: _Block, pool: _Pool) -> None:
    block.free = True
    insort(pool, (block.size, block.address, block))


def _take(block: _Block, pool: _Pool) -> None:
    block.free = False
    pool.pop(bisect_left(pool, (block.size, block.address)))
