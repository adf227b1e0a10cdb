"""A whole record: its segments in order and how they join."""

import base64
import functools
import re
from dataclasses import dataclass, field

import segment as segments
from entry import STOP, sha256
from segment import DAMAGED, NONE, SEALED, TORN, ZEROS
from tree import Tree

SEGMENT_NAME = re.compile(r"[0-9]{8}\.seg", re.ASCII)


@dataclass
class Verdict:
    """What is known of a record. `damage` and `gaps` are in order of segment and offset."""

    key: str | None
    origin: str | None = None
    segments: int = 0
    entries: int = 0
    checkpoints: int = 0
    unsigned_entries: int = 0
    tree: Tree = field(default_factory=Tree)
    damage: list = field(default_factory=list)
    gaps: list = field(default_factory=list)

    def damaged(self, segment, entry, offset, end, what):
        self.damage.append(
            {"segment": segment, "entry": entry, "offset": offset, "end": end, "what": what}
        )

    def gap(self, segment, offset, what):
        self.gaps.append({"segment": segment, "offset": offset, "what": what})

    def object(self):
        """The object that `stenograph verify --json` gives, as far as the format fixes it."""
        gaps = list(self.gaps)
        if self.unsigned_entries:
            what = f"{self.unsigned_entries} entries behind the last checkpoint are not signed"
            gaps.append({"segment": self.segments - 1, "offset": 0, "what": what})
        return {
            "intact": not self.damage and self.key is not None,
            "consistent": not self.damage,
            "key": self.key,
            "origin": self.origin,
            "segments": self.segments,
            "entries": self.entries,
            "checkpoints": self.checkpoints,
            "unsigned_entries": self.unsigned_entries,
            "size": self.tree.size,
            "root": base64.b64encode(self.tree.root()).decode(),
            "damage": self.damage,
            "gaps": gaps,
        }


# Why: what a damage to one file leaves alone need not be read again for each damage.
@functools.lru_cache(maxsize=64)
def read_cached(data, key):
    return segments.read_segment(data, key)


def verify(files, key):
    """Judges a record. `files`: the names and contents of the directory `segments`."""
    verdict = Verdict(key=str(key) if key else None)
    numbers = set()
    for name in sorted(files):
        if SEGMENT_NAME.fullmatch(name):
            numbers.add(int(name[:8]))
        elif not name.endswith(".new"):
            verdict.damaged(None, None, None, None, f"a file that is no segment: {name!r}")
    if not numbers:
        raise FileNotFoundError("there is no segment file")
    newest = max(numbers)
    whole = {
        number: read_cached(files[f"{number:08}.seg"], key) for number in numbers
    }
    tree, known = Tree(), True
    for number in range(newest + 1):
        if number not in numbers:
            verdict.damaged(number, tree.size, 0, 0, "segment file is missing")
            known = False
            continue
        data = files[f"{number:08}.seg"]
        following = whole[number + 1].header if number + 1 in whole else None
        tree, known = judge(verdict, data, whole[number], number, following, number == newest,
                            tree, known, whole.get(number - 1), key)
    return verdict


def judge(verdict, data, seen, number, following, is_newest, tree, known, before, key):
    """Adds one segment to the verdict. Gives the tree behind it, and whether that is sure."""
    verdict.segments += 1
    header = seen.header
    if header is None:
        first, last, what = seen.damage
        verdict.damaged(number, None, first, last, what)
        return tree, False
    wrong = wrong_header(verdict, header, number, tree if known else None, key)
    if wrong:
        verdict.damaged(number, None, 0, header.length, wrong)
        known = False
    if following is not None and following.number == number + 1:
        kept = following.kept
        wrong = wrong_end(data, seen, following)
        if wrong:
            offset, what = wrong
            verdict.damaged(number, seen.tree.size, offset, len(data), what)
            known = False
            return Tree(following.tree.size, following.tree.peaks), False
        if following.previous_end == TORN:
            if kept < seen.length:
                seen = read_cached(data[:kept], key)
            verdict.gap(number, kept, f"torn: {following.residue} bytes behind this point were given up")
    elif seen.damage:
        first, last, what = seen.damage
        verdict.damaged(number, seen.tree.size, first, last, what)
        known = False
    verdict.origin = verdict.origin or header.origin
    verdict.entries += seen.entries
    verdict.checkpoints += seen.checkpoints
    if seen.signed_size is not None:
        verdict.unsigned_entries = seen.tree.size - seen.signed_size
    else:
        verdict.unsigned_entries += seen.entries
    verdict.tree = seen.tree
    if is_newest and not seen.damage:
        newest_gap(verdict, seen, number)
    return seen.tree, known and not seen.damage


def newest_gap(verdict, seen, number):
    if not seen.sealed:
        verdict.gap(number, seen.length, "ended without a seal")
    elif seen.last_kind != STOP:
        what = "sealed without a final stop entry: newer segments may be missing"
        verdict.gap(number, seen.length, what)


def wrong_header(verdict, header, number, tree, key):
    """What in the header does not fit the place where it stands, or None."""
    if header.number != number:
        return f"the header is that of segment {header.number}"
    if (header.previous_end == NONE) != (number == 0):
        return "exactly segment 0 has no previous segment"
    if number == 0 and (header.kept, header.residue, header.previous_chain) != (0, 0, ZEROS):
        return "segment 0 tells of a previous file"
    if header.residue == 0 and header.residue_digest != ZEROS:
        return "a digest of no residue"
    if header.previous_end == SEALED and header.residue:
        return "a residue behind a seal"
    if verdict.origin not in (None, header.origin):
        return "another origin than in the segments before"
    if key and header.origin != key.name:
        return f"the log is {header.origin!r}, the key is of {key.name!r}"
    if tree is not None and not header.tree.is_same(tree):
        return "the tree in the header is not that of the entries before"
    return None


def wrong_end(data, seen, following):
    """How the file contradicts what the next header says of it: (offset, rule), or None."""
    kept, residue = following.kept, following.residue
    if following.previous_end == DAMAGED:
        return seen.last_point, "damaged when the next segment was begun"
    if kept not in seen.points:
        first, _, what = seen.damage or (min(kept, seen.length), None, "kept to where no point is")
        return first, what
    if following.previous_end == SEALED and not (seen.sealed and kept == seen.length):
        first, _, what = seen.damage or (seen.length, None, "not ended by the seal the next header tells of")
        return first, what
    if kept + residue != len(data):
        return min(kept + residue, len(data)), "not as long as the next header says"
    if residue and sha256(data[kept:]) != following.residue_digest:
        return kept, "the residue is not the one the next header tells of"
    if seen.points[kept] != following.previous_chain:
        return seen.header.length, "the chain that the next header carries on is not that of this file"
    return None
