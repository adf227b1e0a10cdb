"""One segment file, read alone: frames, marks, chain, entries, checkpoints. How segments join is
judged in record.py."""

import dataclasses
import json
import struct
from dataclasses import dataclass, field

import zstandard

import note
from entry import START, Items, ends_item, sha256
from note import Fault
from tree import Tree

HEADER, CHECKPOINT, INDEX, COSIGNATURE = 0x184D2A50, 0x184D2A51, 0x184D2A52, 0x184D2A53
MAGIC = b"STENOSEG"
VERSIONS = (1, 2)
NONE, SEALED, TORN, DAMAGED = 0, 1, 2, 3
ENDS = (NONE, SEALED, TORN, DAMAGED)
HEADER_FIXED, HASH = 138, 32
FRAME_HEAD = bytes.fromhex("28b52ffd0040")
FRAME_END = bytes.fromhex("010000")
MARK_HEAD = bytes.fromhex("080100")
MARK = len(MARK_HEAD) + 1 + HASH
RAW, RLE, COMPRESSED = 0, 1, 2
BLOCK_MAX = 128 * 1024
WINDOW = 1 << 18
PAYLOAD_MAX = 1 << 20
COSIGNATURE_MAX = 8 << 10
ZEROS = bytes(32)


@dataclass
class Header:
    version: int
    previous_end: int
    number: int
    origin: str
    kept: int
    residue: int
    residue_digest: bytes
    previous_chain: bytes
    tree: Tree
    length: int
    chain: bytes


@dataclass
class Segment:
    """What the reading of a file gave. `points`: where it may be kept, each with the chain over all
    bytes up to there and the tree size. `damage`: (first byte in doubt, last byte in doubt, rule) or None."""

    length: int
    header: Header | None = None
    points: dict = field(default_factory=dict)
    last_point: int = 0
    entries: int = 0
    checkpoints: int = 0
    signed_size: int | None = None
    sealed: bool = False
    last_kind: int | None = None
    tree: Tree | None = None
    # The leaf hashes of the entries.
    leaves: list = field(default_factory=list)
    damage: tuple | None = None
    # What needs more than this file to judge.
    signed: list = field(default_factory=list)
    rotations: list = field(default_factory=list)
    # Of entries that tell of data keys: first and last byte of the flush, sequence, kind of part, part.
    sealing: list = field(default_factory=list)
    # Of good cosignatures: the witness, and the size that it cosigned.
    cosigned: list = field(default_factory=list)


@dataclass
class Signed:
    """A checkpoint frame, or a cosignature frame with its lines of `witnesses`; `before`: what was read
    before it."""

    at: int
    end: int
    text: str
    signature: bytes
    witnesses: list | None
    before: dict


class Doubt(Fault):
    """Bytes that are not as written, and between which offsets they lie."""

    def __init__(self, first, last, what):
        super().__init__(what)
        self.first, self.last = first, last


class Short(Fault):
    """The file ends before what stands here does."""


def read_header(data):
    if len(data) < 8:
        raise Short("the file ends in its header")
    magic, length = struct.unpack_from("<II", data)
    if magic != HEADER:
        raise Fault("does not begin with a header frame")
    if length < HEADER_FIXED + HASH:
        raise Fault("the header has not the length of what it holds")
    if len(data) < 8 + HEADER_FIXED:
        raise Short("the file ends in its header")
    payload = data[8 : 8 + length]
    if payload[:8] != MAGIC:
        raise Fault("the header is not that of a segment")
    version, end, n = struct.unpack_from("<HBB", payload, 8)
    number, size = struct.unpack_from("<IQ", payload, 12)
    kept, residue = struct.unpack_from("<QQ", payload, 56)
    peaks, zero = payload[136], payload[137]
    if version not in VERSIONS:
        raise Fault(f"format version {version}, this reads {VERSIONS}")
    if end not in ENDS:
        raise Fault(f"the previous segment ended in an unknown way, {end}")
    if n == 0 or zero != 0:
        raise Fault("the header has an empty origin or a byte that is not zero")
    if residue == 0 and payload[72:104] != ZEROS:
        raise Fault("a digest of no residue")
    if end in (NONE, SEALED) and residue:
        raise Fault("a residue where there can be none")
    if peaks != size.bit_count():
        raise Fault("the number of peaks does not fit the tree size")
    if length != HEADER_FIXED + n + HASH * peaks + HASH:
        raise Fault("the header has not the length of what it holds")
    if len(payload) != length:
        raise Short("the file ends in its header")
    try:
        origin = payload[HEADER_FIXED : HEADER_FIXED + n].decode("utf-8")
    except UnicodeDecodeError:
        raise Fault("the origin is not UTF-8") from None
    whole = 8 + length
    if sha256(b"stenograph chain v1", data[: whole - HASH]) != data[whole - HASH : whole]:
        raise Fault("the header does not give its own chain value")
    at = HEADER_FIXED + n
    return Header(
        version=version,
        previous_end=end,
        number=number,
        origin=origin,
        kept=kept,
        residue=residue,
        residue_digest=payload[72:104],
        previous_chain=payload[104:136],
        tree=Tree(size, [payload[at + HASH * i : at + HASH * (i + 1)] for i in range(peaks)]),
        length=whole,
        chain=data[whole - HASH : whole],
    )


