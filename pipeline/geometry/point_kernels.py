"""Compiled passes over whole clouds: decoding, extents, repeated places, picking rows."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bytes = NDArray[np.uint8]
Words = NDArray[np.uint64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

_BITS_PER_POINT = 16  # of the table that finds suspects: one point in sixteen is one by chance


@njit(cache=True, nogil=True)
def _int32(record: Bytes, at: int) -> np.int32:
    return np.int32(
        np.uint32(record[at])
        | np.uint32(record[at + 1]) << np.uint32(8)
        | np.uint32(record[at + 2]) << np.uint32(16)
        | np.uint32(record[at + 3]) << np.uint32(24)
    )


@njit(cache=True, nogil=True)
def decode_las(
    records: Bytes, extended: bool, factors: Floats, shifts: Floats, points: Floats, classes: Bytes
) -> tuple[int, int, Floats, Floats]:
    """Turn LAS records into coordinates and classes, one after the other, without noise and withheld points.

    Args:
        records: Shape (n, bytes of a record).
        extended: Whether the point format is 6 or above.
        factors: Local metres per step of x, y, z, shape (3,).
        shifts: Local metres at step 0, shape (3,).
        points: Where the coordinates go, shape (n, 3).
        classes: Where the classes go, shape (n,).

    Returns:
        How many points were kept; how many were left out because a coordinate is not finite; least and
        greatest coordinates of all, shape (3,) each.
    """
    kept = broken = 0
    low = np.full(3, np.inf)
    high = np.full(3, -np.inf)
    for i in range(records.shape[0]):
        record = records[i]
        x = _int32(record, 0) * factors[0] + shifts[0]
        y = _int32(record, 4) * factors[1] + shifts[1]
        z = _int32(record, 8) * factors[2] + shifts[2]
        low[0], high[0] = min(low[0], x), max(high[0], x)
        low[1], high[1] = min(low[1], y), max(high[1], y)
        low[2], high[2] = min(low[2], z), max(high[2], z)
        if extended:
            kind = record[16]
            withheld = record[15] & np.uint8(0x04)
        else:
            kind = record[15] & np.uint8(0x1F)
            withheld = record[15] & np.uint8(0x80)
        if not np.isfinite(x + y + z):
            broken += 1
        elif withheld == 0 and kind != 7 and kind != 18:
            points[kept, 0] = x
            points[kept, 1] = y
            points[kept, 2] = z
            classes[kept] = kind
            kept += 1
    return kept, broken, low, high


@njit(cache=True, nogil=True)
def extent(points: Floats) -> tuple[Floats, Floats]:
    """Least and greatest coordinates, shape (3,) each, of finite points of shape (n, 3)."""
    x0 = y0 = z0 = np.inf
    x1 = y1 = z1 = -np.inf
    for i in range(points.shape[0]):
        x, y, z = points[i, 0], points[i, 1], points[i, 2]
        x0, x1 = min(x0, x), max(x1, x)
        y0, y1 = min(y0, y), max(y1, y)
        z0, z1 = min(z0, z), max(z1, z)
    return np.array([x0, y0, z0]), np.array([x1, y1, z1])


@njit(cache=True, nogil=True)
def _hash(a: np.uint64, b: np.uint64, c: np.uint64) -> np.uint64:
    key = a * np.uint64(0x9E3779B97F4A7C15)
    key ^= (b >> np.uint64(7)) * np.uint64(0xC2B2AE3D27D4EB4F)
    key ^= (c >> np.uint64(13)) * np.uint64(0x165667B19E3779F9)
    key ^= key >> np.uint64(32)
    return key * np.uint64(0xD6E8FEB86659FD93)


@njit(cache=True, nogil=True)
def keys(bits: Words, mask: int) -> Words:
    """Return the hashes, in file order, that have no bit of ``mask``; ``bits`` are coordinates, shape (n, 3)."""
    found = np.empty(bits.shape[0], np.uint64)
    n = 0
    for i in range(bits.shape[0]):
        key = _hash(bits[i, 0], bits[i, 1], bits[i, 2])
        if key & np.uint64(mask) == 0:
            found[n] = key
            n += 1
    return found[:n]


@njit(cache=True, nogil=True)
def suspects(bits: Words) -> tuple[Ints, Words]:
    """Return the points that may share their place with another, in order, and their hashes.

    Every point marks a bit of a table by its hash; who finds a marked one, or made it, is a suspect.
    """
    n = bits.shape[0]
    size = np.uint64(1024)
    while size < np.uint64(_BITS_PER_POINT * n):
        size *= np.uint64(2)
    once = np.zeros(size // np.uint64(8), np.uint8)
    again = np.zeros(size // np.uint64(8), np.uint8)
    for i in range(n):
        place = _hash(bits[i, 0], bits[i, 1], bits[i, 2]) & (size - np.uint64(1))
        byte, bit = place >> np.uint64(3), np.uint8(1) << np.uint8(place & np.uint64(7))
        if once[byte] & bit:
            again[byte] |= bit
        else:
            once[byte] |= bit
    found = np.empty(n, np.int64)
    hashes = np.empty(n, np.uint64)
    m = 0
    for i in range(n):
        key = _hash(bits[i, 0], bits[i, 1], bits[i, 2])
        place = key & (size - np.uint64(1))
        if again[place >> np.uint64(3)] & (np.uint8(1) << np.uint8(place & np.uint64(7))):
            found[m] = i
            hashes[m] = key
            m += 1
    return found[:m].copy(), hashes[:m].copy()


@njit(cache=True, nogil=True)
def rows_where(points: Floats, keep: Bools) -> Floats:
    """Return the points where ``keep`` is true, shape (m, 3)."""
    m = 0
    for i in range(keep.shape[0]):
        m += keep[i]
    found = np.empty((m, 3))
    at = 0
    for i in range(keep.shape[0]):
        if keep[i]:
            found[at, 0] = points[i, 0]
            found[at, 1] = points[i, 1]
            found[at, 2] = points[i, 2]
            at += 1
    return found
