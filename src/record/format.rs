//! # The format of the record, version 2
//!
//! With this document alone a verifier can be written. Numbers are little-endian unless said
//! otherwise, offsets and lengths count bytes, `||` joins byte strings, base64 is the standard
//! alphabet of RFC 4648 §4 with padding and zero trailing bits (any other spelling is refused).
//!
//! ## Files
//! ```text
//! DIRECTORY/                mode 0700
//!   lock                    flock(2) by the writer while it runs; no content
//!   log.pub                 verifier key, for information only: trust comes from outside
//!   reserve                 space kept allocated for closing the record on a full disk; no content
//!   segments/
//!     00000000.seg …        segment files, mode 0600, numbered densely from 0, 8 decimal digits
//!     00000007.new          a segment being created; holds no entry that counts; may be left over
//!   keys/                   mode 0700; only where something was sealed
//!     <32 hex digits>.age … key files, mode 0600: the data key of that id, for the auditors
//!     <32 hex digits>.new   a key file being written; may be left over
//! ```
//! A writer never appends to a file that another process, or it itself before a failure, has written:
//! it opens the next number. A number is never used twice. Any other file in `segments/` is damage; a
//! directory without a segment file is not a record.
//!
//! | file | may be lost | rewritten unnoticed |
//! |---|---|---|
//! | segment, not the newest | no: its number is missing | no: chain, tree, signature |
//! | newest segment | noticed only against a checkpoint kept elsewhere, except that a sealed segment without a final stop entry is reported as a gap | only what follows its last checkpoint (at most `checkpoint_ms_max` of entries), and only by somebody who recomputes the chain; random damage is found there too |
//! | key file | yes: what was sealed under its key is erased for ever, everything else stays as it is; told as erased | no: its digest is in an entry |
//! | `*.new`, `lock`, `reserve` | yes | yes: nothing is read from them |
//! | `log.pub` | yes | yes: `verify` takes the key from outside |
//! | signing key | the log can no longer be continued under this name | whoever holds it can sign another history, or write the bytes of this one anew with parts withheld: keep checkpoints elsewhere, or have witnesses |
//! | fingerprint key | `echoed` can no longer use fingerprints | yes, fingerprints then match nothing |
//!
//! ## A segment file
//! A sequence of zstd frames (RFC 8878), so that `zstd -dc FILE` prints the plain items:
//! ```text
//! header frame (skippable)
//! { data frame | [ cosignature frame … ] checkpoint frame (both skippable) }*
//! [ [ cosignature frame … ] index frame (skippable), sealed checkpoint frame ]   and nothing behind it
//! ```
//! Order: the header first, because it says what the tree and the chain were before it; a checkpoint
//! behind what it covers; the index before the last checkpoint, so that this one signs it too.
//!
//! A skippable frame (RFC 8878 §3.1.2) is `magic u32, length u32, payload`. Magic numbers:
//! header `0x184D2A50`, checkpoint `0x184D2A51`, index `0x184D2A52`; `0x184D2A53` cosignatures of
//! witnesses (version 2); `0x184D2A54` is reserved. Anything else is damage. A payload is at most
//! 1,048,576 bytes.
//!
//! ### Header frame
//! | offset in payload | size | field | a reader checks |
//! |---|---|---|---|
//! | 0 | 8 | `STENOSEG` | equal |
//! | 8 | 2 | format version | 1 or 2 (see Versions) |
//! | 10 | 1 | end of the previous segment: 0 none, 1 sealed, 2 torn, 3 damaged | 0 exactly in segment 0 |
//! | 11 | 1 | origin length n | 1..=255 |
//! | 12 | 4 | segment number | the number in the file name |
//! | 16 | 8 | sequence of the first entry = tree size | equal to the count of entries kept before |
//! | 24 | 8 | created, UTC ns | |
//! | 32 | 8 | created, CLOCK_BOOTTIME ns | |
//! | 40 | 16 | boot id | |
//! | 56 | 8 | kept length of the previous file | a point of that file (below); 0 in segment 0 |
//! | 64 | 8 | residue length of the previous file | kept + residue = its length; 0 when sealed and in segment 0 |
//! | 72 | 32 | SHA-256 of the residue | equal; zero when there is none |
//! | 104 | 32 | chain over all kept bytes of the previous file | equal; zero in segment 0 |
//! | 136 | 1 | number of peaks p | the bits set in the tree size |
//! | 137 | 1 | zero | zero |
//! | 138 | n | origin, UTF-8, the name of the key | the same in every segment |
//! | 138+n | 32p | roots of the complete subtrees, largest first | equal to those computed |
//! | 138+n+32p | 32 | chain_0 = SHA-256(`stenograph chain v1` \|\| all bytes of this frame before this field) | equal |
//!
//! ### Data frames
//! Written by one zstd stream at level 1 with window log 18, no content size, no checksum, no
//! dictionary. A frame begins with exactly `28 B5 2F FD 00 40`. Then blocks (RFC 8878 §3.1.1.2), each
//! with a head of 3 bytes. A frame grows by flushes; each flush is one write of
//! ```text
//! data blocks ‖ mark block ‖ [ frame end ‖ [ checkpoint frame … ] ]
//! ```
//! The mark block is a raw block that is not the last, of exactly 33 bytes: head `08 01 00`, content
//! `M` and the chain value up to the block's own first byte. The frame end is the empty last raw block
//! `01 00 00`; it stands right behind a mark block and nowhere else. A frame is ended when its plain
//! bytes reach `frame_bytes_max`, and in front of every skippable frame. A flush holds at least one
//! entry. A data block may look like a mark block: a block of this form is the mark exactly when the
//! plain bytes since the mark before it are whole items.
//!
//! The plain stream of a segment is a sequence of items; an item never spans two flushes:
//! * compact entry (version 2): `C`, the header without its commitments (below), a seed of 32 bytes,
//!   then for each part of the header's table: presence u8, and
//!   * 1: the bytes of the part;
//!   * 0, the part is not stored: its commitment, 32 bytes;
//! * entry: `E`, header, then for each part of the header's table: presence u8 (1 present,
//!   0 withheld) and, when present, 32 bytes of salt and the bytes of the part;
//! * mark: `M` and 32 bytes of chain.
//!
//! An entry is at most 83,886,080 bytes of the plain stream, with its first letter.
//!
//! The writer writes compact entries. In a segment of version 1 every entry is an `E`.
//!
//! A compact entry stands for the same entry header as an `E` would. Its header is written as in the
//! table of the entry header below, but each row of the table of parts is its first 6 bytes (the
//! header length still is that of the whole header). The commitments of present parts are computed:
//! salt_i = SHA-256(`stenograph salt v2` || seed || i as u8), where i counts the rows from 0, and
//! commitment_i = SHA-256(salt_i || bytes of the part). The commitment of a part that is not stored
//! was made with another salt, never with one derived from the seed.
//! There is nothing to compare such a computed commitment with: a part that is not what was written
//! gives another leaf, and with it another root than the next checkpoint signs.
//!
//! Why a seed is as good as a salt for each part: for somebody without the seed every salt_i is the
//! output of a hash of 32 unknown random bytes at an input that occurs nowhere else, so the salts that
//! are disclosed say nothing of the others. Who gives a part away, or stores a copy in which a part is
//! withheld, writes an `E` with the salts of the parts that stay, and never the seed: with it every
//! withheld part could be guessed.
//!
//! ### Chain
//! The chain runs over the **compressed** bytes, because a flipped bit in a zstd frame can decode to
//! the same text. Each mark and each checkpoint is a chain point at the offset where its block or frame
//! begins: chain_k = SHA-256(chain_{k-1} || bytes from point k-1 to point k), where point 0 stands
//! behind the header. So the bytes of a mark or checkpoint are covered by the following point; what no
//! point follows yet is fixed byte by byte by this document. The chain carried into the next segment's
//! header is SHA-256(chain of the last point || bytes from there to the kept length).
//!
//! A **point** at which a file may be kept is the end of the header, of a mark block, of a frame end,
//! or of a checkpoint frame.
//!
//! ### Entry header
//! | offset | size | field | a reader checks |
//! |---|---|---|---|
//! | 0 | 2 | length of this header | 63 + 38 n |
//! | 2 | 1 | version | 1 |
//! | 3 | 1 | kind ([`super::Kind`]) | unknown kinds are kept and shown by number |
//! | 4 | 8 | sequence | dense over the whole record, from 0 |
//! | 12 | 15 | exchange id, most significant byte first | zero without flag 1 |
//! | 27 | 10 | session id | zero without flag 2 |
//! | 37 | 4 | ordinal within the exchange, from 0 | the end entry states the count |
//! | 41 | 8 | UTC, ns since the Unix epoch; may step | order rests on the sequence alone |
//! | 49 | 8 | CLOCK_BOOTTIME, ns | |
//! | 57 | 1 | worker | |
//! | 58 | 2 | HTTP status or 0 | |
//! | 60 | 2 | flags: 1 has an exchange, 2 has a session | no other bit |
//! | 62 | 1 | number of parts n | 0..=16 |
//! | 63 | 38 n | for each part: kind u8 ([`super::PartKind`]), zero u8, length u32, commitment 32 | |
//!
//! The commitment is SHA-256(salt || bytes of the part). The 32 bytes of salt are fresh random bytes
//! for each part, or derived from the seed of a compact entry. No unsalted digest of a payload is
//! written anywhere. A part (salt and bytes) can be withheld in a copy while header, leaf and every
//! proof stay valid. Where a grant says `record = "heads"`, the parts of kind body are never stored:
//! the header states length and commitment, presence is 0, and the salt is kept nowhere, so that
//! nobody can test a guess.
//!
//! Kinds of entries: 1 start, 2 policy, 3 request, 4 answer, 5 stream open, 6 event, 7 interim answer,
//! 8 refusal, 9 refusals counted, 10 cut, 11 end, 12 deny list, 13 clock, 14 stop, 15 resume,
//! 16 connect, 17 disconnect, 18 delivery, 19 keys, 20 seal key, 21 rotation, 22 weakening, 23 witness.
//! Kinds of parts: 1 subject, 2 head in, 3 head out, 4 body, 5 original, 6 verdict, 7 detail, 8 sealed,
//! 9 token.
//!
//! ### Sealed parts
//! Where auditors are named, what came is kept for them beside what went on: encrypted before it
//! reaches the disk, under a data key that only the auditors can unwrap. A verifier needs no key for
//! any of the checks above, because the tree commits to the ciphertext.
//!
//! An entry with something sealed has these rows in its table of parts, behind all others:
//! * original (5), at most one: what came where the body (4) of this entry stands, where that was
//!   another text, or what came where the entry has no body: presence 0, length, commitment. Where
//!   `record = "heads"` applies to a body beside it, this row has no item in the sealed part;
//! * token (9), at most one: the bearer token of the request as it came, at its first use on a worker:
//!   presence 0;
//! * sealed (8), exactly one and the last row: presence 1 (0 in a copy that withholds it). Where
//!   `record = "sealed"` or `seal = "payloads"` applies, the body too has presence 0.
//!
//! The commitments of original, token, and sealed body are made with salts of their own, fresh random
//! bytes, which stand in the sealed part and nowhere else. Where nobody is named to seal to, originals
//! and tokens have no row, and a body that was to be sealed is kept as under `record = "heads"`.
//!
//! | offset in the sealed part | size | field |
//! |---|---|---|
//! | 0 | 1 | version, 1 |
//! | 1 | 1 | zero |
//! | 2 | 16 | id of the data key |
//! | 18 | 16 | nonce: fresh random bytes |
//! | 34 | 32 | check: HMAC-SHA-256(data key, `stenograph sealed part check v1` \|\| nonce) |
//! | 66 | n | ciphertext |
//! | 66 + n | 16 | tag |
//!
//! Cipher: ChaCha20-Poly1305 (RFC 8439 §2.8) with key HMAC-SHA-256(data key, `stenograph sealed part
//! key v1` || nonce), a nonce of 12 zero bytes (each key encrypts once), and as associated data
//! `stenograph sealed part v1` || id of the data key || the entry header from its first byte up to the
//! row of the sealed part. So a sealed part opens in its own entry only: sequence, exchange, session,
//! kind, times and the commitments of all other parts are bound. The check refuses a wrong key before
//! the cipher is tried (the cipher alone does not commit to its key).
//!
//! Plaintext: the number of items u8, then each item:
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 1 | row of the part that it restores, from 0 |
//! | 1 | 1 | 0: the content is the bytes of that part; 1: it is a patch of the body |
//! | 2 | 32 | salt of that part's commitment |
//! | 34 | 4 | length m of the content |
//! | 38 | m | content |
//!
//! A patch turns the bytes of the entry's first part of kind body (stored, or restored by an earlier
//! item) into the original. It is a sequence of edits, in ascending order and without overlap: `at` u32,
//! `removed` u32, `inserted` u32, and `inserted` bytes; the `removed` bytes of the body from `at` on
//! give way to the inserted ones, everything else is copied. An empty patch: both are the same. A
//! restored part is proven when its length and SHA-256(salt || bytes) are those of its row.
//!
//! #### Data keys
//! 32 random bytes, named by 16 random bytes. A session gets one when something of it is first sealed,
//! for an hour of use; what has no session shares one, and so do sessions beyond 64 new keys at once and
//! one more each second. The key is in the memory of the writer as long as it is used, wiped after, and
//! on no disk in the plain. Before the first entry that is sealed under it is written:
//! 1. its file is written as `<id>.new`, synced, renamed to `<id>.age`, and the folder synced, at every
//!    release level;
//! 2. an entry of kind seal-key (20) stands before it, whose detail is JSON: `key`, the id in
//!    hexadecimal; `file`, the SHA-256 of the key file in hexadecimal; `recipients`, a list of `age1…`;
//!    `session`, the session whose key it is, or null.
//!
//! A key file is an age file (c2sp.org/age) with one X25519 stanza for each recipient and 48 bytes of
//! payload: the id and the data key. No age tool is needed to verify the record. A verifier compares
//! each key file with the digest in its entry:
//!
//! | key file | verdict |
//! |---|---|
//! | digest fits | sound |
//! | missing | erased, told with its id; no damage |
//! | digest differs | damage, at the place of the seal-key entry |
//! | `<id>.age` or any other name that no seal-key entry names (but `*.new`) | told as foreign; no damage: it may be left over where a process ended between 1 and 2 |
//!
//! That a sealed part was made for another entry, or does not hold what its rows commit to, shows only
//! to whoever has an auditor's identity.
//!
//! A sealed part whose data key no seal-key entry before it names is damage, as is one whose first two
//! bytes are not 1 and 0, which is shorter than 83 bytes, or which is not the last row. A seal-key entry
//! whose detail is not there or is another object is damage too. A sealed part that is withheld says
//! nothing of a key.
//!
//! #### What is not restorable
//! Of heads what `*` stands for (it is kept nowhere, but the token with `seal_tokens`); of events their
//! framing: the original is the values of the `data` fields joined by line feeds, without comments, and
//! name, id and `retry` are those that were sent. All else is in the table at the end.
//!
//! Originals that wait for a failing disk stay in the memory of the process, within
//! `recorder_queue_bytes_max`, and are wiped when they are stored.
//!
//! ### Tree
//! RFC 6962 §2.1 with SHA-256 over all entries of the record in order of sequence. The leaf is the
//! entry header: leaf hash = SHA-256(0x00 || header). The tree runs on over segments and restarts.
//!
//! ### Checkpoint frame
//! The payload is a C2SP signed note (c2sp.org/signed-note) whose text is a checkpoint
//! (c2sp.org/tlog-checkpoint) with extension lines:
//! ```text
//! <origin>
//! <tree size, decimal>
//! <root, base64>
//! chain <segment, decimal> <offset, decimal> <chain, base64>
//! time <RFC 3339, UTC, 9 digits>
//! sealed                                   only in the last checkpoint of a sealed segment
//!
//! — <origin> <base64(key hash 4 bytes, big-endian || Ed25519 signature 64 bytes)>
//! ```
//! The offset is that of this frame's first byte, and the chain is the chain point there. Exactly one
//! signature line, by the log's key (algorithm 0x01); signatures are checked strictly (canonical
//! points and scalars, neither the key nor R of small order, and the equation `[s]B = R + [h]A` without
//! the cofactor). The verifier key that is given from outside is spelled as signed-note says, and its
//! name is the origin. Decimals have no sign and no leading zeros; the time is one that the calendar
//! has, without leap seconds. Nothing is asked of the order of times. A checkpoint is signed at most
//! `checkpoint_ms_max` after a flush, at least every `heartbeat_ms_max` in silence, at seal and at
//! drain; and only over bytes that were written without a fault.
//!
//! ### Cosignature frame (version 2)
//! The payload is one signed note: text and signature line of an earlier checkpoint of this record,
//! byte by byte, then one or more lines of witnesses, each a `cosignature/v1` of
//! c2sp.org/tlog-cosignature (key type 0x04):
//! ```text
//! — <witness> <base64(key hash 4 || seconds since the epoch, u64, big-endian || Ed25519 signature 64)>
//! ```
//! signed over `cosignature/v1\ntime <seconds>\n` and the whole text of the checkpoint. The key hash is
//! the first 4 bytes of SHA-256(name || 0x0A || 0x04 || public key).
//!
//! | a reader checks | else |
//! |---|---|
//! | the segment's version is 2 or more; at most 8 KiB; the form of a note, text and first line in the one spelling of a checkpoint | damage |
//! | the first line is by the log's key for this segment | damage |
//! | another cosignature frame, an index frame or a checkpoint frame follows directly (so that a chain point covers it); a file that ends behind it ends inside something | damage |
//! | its size is not larger than the tree here, and its text is that of one of the 4096 checkpoint frames before it in the record, in whatever segments. Not asked behind damage, which may hide the checkpoint | damage, from the last point to the end of this frame |
//! | each line that bears name and key hash of a witness whose key is given: the signature, strictly | damage |
//!
//! Lines of other keys prove nothing and are passed over. The end of a cosignature frame is no point at
//! which a file may be kept. What witnesses prove: whoever holds the log's key can write another record
//! that is intact by itself, but no honest witness cosigns a tree that does not continue the one it
//! cosigned last. So the last cosigned size must not be larger than the record, the root there must be
//! the same, and entries behind it are as good as the log's key alone.
//!
//! ### Key rotation (version 2)
//! An entry of kind `rotation` (in a segment of version 1 this number is an unknown kind and rotates
//! nothing), whose detail part is the JSON object `old`, `new` (verifier keys of one
//! name), `size`, `statement`, `old_signature`, `new_signature` (base64, Ed25519 over the statement):
//! ```text
//! stenograph key rotation v1
//! <origin>
//! <tree size at the beginning of this segment, decimal>
//! <root of that tree, base64>
//! <old verifier key>
//! <new verifier key>
//! ```
//! each line with its line feed. It stands in the first flush of a segment whose first entry is a start
//! entry, so all checkpoints of one segment are signed by one key: that of the last rotation in this
//! segment or before it. Anywhere else, or with a signature, size or root that does not fit, it is
//! damage, as is one whose detail is not there. The same rotation may be said again by a later start, when the first one was cut off before
//! it signed.
//!
//! A reader who trusts one key follows the rotations from it:
//! * forwards, because the old key signed that the new one follows it: from this segment on the new
//!   key must sign. Whoever steals the old key later can fork the record before the rotation, as
//!   with any log key, and a cosignature or a checkpoint kept elsewhere shows that;
//! * backwards, because the new key signs the tree, which holds every earlier entry, and signed that
//!   the old key was its predecessor: segments before must be signed by the old key. Somebody with
//!   the old key alone cannot change them, since the new key's checkpoints then no longer fit.
//!
//! In a segment of version 1 such an entry says nothing to a verifier.
//!
//! A rotation that does not name the key in force as `old` ends the way; segments behind it are then
//! signed by another key than the one trusted, which is damage.
//!
//! ### Index frame
//! JSON (RFC 8259), an object with `"version": 1`, an integer, and what the segment holds. A reader may
//! leave a segment out because of it, so it is complete: a function of the entries alone. Members may be
//! added; an index that lacks one of these, or in which one has another form, promises nothing, as do
//! those of earlier writers, and a reader looks inside.
//!
//! The last entry of an exchange is an end, or a refusal whose verdict has `"only": true`. An exchange
//! enters a segment with an entry before which the segment has no entry of it, or its last one.
//!
//! | member | form | promise |
//! |---|---|---|
//! | `entries`, `starts` | integers | entries of the segment; start entries among them |
//! | `first`, `last` | times, or null without entries | the least and the greatest UTC of an entry |
//! | `exchanges` | two exchange ids, or null | the least and the greatest id of the exchanges that begin here: they enter with ordinal 0 |
//! | `late` | exchange ids | those that enter with another ordinal: they began before |
//! | `open` | exchange ids | those that entered and have no last entry here behind that: they go on, or were never ended |
//! | `sessions` | session ids | those of entries |
//! | `subjects` | texts | `subject` of subject parts |
//! | `targets` | texts | `name` of all `targets` in verdicts |
//! | `rules`, `fingerprints` | texts; 32 hexadecimal digits each | `rule` and `fingerprint` of all `findings` in verdicts |
//! | `overflowed` | names of lists above | something was left out of these: they promise nothing, the others do |
//! | `complete` | boolean | `overflowed` is empty |
//!
//! Ids are written as people read them ([`crate::types`]), lists in ascending order. A list has at most 4,096 values,
//! texts of at most 256 bytes, and of all texts together 524,288 bytes as they are written, quotes not
//! counted; what comes later is left out. Where more than 65,536 exchanges are open at once, `open` and
//! `late` are named in `overflowed`. What a verdict says is what a JSON parser finds in it; one that does
//! not parse says nothing, but a list may hold more than the verdict says when a nested object has a
//! member of the same name.
//!
//! The index is in front of the sealed checkpoint, so it can be proven without reading the segment: the
//! last chain point in front of it, a mark or a checkpoint, states chain_{k-1}, and SHA-256(that chain ||
//! bytes from this point to the sealed checkpoint) is the chain that the sealed checkpoint states and
//! signs. A reader believes it only then, only when size and root of that checkpoint and the chain over
//! the file are those of the next header, and only when header and checkpoint enclose `entries` entries.
//! It reads the newest segment always, and of an exchange that lies in several segments all of them as
//! soon as they together may hold what is asked for. Without the log's key no index is believed.
//!
//! Whoever signs can sign an index that lies, and hide a segment from those who search. `verify` makes
//! the index again from the entries, and a member that promises what they do not say is damage, at the
//! index frame. A list that is named in `overflowed` without need is none. A verifier may leave this
//! check out, and two may differ in that: it is no part of the chain of evidence, which is about entries.
//! Where parts of kind subject or verdict are withheld it cannot be made.
//!
//! ## How a file may end
//! | the file is | next header says | verdict |
//! |---|---|---|
//! | ended by a sealed checkpoint | sealed, kept = length | sound |
//! | longer than or as long as a point at `kept`, and not sealed there | torn, residue length and digest fit | sound, and a gap is told. A residue was never acknowledged when a process ended there; after a power cut at level `written` it may have been |
//! | anything | damaged | damaged, for ever |
//! | newest, ended by a sealed checkpoint | (none) | sound; without a stop entry a gap is told |
//! | newest, ended at a point | (none) | sound; entries behind the last checkpoint are unsigned, told as a gap |
//! | newest, bytes behind the last point | (none) | torn: starting the gateway adopts it; while the writer runs it is a write in progress |
//! | anything else | | damaged |
//!
//! A checkpoint kept elsewhere is a signed note, whoever else signed it: the record continues it when
//! the origin is its own, one of the log's keys (along the rotations) signed it, the tree of as many
//! entries of this record has the same root, and (unless the size is 0, or the text is not that of a
//! checkpoint frame) its chain line is that of a checkpoint frame of this record, or is the chain over
//! all kept bytes of that segment, at its kept length: this is what a gateway has cosigned as it
//! starts. The same root with another chain are the same entries in other bytes, which only the holder
//! of the log's key can write, and in which parts may have been withheld. Of a witness that is asked
//! for, at least one cosignature has to stand in the record. Where either fails, the record is not
//! intact. How many parts are withheld is told: those of presence 0 but originals, tokens and bodies
//! beside a row of kind sealed. A body without such a row is withheld when the policy that its verdict
//! names keeps the bodies of its grant in full (of every grant, where the verdict names none). Other
//! bodies are counted by themselves: the writer does not keep them under `record = "heads"`; so are
//! those of which no policy that is here says how they are kept.
//!
//! Cutting the newest file exactly at a point, or removing the newest files, gives the record of an
//! earlier moment: only a checkpoint kept elsewhere shows that.
//!
//! ### How damage and gaps are told
//! Damage names its segment, the first byte in doubt (`offset`; all of the file before it is as it was
//! written) and the first entry in doubt (`entry`: how many entries the record has before that byte;
//! null inside a header or when there is none). Two verifiers agree on whether there is damage, on the
//! files that are damaged, and on the first entry in doubt of each; their first ranges in doubt overlap
//! and, when the key is given, hold the first byte that differs. How far apart they may begin follows
//! from the points: whoever finds that a chain value differs knows only that some byte since the chain
//! point before is not as it was; who finds a broken form begins at the last point. What stands behind
//! damage is not proven; a verifier may tell of more there, and of segments that do not continue the
//! damaged one.
//!
//! What a header says of the file before it counts when its form and its chain_0 are right. Then a
//! difference in length, residue, chain or ending is damage of the file *before*; a tree or an origin
//! that does not continue is damage of the file that has the header. When the header is that of another
//! segment, its own file is damaged, and a verifier may tell of the file before it too.
//!
//! Gaps, in order of segment: a torn segment (at its kept length), the newest without a seal or sealed
//! without a stop entry as its last (at its length), and, last, entries behind the last checkpoint of
//! the record (the newest segment, offset 0).
//!
//! ## What is recorded, and what "exact" means
//! Bytes are those of the plaintext as it was received or handed to the kernel: after TLS where there is
//! TLS, before parsing. The time of an entry is the reading of both clocks with which the worker took
//! the last byte it needed; what it releases leaves later.
//!
//! | what | where | how exactly |
//! |---|---|---|
//! | head from the client, head from the upstream | head-in of request, answer, stream-open, refusal, interim | every byte; credentials and cookies are overwritten by `*` in their place, and so is what a rule finds. Not the head that cannot be parsed: nobody can say where its credentials stand |
//! | head to the upstream, head to the client | head-out | every byte, the gateway's own credential overwritten by `*`. Answers of the gateway itself are not repeated: the verdict says them |
//! | body to the upstream or to the client, data of an event | body | every byte as it was sent. Under `record = "heads"` its length and commitment; under `"sealed"` in the sealed part |
//! | the same as it came, where it differs | original and sealed | every byte, for auditors; without `seal_to` only that it was edited, and the findings |
//! | event of a stream | event, one each | data as above; name, id and retry as they were sent (head-out). Of a comment only that it came |
//! | a body or event that could not be judged or that nobody gets, whole or not | original and sealed of the refusal, answer or end | every byte, for auditors (an unfinished event in canonical form); without `seal_to` its length, `kept_back_bytes`. Not what is over a bound, and not what the scanner gave up |
//! | bytes behind an answer | end | their number, `late_bytes` |
//! | chunks (RFC 9112 §7.1) | verdict of the body, delivery and end of a stream | sizes as they arrived, `chunks: [[size, count]…]`, 256 runs, then `chunks_more` counts. Extensions are refused, trailers dropped. Boundaries of TCP segments are not recorded |
//! | what was delivered | end, delivery, disconnect | bytes and times at which the kernel had taken them; at the end of a connection, and of an exchange that was cut, the bytes that the peer had not acknowledged |
//! | refusals before authentication | refusal, then refusals | one by one up to a rate for each source and reason, then as a count with first and last time |
//! | TLS | connect, verdict (`tls`), subject (`certificate`), end | version, suite, names, the peer's certificate by its fingerprint, and what binds the channel; not the handshake itself |
//! | connections | connect and disconnect | those on which a caller was authenticated; all others as counts in refusals entries, reasons `connection-…` |
//!
//! Subject, verdict and detail parts are JSON objects; fields may be added. Times are RFC 3339, UTC, 9
//! digits; `…_ns` are nanoseconds.
//!
//! | kind | detail |
//! |---|---|
//! | start | `version`, `commit`, `binary_sha256` (of the file that runs), `kernel`, `host`, `scanner` (libhs), `ring_flags`, `release`; `record`: `origin`, `segment`, `boot_id`, `entries_before`, `previous`, `checkpoint` (the last one of the record before: `size`, `root`, `segment`, `offset`, `chain`, `time`, `sealed`, or null) |
//! | policy | `policy` (its id), `config`, `pending` (sections of the file that are not in force yet), `packs` (`name`, `sha256`, `text`; null when an earlier policy entry since the start has this digest), `rules` (ids), `recording` |
//! | weakening | `policy`, `weak` (against the defaults), `weakened` (against the policy before) |
//! | keys | `issuer`; `keys`: `kid`, `alg`, `thumbprint` (RFC 7638, SHA-256), `jwk` (the members that RFC 7638 §3.2 requires: enough to check a signature); `ignored` |
//! | deny | `entries` (count in force), `added`, `removed`; or `kept`: why the file is not used |
//! | clock | `step_ns`, `before`, `after`, `mono_ns`, `boot_id`; or `stated`: `synchronized`, `error_us_max`, `error_us`, `status` of adjtimex(2), null where the kernel does not say |
//! | connect | `connection` (its name: the id of its first exchange), `source`, `proxy` (that the connection came through and that said the source; absent without one), `local`, `opened`, `opened_mono_ns`; under TLS `tls`: `version`, `suite`, `server_name` (that was asked for), `resumed`, `exporter` (32 bytes of `tls-exporter`, RFC 9266, in hexadecimal), `certificate` of the client: `sha256` of its DER form, `subject`, `names`, `ends` |
//! | disconnect | the same without `tls`, and `why`, `exchanges`, `received_bytes`, `sent_bytes`, `unacknowledged_bytes`, `discarded_bytes`, `duration_ns`; `truncated`: the client's end came without `close_notify`. Under TLS bytes are those of the plaintext, but the unacknowledged ones are of its records |
//! | delivery | `started_mono_ns` (the head of the request was whole); `handed`: `[first ordinal, last ordinal, ns since then]…`; `chunks` |
//! | end | `status`, `outcome`, `sent_bytes`, `client_bytes`, `upstream_bytes`, `entries`, `duration_ns` since the head of the request was whole; from that moment on `forwarded_ns`, `begun_ns`, `sent_ns`; `head_ns` before it the first byte had come; `handed` and `chunks` that no delivery entry told; `unacknowledged_bytes`, `late_bytes`, `kept_back_bytes`; `upstream_tls`: the connection to the upstream, as `tls` of connect |
//! | refusals | `source`, `reason`, `count`, `first`, `last`; of one refused TLS handshake (`tls-…`) also `port` and `why` |
//!
//! A verdict names the policy it was given under (`policy`); the policy entry with that id stands before
//! it. An answer does not repeat what the request entry of its exchange says. The first entry of an
//! exchange names the connection (`connection`, of the verdict; of the detail where that is the end
//! entry), which connect and disconnect entries name too; where no verdict has it, exchanges belong to
//! the connection with their `source` that was open at the time.
//!
//! ## Fingerprints
//! A finding's fingerprint is the first 16 bytes of HMAC-SHA-256(fingerprint key, value), see
//! [`fingerprint`]. It stands in verdict parts in hexadecimal.
//!
//! ## Versions
//! | version | what changed |
//! |---|---|
//! | 1 | the first |
//! | 2 | cosignature frames, key rotation, compact entries (`C`), kinds of entries from 16, kinds of parts 5, 8 and 9 |

