"""Writes segments as somebody can who holds the signing key: any byte may be set, and chain, tree and
signatures fit it again."""

import base64
import hashlib
import json
import struct

import ed25519
import note
import segment as format
from entry import sha256
from tree import Tree

NAME, SEED = "log.example", bytes([7] * 32)
TIME = "2026-11-18T11:06:40.000000007Z"
START, STOP, ROTATION, REQUEST, BODY, DETAIL = 1, 14, 21, 3, 4, 7


def scalar_product(scalar, point):
    product = ed25519.NEUTRAL
    for bit in bin(scalar)[2:]:
        product = ed25519.double(product)
        if bit == "1":
            product = ed25519.add(product, point)
    return product


def encode_point(point):
    inverse = pow(point[2], ed25519.P - 2, ed25519.P)
    x, y = point[0] * inverse % ed25519.P, point[1] * inverse % ed25519.P
    return (y | (x & 1) << 255).to_bytes(32, "little")


class Signer:
    """Ed25519 (RFC 8032 §5.1.6), for tests only: not in constant time."""

    def __init__(self, name, seed, algorithm=note.ED25519):
        self.seed = seed
        digest = hashlib.sha512(seed).digest()
        number = int.from_bytes(digest[:32], "little")
        self.scalar = number & ((1 << 254) - 8) | 1 << 254
        self.prefix = digest[32:]
        public = encode_point(scalar_product(self.scalar, ed25519.BASE))
        self.key = note.Key(name, algorithm, public)

    def sign(self, message):
        r = int.from_bytes(hashlib.sha512(self.prefix + message).digest(), "little")
        encoded = encode_point(scalar_product(r % ed25519.ORDER, ed25519.BASE))
        hashed = hashlib.sha512(encoded + self.key.public + message).digest()
        s = r + int.from_bytes(hashed, "little") * self.scalar
        return encoded + (s % ed25519.ORDER).to_bytes(32, "little")


LOG, OTHER = Signer(NAME, SEED), Signer(NAME, bytes([8] * 32))
WITNESS = Signer("witness.example", bytes([9] * 32), note.COSIGNATURE)


def encode(data):
    return base64.b64encode(data).decode()


def signature_line(text, signer=LOG, name=NAME, key_hash=None, signature=None):
    signed = (key_hash or signer.key.hash) + (signature or signer.sign(text.encode()))
    return f"\u2014 {name} {encode(signed)}\n"


def cosigned(note, signer=None, seconds=1_795_000_000):
    """The line of a witness for a note."""
    signer = signer or WITNESS
    text = note[: note.rindex("\n\n") + 1]
    signature = signer.sign(f"cosignature/v1\ntime {seconds}\n{text}".encode())
    return f"\u2014 {signer.key.name} {encode(signer.key.hash + seconds.to_bytes(8, 'big') + signature)}\n"


def skippable(magic, payload):
    return struct.pack("<II", magic, len(payload)) + payload


def raw(content, last=False):
    return (len(content) << 3 | last).to_bytes(3, "little") + content


def entry(sequence, *bodies, kind=REQUEST, compact=False, **other):
    """A plain entry. `other` replaces fields: length, version, exchange, session, flags, parts, zero,
    presence, stored (whether the part is), salted (what the commitments are made of), part_kind."""
    row_length = format.HASH + 6
    salts = [sha256(b"salt", bytes([i]), struct.pack("<Q", sequence)) for i in range(len(bodies))]
    seed = sha256(b"seed", struct.pack("<Q", sequence))
    if compact:
        salts = [sha256(b"stenograph salt v2", seed, bytes([i])) for i in range(len(bodies))]
    fixed = struct.pack(
        "<HBBQ15s10sIQQBHHB",
        other.get("length", 63 + row_length * len(bodies)),
        other.get("version", 1),
        kind,
        sequence,
        other.get("exchange", bytes(15)),
        other.get("session", bytes(10)),
        0,
        1_795_000_000_000_000_000,
        5,
        0,
        0,
        other.get("flags", 0),
        other.get("parts", len(bodies)),
    )
    presence = other.get("presence", 1)
    header, rows, stored = fixed, b"", b""
    for salt, body in zip(salts, bodies):
        row = struct.pack("<BBI", other.get("part_kind", BODY), other.get("zero", 0), len(body))
        commitment = sha256(salt, other.get("salted", body))
        header += row + commitment
        rows += row if compact else row + commitment
        stored += bytes([presence])
        if other.get("stored", presence):
            stored += body if compact else salt + body
        elif compact:
            stored += commitment
    plain = b"C" + fixed + rows + seed + stored if compact else b"E" + fixed + rows + stored
    return plain, header


