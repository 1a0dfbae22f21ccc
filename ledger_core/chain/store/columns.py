"""Values of the same meaning side by side, so that a compressor sees how alike they are.

A segment of the archive holds many values of the same few shapes. `Writer` takes them one after the other
and sorts them into columns by their place in the shape: integers as the difference to the column's last one,
keys and asset ids as their number in the `KeyBook`, and random bytes (signatures, nonces, hashes) apart,
where they don't disturb the compression of the rest. `Reader` gives the same values back. The columns carry
the shapes themselves, so that a new kind of record needs no change here.
"""

import zlib
from collections.abc import Iterable, Sequence
from compression.zstd import CompressionParameter, ZstdDecompressor, ZstdDict, ZstdError
from compression.zstd import compress as zstd_compress
from typing import Any, Final

import msgspec
from msgspec import Struct

from ledger_core.chain.store.keybook import KeyBook

_OPTIONS: Final[dict[int, int]] = {
    # Nearly all of a segment is signatures: beyond this level a thousandth is gained for triple the work.
    CompressionParameter.compression_level: 9,
    CompressionParameter.content_size_flag: 0,
    CompressionParameter.dict_id_flag: 0,
}
MAX_UNPACKED: Final = 256 * 1024 * 1024
"""Far above any segment that the archive makes: it cuts them by size."""

ASSETS: Final = 0
"""The key book's space of 16-byte ids."""
MINERS: Final = 1
COSIGNERS: Final = 2
_AUTHORS: Final = 3
"""And upwards: who writes records of a kind, by the kind's number."""

_SIZES_APART = frozenset({8, 64})
"""Sizes of bytes that are random: nonces and signatures."""
_ASSET_SIZE = 16
_KEY_SIZE = 32
_DIFFERENCE_LIMIT = 1 << 60
_MANY = 32
"""A list of more items is taken for one of like items."""
_MAX_DEPTH = 24
_NESTED = frozenset({list, tuple, bytes})

# Tokens: a list in a column stands for something that is no integer, text or None itself.
_LIST_OF_LIKE, _ASSET, _KEY, _HASH, _APART, _INLINE, _LARGE, _MASK, _STEPS = range(9)
_VOTE_BYTES = 66
_PREFIX_BYTES = 9
"""Checksum, number of the dictionary (0: none), length of the compressed part."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode
_decode_columns = msgspec.msgpack.Decoder(list[list[Any]]).decode


class ColumnsError(ValueError):
    """Bytes that are no columns, or values that columns can't hold."""


class Context(Struct, frozen=True):
    """What writer and reader both know."""

    book: KeyBook
    hashes: Sequence[bytes] = ()
    """Hashes of the last checkpoints: votes name them."""


class Column:
    """The values of one place, and the places inside it."""

    __slots__ = ("children", "last", "position", "values")

    def __init__(self, values: list[Any]) -> None:
        self.values = values
        self.position = 0
        self.last = 0
        self.children: dict[object, Column] = {}