use hmac::{Hmac, Mac};
use sha2::Sha256;

/// Version of the segment format.
pub const FORMAT_VERSION: u16 = 2;
/// Versions this reader knows; one record may hold segments of several.
pub const FORMAT_VERSIONS: std::ops::RangeInclusive<u16> = 1..=FORMAT_VERSION;
/// First version whose segments may hold compact entries.
pub const COMPACT_VERSION_MIN: u16 = 2;
/// First bytes of a header's payload.
pub const SEGMENT_MAGIC: &[u8; 8] = b"STENOSEG";
/// Skippable frame that holds the header.
pub const MAGIC_HEADER: u32 = 0x184D_2A50;
/// Skippable frame that holds a checkpoint.
pub const MAGIC_CHECKPOINT: u32 = 0x184D_2A51;
/// Skippable frame that holds the index.
pub const MAGIC_INDEX: u32 = 0x184D_2A52;
/// Bytes before the payload of a skippable frame.
pub const SKIPPABLE_HEAD_BYTES: usize = 8;
/// Skippable frame that holds an earlier checkpoint with cosignatures of witnesses.
pub const MAGIC_COSIGNATURES: u32 = 0x184D_2A53;
/// First version whose segments may hold cosignatures.
pub const COSIGNATURES_VERSION_MIN: u16 = 2;
/// First version whose segments may hold sealed parts and tell of their keys.
pub const SEALED_VERSION_MIN: u16 = 2;
/// First version in which the kind of a rotation means one.
pub const ROTATION_VERSION_MIN: u16 = 2;
/// A cosigned checkpoint is one of so many checkpoint frames before it. Bound: a reader remembers so
/// many; a witness that answers later than that is not stored.
pub const COSIGNED_BEHIND_MAX: usize = 4096;
/// The one beginning of a data frame: magic, descriptor 0, window of 2^18 bytes (RFC 8878 §3.1.1.1).
pub const DATA_FRAME_HEAD: [u8; 6] = [0x28, 0xB5, 0x2F, 0xFD, 0x00, 0x40];
/// Window log of the data frames.
pub const WINDOW_LOG: u32 = 18;
/// Compression level of the data frames.
pub const ZSTD_LEVEL: i32 = 1;
/// A mark in the plain stream: the tag and the chain.
pub const MARK_BYTES: usize = 33;
/// Head of a mark's block: raw, not the last, 33 bytes (RFC 8878 §3.1.1.2).
pub const MARK_BLOCK_HEAD: [u8; 3] = [(MARK_BYTES as u8) << 3, (MARK_BYTES >> 5) as u8, 0];
/// Empty last raw block.
pub const FRAME_END: [u8; 3] = [1, 0, 0];
/// Starts the hash of a segment's header.
pub const CHAIN_LABEL: &[u8] = b"stenograph chain v1";
/// Largest header frame: 255 bytes of origin and 64 peaks.
pub const HEADER_BYTES_MAX: usize = 4096;
/// Largest checkpoint payload.
pub const CHECKPOINT_BYTES_MAX: usize = 4096;
/// Largest payload of cosignatures: one note.
pub const COSIGNATURES_BYTES_MAX: usize = 8 * 1024;
/// Largest index payload.
pub const INDEX_BYTES_MAX: usize = 1024 * 1024;

