"""Sealed parts and the files of the data keys they are sealed under, as far as they can be checked
without opening one."""

import hashlib
import json
import re

from entry import DETAIL
from note import Fault

ID = re.compile(r"[0-9a-f]{32}", re.ASCII)
DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
SEALED_MIN = 83
ID_AT, ID_LENGTH = 2, 16


def read_key(detail):
    """The id and the digest of the key file that a seal-key entry tells."""
    try:
        told = json.loads(detail.decode("utf-8"), parse_constant=int)
        key, digest, recipients = told["key"], told["file"], told["recipients"]
        texts = [key, digest, *recipients, told.get("session") or ""]
        if not isinstance(recipients, list) or not all(isinstance(text, str) for text in texts):
            raise ValueError
        if not ID.fullmatch(key) or not DIGEST.fullmatch(digest):
            raise ValueError
    except (AttributeError, ValueError, KeyError, TypeError, RecursionError):
        raise Fault("a seal-key entry that does not tell a key and its file") from None
    return key, digest


def read_sealed(part):
    """The id of the data key of a sealed part."""
    if part is None:
        raise Fault("a sealed part that is not the last row")
    if len(part) < SEALED_MIN or part[:2] != b"\1\0":
        raise Fault("a sealed part of another form")
    return part[ID_AT : ID_AT + ID_LENGTH].hex()


def judge(verdict, segments, key_files):
    """Adds to the verdict what is wrong; gives the ids of erased keys and the names of foreign files."""
    told = {}
    for number in sorted(segments):
        for first, last, sequence, kind, part in segments[number].sealing:
            try:
                if kind == DETAIL:
                    key, digest = read_key(part)
                    told[key] = digest
                    file = key_files.get(f"{key}.age")
                    if file is not None and hashlib.sha256(file).hexdigest() != digest:
                        raise Fault(f"the key file {key}.age is not the one that was written")
                elif read_sealed(part) not in told:
                    raise Fault("sealed under a key that no entry before it tells")
            except Fault as fault:
                verdict.damaged(number, sequence, first, last, str(fault))
    erased = sorted(key for key in told if f"{key}.age" not in key_files)
    foreign = sorted(key_files.keys() - {f"{key}.age" for key in told})
    return erased, foreign