class Reader:
    """Reads the bytes of one file in order. No signature of a checkpoint is checked here."""

    def __init__(self, data):
        self.data = data
        self.segment = Segment(len(data))
        self.at = 0
        self.chain = ZEROS
        self.chain_at = 0

    def read(self):
        segment = self.segment
        try:
            segment.header = header = read_header(self.data)
            segment.tree = Tree(header.tree.size, header.tree.peaks)
            self.at = self.chain_at = header.length
            self.chain = header.chain
            self.point()
            while self.at < len(self.data):
                self.frame()
        except Doubt as fault:
            segment.damage = (fault.first, fault.last, str(fault))
        except Fault as fault:
            # What follows a broken rule cannot be told apart from it.
            segment.damage = (segment.last_point, len(self.data), str(fault))
        return segment

    def point(self):
        """The file may be kept up to here."""
        self.segment.last_point = self.at
        chain = sha256(self.chain, self.data[self.chain_at : self.at])
        self.segment.points[self.at] = (chain, self.segment.tree.size)

    def chain_point(self, at):
        """The chain value at a mark or checkpoint that begins at `at`."""
        self.chain = sha256(self.chain, self.data[self.chain_at : at])
        self.chain_at = at
        return self.chain

    def take(self, length):
        if self.at + length > len(self.data):
            raise Short("the file ends in the middle of a write")
        return self.data[self.at : self.at + length]

    def frame(self):
        if self.segment.sealed:
            raise Fault("bytes behind the seal")
        magic = self.take(4)
        if magic == FRAME_HEAD[:4]:
            self.data_frame()
            return
        magic, length = self.frame_head()
        while magic == COSIGNATURE and self.segment.header.version >= 2:
            self.cosignature(length)
            magic, length = self.frame_head()
            if magic not in (COSIGNATURE, INDEX, CHECKPOINT):
                raise Fault("nothing behind a cosignature that covers it")
        if magic == CHECKPOINT:
            self.checkpoint(length, may_seal=False)
        elif magic == INDEX:
            self.index(length)
            magic, length = self.frame_head()
            if magic != CHECKPOINT:
                raise Fault("no checkpoint behind the index")
            self.checkpoint(length, may_seal=True)
        else:
            raise Fault(f"no frame of this format: magic number {magic:#010x}")

    def frame_head(self):
        magic, length = struct.unpack("<II", self.take(8))
        if length > PAYLOAD_MAX:
            raise Fault(f"a frame of {length} bytes, at most {PAYLOAD_MAX} are allowed")
        return magic, length

    def data_frame(self):
        if self.take(len(FRAME_HEAD)) != FRAME_HEAD:
            raise Fault("a data frame that does not begin as every one does")
        decoder = zstandard.ZstdDecompressor(max_window_size=WINDOW).decompressobj()
        fed = self.at
        self.at += len(FRAME_HEAD)
        pending = b""
        behind_mark = False
        while True:
            if behind_mark and self.at == len(self.data):
                return
            head = self.take(3)
            value = int.from_bytes(head, "little")
            last, kind, size = value & 1, value >> 1 & 3, value >> 3
            if last:
                if head != FRAME_END or not behind_mark:
                    raise Fault("a frame may end only with an empty block behind a mark")
                self.at += 3
                self.point()
                return
            if kind > COMPRESSED or size > BLOCK_MAX:
                raise Fault("a block that RFC 8878 does not know")
            stored = 1 if kind == RLE else size
            self.take(3 + stored)
            looks_like_mark = head == MARK_HEAD and self.data[self.at + 3] == ord("M")
            if looks_like_mark:
                pending += self.decode(decoder, fed)
                fed = self.at
            if looks_like_mark and ends_item(pending):
                self.flush(pending)
                self.at += MARK
                self.decode(decoder, fed)
                fed, pending, behind_mark = self.at, b"", True
                self.point()
            else:
                self.at += 3 + stored
                behind_mark = False

    def decode(self, decoder, fed):
        try:
            return decoder.decompress(self.data[fed : self.at])
        except zstandard.ZstdError as fault:
            raise Fault(f"a block that does not decompress: {fault}") from None

    def flush(self, plain):
        before = self.chain_at
        mark = self.data[self.at + len(MARK_HEAD) + 1 : self.at + MARK]
        if self.chain_point(self.at) != mark:
            what = "the chain in the mark is not that of the bytes before it"
            raise Doubt(before, self.at + MARK, what)
        tree = Tree(self.segment.tree.size, self.segment.tree.peaks)
        items = Items(plain)
        count, kind = items.read(self.segment.header.version, tree)
        if self.segment.header.version >= 2:
            self.rotations(items)
            where = self.segment.last_point, self.at
            self.segment.sealing += [(*where, *one) for one in items.sealing]
        self.segment.tree = tree
        self.segment.leaves += tree.added
        self.segment.entries += count
        if count:
            self.segment.last_kind = kind

    def checkpoint(self, length, may_seal):
        payload = self.take(8 + length)[8:]
        segment, at, end, before = self.segment, self.at, self.at + 8 + length, self.chain_at
        chain = self.chain_point(at)
        try:
            checkpoint, text, signature = note.read_checkpoint(payload)
            self.check_place(checkpoint, may_seal)
        except Fault as fault:
            raise Doubt(segment.last_point, end, str(fault)) from None
        if checkpoint.chain != chain:
            what = "the chain in the checkpoint is not that of the bytes before it"
            raise Doubt(before, end, what)
        segment.signed.append(Signed(at, end, text, signature, None, self.before()))
        self.at = end
        segment.checkpoints += 1
        segment.signed_size = segment.tree.size
        segment.sealed = may_seal
        self.point()

    def cosignature(self, length):
        at = self.at
        if length > COSIGNATURE_MAX:
            raise Fault(f"a cosignature of {length} bytes, at most {COSIGNATURE_MAX} are allowed")
        payload = self.take(8 + length)[8:]
        checkpoint, text, signature, witnesses = note.read_signed(payload)
        if not witnesses:
            raise Fault("a cosignature without a witness")
        if checkpoint.origin != self.segment.header.origin:
            raise Fault("a cosignature of another log")
        if checkpoint.size > self.segment.tree.size:
            raise Fault("a cosignature of more entries than there are")
        self.at += 8 + length
        signed = Signed(at, self.at, text, signature, witnesses, self.before())
        self.segment.signed.append(signed)

    def before(self):
        """What the segment would be if it ended before the frame that is being read."""
        segment = self.segment
        names = ("last_point", "entries", "checkpoints", "signed_size", "last_kind", "tree")
        return {name: getattr(segment, name) for name in names}

    def rotations(self, items):
        """Remembers the rotations of a flush, and checks all that the key in force does not decide."""
        header = self.segment.header
        for detail in items.rotations:
            if self.segment.entries or items.first_kind != START:
                raise Fault("a key is rotated elsewhere than behind the start")
            rotation = note.read_rotation(detail)
            if rotation.old.name != header.origin or rotation.new.name != header.origin:
                raise Fault("a rotation between keys of another log")
            if rotation.size != header.tree.size:
                raise Fault("a rotation at another size of the tree")
            rotation.check(header.tree.root())
            self.segment.rotations.append(rotation)

    def check_place(self, checkpoint, may_seal):
        segment = self.segment
        if checkpoint.origin != segment.header.origin:
            raise Fault("a checkpoint of another log")
        if (checkpoint.segment, checkpoint.offset) != (segment.header.number, self.at):
            raise Fault("a checkpoint of another place")
        if checkpoint.size != segment.tree.size or checkpoint.root != segment.tree.root():
            raise Fault("the tree in the checkpoint is not that of the entries before it")
        if checkpoint.sealed != may_seal:
            raise Fault("the index and the sealed checkpoint stand together, at the end")

    def index(self, length):
        payload = self.take(8 + length)[8:]
        try:
            index = json.loads(payload.decode("utf-8"), parse_constant=int)
        except (ValueError, RecursionError):
            raise Fault("an index that is not JSON") from None
        version = index.get("version") if isinstance(index, dict) else None
        if type(version) is not int or version != 1:
            raise Fault("an index that is no object of version 1")
        self.at += 8 + length


