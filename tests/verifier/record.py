"""A whole record: its segments in order and how they join."""

import base64
import collections
import functools
import re
from dataclasses import dataclass, field

import note
import seal
import segment as segments
from entry import STOP, sha256
from segment import DAMAGED, NONE, SEALED, TORN, ZEROS
from tree import Tree, root_of

SEGMENT_NAME = re.compile(r"[0-9]{8}\.seg", re.ASCII)


# How many checkpoints back a cosignature may come.
COSIGNED_MAX = 4096


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
    # Ids of data keys whose files are gone, and names of files that are of no data key.
    erased: list = field(default_factory=list)
    foreign: list = field(default_factory=list)
    gaps: list = field(default_factory=list)
    keys: list = field(default_factory=list)
    leaves: list = field(default_factory=list)
    # Segment, offset and chain of the checkpoints and of the end of each segment.
    chains: set = field(default_factory=set)
    # For each witness that was asked for: how often it cosigned, and the size that it cosigned last.
    witnessed: dict = field(default_factory=dict)
    # For each checkpoint kept elsewhere: whether the record continues it.
    since: list = field(default_factory=list)

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
        outside = all(self.since) and all(count for count, _ in self.witnessed.values())
        cosigned = [size for _, size in self.witnessed.values() if size is not None]
        return {
            "intact": not self.damage and self.key is not None and outside,
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
            "erased": self.erased,
            "foreign": self.foreign,
            "keys": [str(key) for key in self.keys],
            "since": self.since,
            "witnesses": [[str(key), *seen] for key, seen in self.witnessed.items()],
            "tail_entries": self.entries - max(cosigned, default=0),
        }

    def continues(self, kept):
        """Whether the record continues a checkpoint that was kept elsewhere."""
        origin, size, root, chain, signed = (None, 0, b"", None, False)
        for key in self.keys or [None]:
            origin, size, root, chain, ours = note.read_kept(kept, key)
            signed = signed or ours
        is_here = origin == self.origin and size <= len(self.leaves)
        same_bytes = chain is None or chain in self.chains
        return signed and is_here and root_of(self.leaves[:size]) == root and same_bytes


# Why: what a damage to one file leaves alone need not be read again for each damage.
@functools.lru_cache(maxsize=64)
def read_cached(data):
    return segments.read_segment(data)


def keys_in_force(key, whole, newest):
    """The key of each segment: from the one that is trusted along the rotations, both ways."""
    rotations = [(number, one) for number in sorted(whole) for one in whole[number].rotations]
    at = len(rotations)
    for index, (_, rotation) in enumerate(rotations):
        if key in (rotation.old, rotation.new):
            at = index if key == rotation.old else index + 1
            break
    else:
        if rotations:
            return {number: key for number in range(newest + 1)}
    # From which segment on which key is in force.
    steps, current = [], key
    for number, rotation in reversed(rotations[:at]):
        steps.append((number, current))
        current = rotation.old if rotation.new == current else current
    steps.append((0, current))
    steps.reverse()
    current = key
    for number, rotation in rotations[at:]:
        current = rotation.new if rotation.old == current else current
        steps.append((number, current))
    numbers = range(newest + 1)
    return {number: [one for first, one in steps if first <= number][-1] for number in numbers}


def verify(files, key, witnesses=(), key_files=None):
    """Judges a record. `files`: the names and contents of the directory `segments`; `key_files`: of
    `keys`, None leaves out what is said of sealed parts."""
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
    whole = {number: read_cached(files[f"{number:08}.seg"]) for number in numbers}
    # What was given up in a torn file does not belong to the record.
    for number in numbers:
        following = whole[number + 1].header if number + 1 in whole else None
        if following and following.number == number + 1 and following.previous_end == TORN:
            if following.kept in whole[number].points and following.kept < whole[number].length:
                whole[number] = read_cached(files[f"{number:08}.seg"][: following.kept])
    keys = keys_in_force(key, whole, newest) if key else dict.fromkeys(numbers)
    verdict.keys = list(dict.fromkeys(keys.values())) if key else []
    verdict.witnessed = {witness: (0, None) for witness in witnesses}
    tree, known = Tree(), True
    earlier = collections.deque(maxlen=COSIGNED_MAX)
    for number in range(newest + 1):
        if number not in numbers:
            verdict.damaged(number, tree.size, 0, 0, "segment file is missing")
            known = False
            continue
        data = files[f"{number:08}.seg"]
        following = whole[number + 1].header if number + 1 in whole else None
        history = earlier if known else None
        seen = segments.check_signatures(whole[number], keys[number], witnesses, history)
        for witness, size in seen.cosigned:
            verdict.witnessed[witness] = (verdict.witnessed[witness][0] + 1, size)
        verdict.leaves += seen.leaves[: seen.entries]
        verdict.chains.update(chain_points(number, seen))
        tree, known = judge(verdict, data, seen, number, following, number == newest, tree, known, key)
    if key_files is not None:
        verdict.erased, verdict.foreign = seal.judge(verdict, whole, key_files)
    return verdict


def chain_points(number, seen):
    """Segment, offset and chain of every checkpoint frame, and of the end of what is kept."""
    for signed in seen.signed:
        if signed.witnesses is None:
            yield number, signed.at, note.read_text(signed.text).chain
    if seen.last_point in seen.points:
        yield number, seen.last_point, seen.points[seen.last_point][0]


def judge(verdict, data, seen, number, following, is_newest, tree, known, key):
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
            first, last, entry, what = wrong
            verdict.damaged(number, entry, first, last, what)
            known = False
            return Tree(following.tree.size, following.tree.peaks), False
        if following.previous_end == TORN:
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
    if number == 0 and (header.kept, header.previous_chain) != (0, ZEROS):
        return "segment 0 tells of a previous file"
    if verdict.origin not in (None, header.origin):
        return "another origin than in the segments before"
    if key and header.origin != key.name:
        return f"the log is {header.origin!r}, the key is of {key.name!r}"
    if tree is not None and not header.tree.is_same(tree):
        return "the tree in the header is not that of the entries before"
    return None


def wrong_end(data, seen, following):
    """How the file contradicts what the next header says of it, or None: first and last byte in doubt,
    first entry in doubt, rule."""
    kept, end = following.kept, following.previous_end

    def doubt(offset, what):
        sizes = [size for point, (_, size) in seen.points.items() if point <= offset]
        return offset, len(data), max(sizes, default=None), what

    if seen.damage and (kept > seen.last_point or end in (SEALED, DAMAGED)):
        first, last, what = seen.damage
        return first, last, seen.tree.size, what
    if end == DAMAGED:
        return doubt(len(data), "damaged when the next segment was begun")
    if kept > len(data) or (end == SEALED and not (seen.sealed and kept == seen.length)):
        return doubt(len(data), "does not end as the next header says")
    if kept + following.residue != len(data):
        end_told = min(kept + following.residue, len(data))
        return doubt(end_told, "not as long as the next header says")
    if kept not in seen.points or (end == TORN and seen.sealed and kept == seen.length):
        last = max((point for point in seen.points if point <= kept), default=0)
        return doubt(last, "does not end as the next header says")
    if following.residue and sha256(data[kept:]) != following.residue_digest:
        return doubt(kept, "the residue is not the one the next header tells of")
    if seen.points[kept][0] != following.previous_chain:
        what = "the chain that the next header carries on is not that of this file"
        return doubt(seen.header.length, what)
    return None