class Forger:
    """Writes segments one after the other; every method computes what follows anew."""

    def __init__(self, version=2):
        self.version = version
        self.files = {}
        self.signer = LOG
        # What was signed so far, as it stands in the frames.
        self.notes = []
        self.tree = Tree()
        self.number = 0
        self.end, self.kept, self.chain_of_file = format.NONE, 0, format.ZEROS
        self.residue = b""

    def segment(self, **other):
        """Begins a segment. `other` replaces fields of the header."""
        origin = other.get("origin", NAME.encode())
        peaks = other.get("peaks", self.tree.peaks)
        payload = struct.pack(
            "<8sHBBIQQQ16sQQ32s32sBB",
            other.get("magic", b"STENOSEG"),
            other.get("version", self.version),
            other.get("end", self.end),
            other.get("origin_length", len(origin)),
            other.get("number", self.number),
            other.get("size", self.tree.size),
            other.get("created", 5),
            5,
            bytes([0xB0] * 16),
            other.get("kept", self.kept),
            other.get("residue", len(self.residue)),
            other.get("digest", sha256(self.residue) if self.residue else format.ZEROS),
            other.get("chain", self.chain_of_file),
            other.get("peak_count", len(peaks)),
            other.get("zero", 0),
        )
        payload += origin + b"".join(peaks) + other.get("behind_peaks", b"")
        head = struct.pack("<II", other.get("frame", format.HEADER), len(payload) + 32) + payload
        self.chain = other.get("chain_0") or sha256(b"stenograph chain v1", head)
        self.file = head + self.chain
        self.chain_at = len(self.file)
        self.open = False
        self.residue = b""
        return self

    def chain_point(self):
        self.chain = sha256(self.chain, self.file[self.chain_at :])
        self.chain_at = len(self.file)
        return self.chain

    def blocks(self, *blocks, head=format.FRAME_HEAD):
        if not self.open:
            self.file += head
            self.open = True
        self.file += b"".join(blocks)
        return self

    def mark(self, head=format.MARK_HEAD, letter=b"M", chain=None):
        self.file += head + letter + (chain or self.chain_point())
        return self

    def flush(self, *entries, **head):
        plain = b"".join(plain for plain, _ in entries)
        for _, header in entries:
            self.tree.add(header)
        self.blocks(*([raw(plain)] if plain else []), **head)
        return self.mark()

    def requests(self, *bodies, **other):
        size = self.tree.size
        return self.flush(*(entry(size + at, body, **other) for at, body in enumerate(bodies)))

    def frame_end(self, end=format.FRAME_END):
        if self.open:
            self.file += end
            self.open = False
        return self

    def frame(self, payload, magic):
        self.frame_end()
        self.file += skippable(magic, payload)
        return self

    def checkpoint(self, change=lambda text: text, lines=None, sealed=False, note=None, **other):
        """`change`: of the text before it is signed; `lines`: the signature lines of a text; `note`:
        of the whole note when it is signed."""
        lines = lines or (lambda text: signature_line(text, self.signer))
        self.frame_end()
        offset = len(self.file)
        fields = {
            "origin": NAME,
            "size": self.tree.size,
            "root": encode(self.tree.root()),
            "segment": self.number,
            "offset": offset,
            "chain": encode(self.chain_point()),
            "time": TIME,
        }
        fields.update(other)
        text = "{origin}\n{size}\n{root}\nchain {segment} {offset} {chain}\ntime {time}\n".format(**fields)
        text = change(text + ("sealed\n" if sealed else ""))
        whole = text + "\n" + lines(text)
        self.notes.append(whole)
        payload = (note(whole) if note else whole).encode("utf-8", "surrogateescape")
        return self.frame(payload, format.CHECKPOINT)

    def index(self, text='{"version":1}'):
        return self.frame(text.encode("utf-8", "surrogateescape"), format.INDEX)

    def cosignature(self, note=None, lines=None):
        """Of the last checkpoint, or of another note."""
        note = (note or self.notes[-1]) + (cosigned(self.notes[-1]) if lines is None else lines)
        return self.frame(note.encode(), format.COSIGNATURE)

    def rotation(self, old, new, first=START, **other):
        """A flush of a start entry and a rotation; from here on `new` signs."""
        root = encode(self.tree.root())
        fields = {"size": self.tree.size, "root": root, "name": NAME}
        fields.update(other)
        lines = ("stenograph key rotation v1", fields["name"], fields["size"], fields["root"], old.key, new.key)
        statement = "".join(f"{line}\n" for line in lines)
        detail = {
            "old": str(old.key),
            "new": str(new.key),
            "size": fields["size"],
            "statement": statement,
            "old_signature": encode(old.sign(statement.encode())),
            "new_signature": encode(new.sign(statement.encode())),
        }
        detail.update({name: value for name, value in fields.items() if name in detail})
        size = self.tree.size
        said = entry(size + 1, json.dumps(detail).encode(), kind=ROTATION, part_kind=DETAIL, compact=self.version > 1)
        self.signer = new
        return self.flush(entry(size, kind=first), said)

    def seal(self, index='{"version":1}'):
        return self.index(index).checkpoint(sealed=True).keep(format.SEALED)

    def keep(self, end=format.TORN, kept=None, residue=b""):
        """Ends the segment: kept up to `kept` (its length), `residue` stands behind that."""
        self.kept = len(self.file) if kept is None else kept
        self.chain_of_file = sha256(self.chain, self.file[self.chain_at : self.kept])
        self.end, self.residue = end, self.file[self.kept :] + residue
        self.files[f"{self.number:08}.seg"] = self.file + residue
        self.number += 1
        return self

    def stop(self):
        return self.flush(entry(self.tree.size, kind=STOP))


def sealed_start(version=2):
    """A sealed segment 0 that is in order."""
    return Forger(version).segment().requests(b"one", b"two").checkpoint().seal()