class Writer:
    """Takes values; `pack` returns their bytes."""

    def __init__(self, context: Context) -> None:
        self._book = context.book
        self._hashes = {value: number for number, value in enumerate(context.hashes)}
        self._columns: list[list[Any]] = []
        self._apart: list[bytes] = []
        self.root = self._new_column()

    def _new_column(self) -> Column:
        values: list[Any] = []
        self._columns.append(values)
        return Column(values)

    def child(self, column: Column, place: object) -> Column:
        """Return the column of a place inside another."""
        child = column.children.get(place)
        if child is None:
            child = column.children[place] = self._new_column()
        return child

    def put(self, column: Column, value: Any, depth: int = 0) -> None:
        """Add a value; raises ColumnsError for one that is not made of the types of a record."""
        kind = type(value)
        if kind is int:
            self._put_integer(column, value)
        elif kind is bytes:
            self._put_bytes(column, value)
        elif kind is list or kind is tuple:
            self._put_list(column, value, depth)
        elif value is None or kind is bool or kind is str:
            column.values.append(value)
        else:
            raise ColumnsError(f"a {kind.__name__} has no place in a column")

    def _put_integer(self, column: Column, value: int) -> None:
        if -_DIFFERENCE_LIMIT < value < _DIFFERENCE_LIMIT:
            column.values.append(value - column.last)
            column.last = value
        else:
            column.values.append((_LARGE, value))

    def _put_bytes(self, column: Column, value: bytes) -> None:
        size = len(value)
        if size == _ASSET_SIZE:
            column.values.append((_ASSET, self._book.learn(ASSETS, value)))
        elif size == _KEY_SIZE:
            found = self._book.find(value)
            if found is not None:
                column.values.append((_KEY, *found))
            elif value in self._hashes:
                column.values.append((_HASH, self._hashes[value]))
            else:
                self.put_apart(column, value)
        elif size in _SIZES_APART:
            self.put_apart(column, value)
        else:
            column.values.append((_INLINE, value))

    def _put_list(self, column: Column, value: Sequence[Any], depth: int) -> None:
        if depth > _MAX_DEPTH:
            raise ColumnsError("lists are nested too deeply")
        if len(value) > _MANY or (value and _NESTED.issuperset(map(type, value))):
            column.values.append((_LIST_OF_LIKE, len(value)))
            child = self.child(column, None)
            for item in value:
                self.put(child, item, depth + 1)
        else:
            column.values.append((len(value),))
            self._put_items(column, value, 0, depth + 1)

    def _put_items(self, column: Column, items: Sequence[Any], first: int, depth: int) -> None:
        """Add each item, from the first one wanted, to the column of its position."""
        children = column.children
        for position in range(first, len(items)):
            item = items[position]
            child = children.get(position)
            if child is None:
                child = children[position] = self._new_column()
            # Most items are integers of a common size: they are not worth a call.
            if type(item) is int and -_DIFFERENCE_LIMIT < item < _DIFFERENCE_LIMIT:
                child.values.append(item - child.last)
                child.last = item
            else:
                self.put(child, item, depth)

    def put_plain(self, column: Column, value: int) -> None:
        """Add an integer that has nothing to do with the one before."""
        column.values.append(value)

    def put_key(self, column: Column, space: int, key: bytes) -> None:
        """Add a key that will come again, to a column of nothing else."""
        column.values.append(self._book.learn(space, key))

    def put_apart(self, column: Column, value: bytes) -> None:
        """Add bytes that no compressor can make smaller."""
        column.values.append((_APART, len(value)))
        self._apart.append(value)

    def put_fixed(self, value: bytes) -> None:
        """Add bytes of which the reader knows the size, and that no compressor can make smaller."""
        self._apart.append(value)

    def put_packed(self, column: Column, data: bytes) -> None:
        """Add canonical MessagePack of a tagged struct by its values: tag, author, and so on.

        Raises ColumnsError for anything else.
        """
        try:
            value = _decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ColumnsError(f"not MessagePack: {error}") from error
        if type(value) is not list or len(value) < 2 or _encode(value) != data:
            raise ColumnsError("not the canonical form of a tagged struct")
        tag, author = value[0], value[1]
        if type(tag) is not int or not 0 <= tag < _DIFFERENCE_LIMIT:
            raise ColumnsError("the struct has no number")
        if type(author) is not bytes or len(author) != _KEY_SIZE:
            raise ColumnsError("the struct has no author")
        column.values.append(tag)
        kind = self.child(column, tag)
        self.put(kind, len(value))
        self.put_key(self.child(kind, 1), _AUTHORS + tag, author)
        self._put_items(kind, value, 2, 0)

    def put_votes(self, column: Column, votes: bytes) -> None:
        """Add the votes of a bundle: member indexes and signatures."""
        if not votes or len(votes) % _VOTE_BYTES:
            raise ColumnsError("not a whole number of votes")
        indexes = [int.from_bytes(votes[at : at + 2]) for at in range(0, len(votes), _VOTE_BYTES)]
        mask = 0
        for index in indexes:
            mask |= 1 << index
        if list(_bits(mask)) == indexes:
            column.values.append((_MASK, mask.to_bytes((mask.bit_length() + 7) // 8)))
        else:
            column.values.append((_STEPS, *indexes))
        self._apart += [votes[at + 2 : at + _VOTE_BYTES] for at in range(0, len(votes), _VOTE_BYTES)]

    def pack(self) -> bytes:
        """Return all values as bytes, with a checksum."""
        dictionaries = self._book.dictionaries
        # Digested once for all segments: else the dictionary would cost more than what it is for.
        dictionary = dictionaries[-1].as_digested_dict if dictionaries else None
        packed = zstd_compress(_encode(self._columns), options=_OPTIONS, zstd_dict=dictionary)
        content = len(dictionaries).to_bytes(1) + len(packed).to_bytes(4) + packed + b"".join(self._apart)
        return zlib.crc32(content).to_bytes(4) + content


def unpack(data: bytes, dictionaries: Sequence[ZstdDict]) -> tuple[bytes, int]:
    """Return what `pack` compressed, and where in the data the bytes kept apart begin.

    Raises ColumnsError where anything is damaged.
    """
    if len(data) < _PREFIX_BYTES or zlib.crc32(memoryview(data)[4:]) != int.from_bytes(data[:4]):
        raise ColumnsError("the checksum is wrong")
    number, end = data[4], _PREFIX_BYTES + int.from_bytes(data[5:_PREFIX_BYTES])
    if number > len(dictionaries):
        raise ColumnsError(f"dictionary {number} is missing")
    frame = ZstdDecompressor(zstd_dict=dictionaries[number - 1] if number else None)
    try:
        unpacked = frame.decompress(memoryview(data)[_PREFIX_BYTES:end], MAX_UNPACKED)
    except ZstdError as error:
        raise ColumnsError(f"the compressed part is not readable: {error}") from error
    if not frame.eof:
        raise ColumnsError("the compressed part is incomplete or too large")
    return unpacked, end


class Reader:
    """Gives back what a writer took, in the same order.

    Every method raises ColumnsError, LookupError, TypeError or ValueError on data that no writer made.
    """

    def __init__(self, data: bytes, context: Context) -> None:
        self._book = context.book
        self._hashes = context.hashes
        self._data = data
        unpacked, self._offset = unpack(data, context.book.dictionaries)
        self._columns = _decode_columns(unpacked)
        self._used = 0
        self.root = self._new_column()

    def _new_column(self) -> Column:
        self._used += 1
        return Column(self._columns[self._used - 1])

    def child(self, column: Column, place: object) -> Column:
        """Return the column of a place inside another."""
        child = column.children.get(place)
        if child is None:
            child = column.children[place] = self._new_column()
        return child

    def take(self, column: Column) -> Any:
        """Return the column's next value; lists as tuples."""
        token = self.take_plain(column)
        if type(token) is int:
            column.last += token
            return column.last
        if type(token) is not list:
            return token
        if len(token) == 1:
            return tuple(self._take_items(column, 0, token[0]))
        return self._expand(column, token)

    def _take_items(self, column: Column, first: int, end: int) -> list[Any]:
        """Return the next value of each position's column."""
        children = column.children
        items = []
        for position in range(first, end):
            child = children.get(position)
            if child is None:
                child = children[position] = self._new_column()
            token = child.values[child.position]
            if type(token) is int:
                child.position += 1
                child.last += token
                items.append(child.last)
            else:
                items.append(self.take(child))
        return items

    def _expand(self, column: Column, token: list[Any]) -> Any:
        code = token[0]
        if code == _LIST_OF_LIKE:
            child = self.child(column, None)
            return tuple([self.take(child) for _ in range(token[1])])
        if code == _ASSET:
            return self._book.value(ASSETS, token[1])
        if code == _KEY:
            return self._book.value(token[1], token[2])
        if code == _HASH:
            return self._hashes[token[1]]
        if code == _APART:
            return self.take_fixed(token[1])
        return token[1]

    def take_plain(self, column: Column) -> Any:
        """Return what `put_plain` added."""
        token = column.values[column.position]
        column.position += 1
        return token

    def take_key(self, column: Column, space: int) -> bytes:
        """Return what `put_key` added."""
        return self._book.value(space, self.take_plain(column))

    def take_fixed(self, size: int) -> bytes:
        """Return the next of the bytes kept apart."""
        start = self._offset
        self._offset = end = start + size
        if end > len(self._data):
            raise ColumnsError("bytes are missing at the end")
        return self._data[start:end]

    def take_packed(self, column: Column) -> bytes:
        """Return what `put_packed` added."""
        tag = self.take_plain(column)
        kind = self.child(column, tag)
        length = self.take(kind)
        values = [tag, self.take_key(self.child(kind, 1), _AUTHORS + tag)]
        values += self._take_items(kind, 2, length)
        return _encode(values)

    def take_votes(self, column: Column) -> bytes:
        """Return what `put_votes` added."""
        token = self.take_plain(column)
        indexes: Iterable[int] = token[1:]
        if token[0] == _MASK:
            indexes = _bits(int.from_bytes(token[1]))
        return b"".join([index.to_bytes(2) + self.take_fixed(64) for index in indexes])


def _bits(mask: int) -> Iterable[int]:
    """Return the positions of the set bits, ascending."""
    return [position for position in range(mask.bit_length()) if mask >> position & 1]