def read_segment(data):
    return Reader(data).read()


def broken_at(segment, signed, what):
    """The segment as far as it goes before a signature that does not fit."""
    before = dict(signed.before)
    points = {at: point for at, point in segment.points.items() if at <= before["last_point"]}
    damage = (before["last_point"], signed.end, what)
    return dataclasses.replace(segment, points=points, damage=damage, sealed=False, **before)


def check_signatures(segment, key, witnesses, earlier):
    """The segment once its signatures have been checked. `earlier` holds the texts of the checkpoints
    before, as far as cosignatures may tell of them, and is continued; None: they are not known."""
    segment = dataclasses.replace(segment, cosigned=[])
    for signed in segment.signed:
        is_ours = signed.signature[:4] == key.hash if key else True
        if key and not (is_ours and note.is_signed(key, signed.signature[4:], signed.text)):
            return broken_at(segment, signed, "a checkpoint that the key did not sign")
        if signed.witnesses is None:
            if earlier is not None:
                earlier.append(signed.text)
            continue
        if earlier is not None and signed.text not in earlier:
            return broken_at(segment, signed, "a cosignature of no checkpoint of this record")
        for witness in witnesses:
            for name, line in signed.witnesses:
                if (name, line[:4]) == (witness.name, witness.hash):
                    if not note.is_cosigned(witness, line, signed.text):
                        return broken_at(segment, signed, f"{name} did not cosign this")
                    segment.cosigned.append((witness, note.read_text(signed.text).size))
    return segment
