#!/usr/bin/env python3
"""Judges many damaged records in one process, for tests/record_second_verifier.rs.

Usage: cases.py CASES VERDICTS
CASES holds JSON Lines: records as `{"key": VKEY, "files": {NAME: BASE64}}`, numbered from 0 as they
come (files of the directory `keys` have names that begin with it), and cases as `[RECORD, HARM, ARGUMENT…]`. VERDICTS gets one line for each case.
"""

import base64
import json
import sys

import note
import record


def flip(files, name, bit):
    changed = bytearray(files[name])
    changed[bit // 8] ^= 1 << bit % 8
    files[name] = bytes(changed)


def cut(files, name, length):
    files[name] = files[name][:length]


def insert(files, name, at, hexed):
    files[name] = files[name][:at] + bytes.fromhex(hexed) + files[name][at:]


def remove(files, name):
    del files[name]


def copy(files, source, target):
    files[target] = files[source]


def move(files, source, target):
    files[target] = files.pop(source)


def swap(files, one, other):
    files[one], files[other] = files[other], files[one]


def replace(files, name, encoded):
    files[name] = base64.b64decode(encoded)


HARMS = {harm.__name__: harm for harm in (flip, cut, insert, remove, copy, move, swap, replace)}
HARMS["none"] = lambda files: None


KEYS = "keys/"
PLACE = ("segment", "entry", "offset", "end", "what")


def summary(verdict):
    inside = [one for one in verdict.damage if one["segment"] is not None]
    return {
        "intact": not verdict.damage,
        "damage": [[one[name] for name in PLACE] for one in inside],
        "strangers": len(verdict.damage) - len(inside),
        "segments": verdict.segments,
        "entries": verdict.entries,
        "checkpoints": verdict.checkpoints,
        "unsigned_entries": verdict.unsigned_entries,
        "root": verdict.tree.root().hex(),
        "gaps": [one["segment"] for one in verdict.gaps],
        "erased": verdict.erased,
        "foreign": verdict.foreign,
    }


def main():
    records = []
    with open(sys.argv[1], encoding="utf-8") as cases, open(sys.argv[2], "w", encoding="utf-8") as out:
        for line in cases:
            line = json.loads(line)
            if isinstance(line, dict):
                files = {name: base64.b64decode(file) for name, file in line["files"].items()}
                records.append((files, note.Key.parse(line["key"]) if line["key"] else None))
                continue
            base, harm, *arguments = line
            files, key = records[base]
            files = dict(files)
            HARMS[harm](files, *arguments)
            key_files = {name.removeprefix(KEYS): files.pop(name) for name in list(files) if name.startswith(KEYS)}
            key_files = {name: file for name, file in key_files.items() if not name.endswith(".new")}
            print(json.dumps(summary(record.verify(files, key, (), key_files))), file=out)


if __name__ == "__main__":
    main()