/// The first bytes of a skippable frame.
pub fn skippable_head(magic: u32, payload_bytes: usize) -> [u8; SKIPPABLE_HEAD_BYTES] {
    let mut head = [0; SKIPPABLE_HEAD_BYTES];
    head[..4].copy_from_slice(&magic.to_le_bytes());
    head[4..].copy_from_slice(&(payload_bytes as u32).to_le_bytes());
    head
}

/// Name of the file of segment `number`.
pub fn segment_name(number: u32) -> String {
    format!("{number:08}.seg")
}

/// End of the name of a segment that is being created.
pub const NEW_SUFFIX: &str = ".new";

/// Name of segment `number` while it is being created.
pub fn segment_name_new(number: u32) -> String {
    format!("{number:08}{NEW_SUFFIX}")
}

/// The number in a segment's file name; only the exact spelling counts.
pub fn segment_number(name: &str) -> Option<u32> {
    let number = name.strip_suffix(".seg")?.parse().ok()?;
    (segment_name(number) == name).then_some(number)
}

/// Fingerprint of a value: the first 16 bytes of HMAC-SHA-256(key, value).
pub fn fingerprint(key: &[u8; 32], value: &[u8]) -> [u8; 16] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any key length is allowed");
    mac.update(value);
    let digest: [u8; 32] = mac.finalize().into_bytes().into();
    digest[..16].try_into().expect("16 of 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        assert_eq!(segment_name(7), "00000007.seg");
        assert_eq!(segment_number("00000007.seg"), Some(7));
        assert_eq!(segment_number("123456789.seg"), Some(123_456_789));
        for name in ["7.seg", "+0000007.seg", "00000007.SEG", "00000007.new", "x.seg"] {
            assert_eq!(segment_number(name), None, "{name}");
        }
    }

    // RFC 4231 §4.2, key padded to 32 bytes with zeros: HMAC gives the same.
    #[test]
    fn fingerprint_is_hmac_sha_256() {
        let mut key = [0; 32];
        key[..20].fill(0x0b);
        let expected = [
            0xb0, 0x34, 0x4c, 0x61, 0xd8, 0xdb, 0x38, 0x53, 0x5c, 0xa8, 0xaf, 0xce, 0xaf, 0x0b,
            0xf1, 0x2b,
        ];
        assert_eq!(fingerprint(&key, b"Hi There"), expected);
    }
}
