"""Checkpoints as signed notes (c2sp.org/signed-note, c2sp.org/tlog-checkpoint), and the keys that
verify them."""

import base64
import datetime
import functools
import hashlib
import json
import re
from dataclasses import dataclass

import ed25519

ED25519, COSIGNATURE = 1, 4
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")
DECIMAL = re.compile(r"0|[1-9][0-9]*")
TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)\.\d{9}Z", re.ASCII)


class Fault(Exception):
    """Bytes that are not what the format says; the message says which rule."""


def decode_base64(text):
    """Standard alphabet, padding, zero trailing bits: the only spelling of these bytes."""
    try:
        decoded = base64.b64decode(text.encode("ascii"), validate=True)
    except ValueError:
        raise Fault("not base64") from None
    if base64.b64encode(decoded).decode() != text:
        raise Fault("base64 that is not canonical")
    return decoded


def decimal(text, what):
    if not DECIMAL.fullmatch(text) or int(text) >= 2**64:
        raise Fault(f"{what} is not a decimal number")
    return int(text)


def is_key_name(name):
    return bool(name) and "+" not in name and not any(char.isspace() for char in name)


@dataclass(frozen=True)
class Key:
    """A verifier key: `<name>+<key hash, 8 hex digits>+<base64(algorithm byte || key)>`."""

    name: str
    algorithm: int
    public: bytes

    @property
    def hash(self):
        spelled = self.name.encode() + b"\n" + bytes([self.algorithm]) + self.public
        return hashlib.sha256(spelled).digest()[:4]

    def __str__(self):
        public = base64.b64encode(bytes([self.algorithm]) + self.public).decode()
        return f"{self.name}+{self.hash.hex()}+{public}"

    @staticmethod
    def parse(text, algorithm=ED25519):
        fields = text.strip().split("+", 2)
        if len(fields) != 3 or not is_key_name(fields[0]):
            raise Fault("a verifier key is NAME+HASH+KEY")
        decoded = decode_base64(fields[2])
        if len(decoded) != 33 or decoded[0] != algorithm:
            raise Fault(f"not an Ed25519 key of 32 bytes behind algorithm {algorithm}")
        key = Key(fields[0], decoded[0], decoded[1:])
        if key.hash.hex() != fields[1]:
            raise Fault("the hash in the verifier key is not that of the key")
        if ed25519.decode_key(key.public) is None:
            raise Fault("the verifier key is not a canonical point of large order")
        return key


def split(payload):
    """The text that is signed, with its last newline, and the signature lines as (name, bytes)."""
    try:
        whole = payload.decode("utf-8")
    except UnicodeDecodeError:
        raise Fault("a note that is not UTF-8") from None
    if CONTROL.search(whole):
        raise Fault("a note with a control character")
    text, blank, signatures = whole.rpartition("\n\n")
    if not blank or not signatures.endswith("\n"):
        raise Fault("a note without a signature line")
    lines = []
    for line in signatures[:-1].split("\n"):
        fields = line.split(" ")
        if len(fields) != 3 or fields[0] != "\u2014" or not is_key_name(fields[1]):
            raise Fault("a signature line that is none")
        lines.append((fields[1], decode_base64(fields[2])))
    return text + "\n", lines


@functools.lru_cache(maxsize=4096)
def is_signed(key, signature, text):
    return ed25519.verify(key.public, signature, text.encode())


@dataclass(frozen=True)
class Checkpoint:
    origin: str
    size: int
    root: bytes
    segment: int
    offset: int
    chain: bytes
    sealed: bool


def is_time(text):
    fields = TIME.fullmatch(text)
    if not fields:
        return False
    try:
        datetime.datetime(*map(int, fields.groups()))
    except ValueError:
        return False
    return True


