"""The entries in the plain bytes of one flush."""

import hashlib
import struct

from note import Fault

FIXED, PART_FIXED, PART_ROW, PARTS_MAX, HASH = 63, 6, 38, 16, 32
ITEM_MAX = 80 << 20
HAS_EXCHANGE, HAS_SESSION = 1, 2
START, STOP, SEAL_KEY, ROTATION = 1, 14, 20, 21
DETAIL, SEALED_PART = 7, 8


def sha256(*parts):
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.digest()


def check_fields(fixed, sequence):
    """The fixed fields of an entry header; gives its kind and the number of its parts."""
    header_length, version, kind, seen = struct.unpack_from("<HBBQ", fixed)
    flags, parts = struct.unpack_from("<HB", fixed, 60)
    if version != 1:
        raise Fault(f"entry header of version {version}")
    if seen != sequence:
        raise Fault(f"entry {seen} stands where {sequence} should")
    if flags & ~(HAS_EXCHANGE | HAS_SESSION):
        raise Fault("an entry with an unknown flag")
    if not flags & HAS_EXCHANGE and any(fixed[12:27]):
        raise Fault("an exchange id without its flag")
    if not flags & HAS_SESSION and any(fixed[27:37]):
        raise Fault("a session id without its flag")
    if parts > PARTS_MAX or header_length != FIXED + PART_ROW * parts:
        raise Fault("an entry header has not the length of what it holds")
    return kind, parts


class Items:
    """Reads the plain bytes of one flush."""

    def __init__(self, plain):
        self.plain = plain
        self.at = 0
        self.first_kind = None
        self.sequence = None
        # The detail parts of the rotations, None where there is none.
        self.rotations = []
        # Sequence, kind and bytes of what tells of data keys: seal-key entries (None: no detail) and
        # sealed parts (None: not the last row).
        self.sealing = []

    def take(self, length):
        self.at += length
        if self.at > len(self.plain):
            raise Fault("an item spans two flushes")
        return self.plain[self.at - length : self.at]

    def presence(self):
        presence = self.take(1)[0]
        if presence > 1:
            raise Fault("a part is neither present nor withheld")
        return presence == 1

    def tell(self, kind, parts):
        """Remembers what needs more than this entry to judge. `parts`: kind and bytes, None if not stored."""
        kinds = [kind for kind, _ in parts]
        if kind in (ROTATION, SEAL_KEY):
            detail = parts[kinds.index(DETAIL)][1] if DETAIL in kinds else None
            if kind == ROTATION:
                self.rotations.append(detail)
            else:
                self.sealing.append((self.sequence, DETAIL, detail))
        if SEALED_PART in kinds:
            row = kinds.index(SEALED_PART)
            if row + 1 != len(parts):
                self.sealing.append((self.sequence, SEALED_PART, None))
            elif parts[row][1] is not None:
                self.sealing.append((self.sequence, SEALED_PART, parts[row][1]))

    def entry(self, sequence):
        """An entry: its header and its kind."""
        fixed = self.take(FIXED)
        kind, parts = check_fields(fixed, sequence)
        rows = [self.take(PART_ROW) for _ in range(parts)]
        seen = []
        for row in rows:
            length = part_length(row)
            if not self.presence():
                seen.append((row[0], None))
                continue
            salted = self.take(HASH + length)
            if sha256(salted) != row[PART_FIXED:]:
                raise Fault("a part is not what its commitment says")
            seen.append((row[0], salted[HASH:]))
        self.tell(kind, seen)
        return fixed + b"".join(rows), kind

    def compact(self, sequence):
        """A compact entry: the header that it stands for, and its kind."""
        fixed = self.take(FIXED)
        kind, parts = check_fields(fixed, sequence)
        rows = [self.take(PART_FIXED) for _ in range(parts)]
        seed = self.take(HASH)
        header, seen = [fixed], []
        for number, row in enumerate(rows):
            if self.presence():
                salt = sha256(b"stenograph salt v2", seed, bytes([number]))
                part = self.take(part_length(row))
                header += [row, sha256(salt, part)]
                seen.append((row[0], part))
            else:
                header += [row, self.take(HASH)]
                part_length(row)
                seen.append((row[0], None))
        self.tell(kind, seen)
        return b"".join(header), kind

    def read(self, version, tree):
        """Adds the entries to the tree; gives their count and the kind of the last."""
        count, kind = 0, None
        if not self.plain:
            raise Fault("a mark without an entry before it")
        while self.at < len(self.plain):
            begin = self.at
            self.sequence = tree.size
            item = self.take(1)
            if item == b"E":
                header, kind = self.entry(tree.size)
            elif item == b"C" and version >= 2:
                header, kind = self.compact(tree.size)
            else:
                raise Fault("neither an entry nor a mark")
            if self.at - begin > ITEM_MAX:
                raise Fault(f"an entry of {self.at - begin} bytes, at most {ITEM_MAX} are allowed")
            tree.add(header)
            self.first_kind = self.first_kind or kind
            count += 1
        return count, kind


def part_length(row):
    _, zero, length = struct.unpack_from("<BBI", row)
    if zero:
        raise Fault("a part row with a byte that is not zero")
    return length


def ends_item(plain):
    """Whether the plain bytes end where an item does, as far as lengths tell. A data block may look
    like a mark block; a mark stands between items only."""
    at = 0
    while at < len(plain):
        compact = plain[at] == ord("C")
        rows, row_length = at + 1 + FIXED, PART_FIXED if compact else PART_ROW
        if len(plain) < rows:
            return False
        ends = rows + row_length * plain[rows - 1]
        at = ends + (HASH if compact else 0)
        for row in range(rows, ends, row_length):
            length = int.from_bytes(plain[row + 2 : row + PART_FIXED], "little")
            present = plain[at : at + 1] == b"\1"
            if compact:
                at += 1 + (length if present else HASH)
            else:
                at += 1 + (HASH + length if present else 0)
    return at == len(plain)
