#!/usr/bin/env python3
"""A second verifier of the record, written from the format document alone: the `//!` of
src/record/format.rs. Shares no code with the gateway.

Usage: verify.py DIRECTORY [--key VKEY|FILE] [--witness VKEY|FILE]… [--since CHECKPOINT]…
Prints one JSON object like `stenograph verify --json`. Exit code 0: intact; 1: not, or no key given;
2: usage; 4: something could not be read.
"""

import argparse
import json
import os
import sys
from pathlib import Path

import note
import record


def read_key(argument, algorithm=note.ED25519):
    if argument is None:
        return None
    text = argument if "+" in argument else Path(argument).read_text()
    return note.Key.parse(text, algorithm)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("directory", type=Path, help="directory of the record")
    parser.add_argument("--key", help="the log's verifier key, as text or as a file that holds it")
    parser.add_argument("--witness", action="append", default=[], help="a witness's verifier key")
    parser.add_argument("--since", action="append", default=[], type=Path, help="a checkpoint kept elsewhere")
    arguments = parser.parse_args()
    try:
        key = read_key(arguments.key)
        witnesses = [read_key(text, note.COSIGNATURE) for text in arguments.witness]
    except (note.Fault, OSError) as fault:
        print(f"verify.py: --key: {fault}", file=sys.stderr)
        return 2
    try:
        folder = arguments.directory / "segments"
        files = {name: (folder / name).read_bytes() for name in os.listdir(folder)}
        folder = arguments.directory / "keys"
        names = os.listdir(folder) if folder.is_dir() else []
        key_files = {name: (folder / name).read_bytes() for name in names if not name.endswith(".new")}
        verdict = record.verify(files, key, witnesses, key_files)
        verdict.since = [verdict.continues(file.read_bytes()) for file in arguments.since]
    except OSError as fault:
        print(f"verify.py: {fault}", file=sys.stderr)
        return 4
    print(json.dumps(verdict.object(), ensure_ascii=True))
    return 0 if verdict.object()["intact"] else 1


if __name__ == "__main__":
    sys.exit(main())