@dataclass(frozen=True)
class Rotation:
    """The old key and the new key say together that the one follows the other."""

    old: Key
    new: Key
    size: int
    statement: str
    old_signature: bytes
    new_signature: bytes

    def check(self, root):
        root = base64.b64encode(root).decode()
        lines = ("stenograph key rotation v1", self.old.name, self.size, root, self.old, self.new)
        if self.statement != "".join(f"{line}\n" for line in lines):
            raise Fault("a rotation that states something else")
        for key, signature in ((self.old, self.old_signature), (self.new, self.new_signature)):
            if not is_signed(key, signature, self.statement):
                raise Fault("a rotation that one of its keys did not sign")


def read_rotation(detail):
    """The rotation in the detail part of an entry."""
    if detail is None:
        raise Fault("a rotation whose detail is not there")
    try:
        told = json.loads(detail.decode("utf-8"), parse_constant=int)
        texts = [told[name] for name in ("old", "new", "statement", "old_signature", "new_signature")]
        size = told["size"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise Fault("a rotation that is not the object it should be") from None
    if not all(isinstance(text, str) for text in texts) or type(size) is not int:
        raise Fault("a rotation with a member of another type")
    old, new, statement, *signatures = texts
    decoded = [decode_base64(signature) for signature in signatures]
    return Rotation(Key.parse(old), Key.parse(new), size, statement, *decoded)


def hash_of(text, what):
    decoded = decode_base64(text)
    if len(decoded) != 32:
        raise Fault(f"{what} is not 32 bytes")
    return decoded


def read_text(text):
    """The checkpoint that the text of a note tells."""
    lines = text[:-1].split("\n")
    sealed = lines[-1] == "sealed"
    if sealed:
        lines.pop()
    if len(lines) != 5:
        raise Fault("a checkpoint has origin, size, root, chain and time, each on a line")
    chain, time = lines[3].split(" "), lines[4].split(" ")
    if len(chain) != 4 or chain[0] != "chain":
        raise Fault("the line of the chain is none")
    if len(time) != 2 or time[0] != "time" or not is_time(time[1]):
        raise Fault("the line of the time is none")
    return Checkpoint(
        origin=lines[0],
        size=decimal(lines[1], "the tree size"),
        root=hash_of(lines[2], "the root"),
        segment=decimal(chain[1], "the segment"),
        offset=decimal(chain[2], "the offset"),
        chain=hash_of(chain[3], "the chain"),
        sealed=sealed,
    )


def read_signed(payload):
    """The checkpoint of a note, its text, the log's signature (key hash || signature), and the lines of
    witnesses behind it as (name, bytes)."""
    text, signatures = split(payload)
    checkpoint = read_text(text)
    name, signature = signatures[0]
    if name != checkpoint.origin:
        raise Fault("signed by another name than the origin")
    if len(signature) != 68:
        raise Fault("a signature is a key hash of 4 bytes and 64 bytes")
    return checkpoint, text, signature, signatures[1:]


def read_checkpoint(payload):
    """The same of a note that only the log has signed."""
    checkpoint, text, signature, more = read_signed(payload)
    if more:
        raise Fault("a checkpoint carries exactly one signature")
    return checkpoint, text, signature


def read_kept(payload, key):
    """Origin, size, root and chain point (None: not of this program, or of nothing) of a checkpoint kept
    elsewhere, whoever else signed it, and whether `key` (None: nobody asks) did."""
    text, signatures = split(payload)
    lines = text[:-1].split("\n")
    if len(lines) < 3 or not all(lines):
        raise Fault("a checkpoint has origin, size and root, each on a line")
    size, root = decimal(lines[1], "the tree size"), hash_of(lines[2], "the root")
    signed = key is None or any(
        (name, line[:4]) == (key.name, key.hash) and is_signed(key, line[4:], text)
        for name, line in signatures
    )
    try:
        own = read_text(text)
        chain = (own.segment, own.offset, own.chain) if own.size else None
    except Fault:
        chain = None
    return lines[0], size, root, chain, signed


def is_cosigned(witness, line, text):
    """Whether a line that bears the name and key hash of a witness is its cosignature of the text."""
    if len(line) != 4 + 8 + 64:
        return False
    seconds = int.from_bytes(line[4:12], "big")
    return is_signed(witness, line[12:], f"cosignature/v1\ntime {seconds}\n{text}")
