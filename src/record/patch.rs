//! Patches: what turns the bytes that went on into the bytes that came. Made by comparing the two, so
//! that every way of editing is covered; the byte table is in [`super::format`].
//!
//! Texts of one length differ in runs, as a mask leaves them; other texts in one stretch between what
//! they begin and end with in common. A patch holds bytes of the original: it is wiped like one.

use zeroize::Zeroizing;

/// Bytes of an edit before what it inserts.
const EDIT_BYTES: usize = 12;

/// One edit: `removed` bytes at `at` of the released text give way to `inserted` of the original.
struct Edit {
    at: usize,
    removed: usize,
    inserted: std::ops::Range<usize>,
}

fn runs(released: &[u8], original: &[u8]) -> Vec<Edit> {
    let mut edits: Vec<Edit> = Vec::new();
    let mut at = 0;
    while at < released.len() {
        // Why by blocks: most of a message is the same, and comparing slices runs at memory speed.
        const BLOCK: usize = 64;
        if at + BLOCK <= released.len() && released[at..at + BLOCK] == original[at..at + BLOCK] {
            at += BLOCK;
            continue;
        }
        if released[at] == original[at] {
            at += 1;
            continue;
        }
        match edits.last_mut() {
            // Why: a gap shorter than the head of an edit is cheaper inside it.
            Some(last) if at - last.inserted.end < EDIT_BYTES => {
                last.inserted.end = at + 1;
                last.removed = last.inserted.len();
            }
            _ => edits.push(Edit { at, removed: 1, inserted: at..at + 1 }),
        }
        at += 1;
    }
    edits
}

fn stretch(released: &[u8], original: &[u8]) -> Edit {
    let most = released.len().min(original.len());
    let front = (0..most).take_while(|&at| released[at] == original[at]).count();
    let back = (1..=most - front)
        .take_while(|&at| released[released.len() - at] == original[original.len() - at])
        .count();
    Edit {
        at: front,
        removed: released.len() - front - back,
        inserted: front..original.len() - back,
    }
}

/// The patch that turns `released` into `original`.
///
/// Panics when either is 4 GiB or longer.
pub fn make(released: &[u8], original: &[u8]) -> Zeroizing<Vec<u8>> {
    assert!(released.len().max(original.len()) <= u32::MAX as usize, "positions have 32 bits");
    let edits = match released.len() == original.len() {
        true => runs(released, original),
        false => vec![stretch(released, original)],
    };
    let bytes: usize = edits.iter().map(|edit| EDIT_BYTES + edit.inserted.len()).sum();
    // Why: growing would leave copies of the original behind.
    let mut patch = Zeroizing::new(Vec::with_capacity(bytes));
    for Edit { at, removed, inserted } in edits {
        for number in [at, removed, inserted.len()] {
            patch.extend_from_slice(&(number as u32).to_le_bytes());
        }
        patch.extend_from_slice(&original[inserted]);
    }
    patch
}

/// The original: `released` with the edits of `patch` done; `None` when it is no patch of that text.
/// `length` is the length that the original is said to have.
pub fn apply(released: &[u8], patch: &[u8], length: usize) -> Option<Zeroizing<Vec<u8>>> {
    let mut original = Zeroizing::new(Vec::with_capacity(length));
    let mut from = 0;
    let mut rest = patch;
    while !rest.is_empty() {
        let (head, behind) = rest.split_at_checked(EDIT_BYTES)?;
        let number = |index: usize| {
            let bytes = head[4 * index..4 * index + 4].try_into().expect("4 bytes");
            u32::from_le_bytes(bytes) as usize
        };
        let (inserted, behind) = behind.split_at_checked(number(2))?;
        let same = released.get(from..number(0))?;
        from = number(0).checked_add(number(1))?;
        if same.len() + inserted.len() > length - original.len() {
            return None;
        }
        original.extend_from_slice(same);
        original.extend_from_slice(inserted);
        rest = behind;
    }
    let same = released.get(from..)?;
    (original.len() + same.len() == length).then(|| {
        original.extend_from_slice(same);
        original
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn there_and_back(released: &[u8], original: &[u8]) -> usize {
        let patch = make(released, original);
        let restored = apply(released, &patch, original.len()).expect("it is a patch of this text");
        assert_eq!(*restored, original);
        patch.len()
    }

    #[test]
    fn a_patch_holds_what_differs_and_little_else() {
        let original = [&[b'a'; 300][..], b"SECRET-1", &[b'b'; 300], b"SECRET-2"].concat();
        let released = [&[b'a'; 300][..], b"********", &[b'b'; 300], b"********"].concat();
        assert_eq!(there_and_back(&released, &original), 2 * (12 + 8));
        let label = [&[b'a'; 300][..], b"[x]", &[b'b'; 300], b"********"].concat();
        assert_eq!(there_and_back(&label, &original), 12 + 316);
        assert_eq!(there_and_back(b"same", b"same"), 0);
        assert_eq!(there_and_back(b"", b"all"), 12 + 3);
        assert_eq!(there_and_back(b"all", b""), 12);
        assert_eq!(there_and_back(b"aaa", b"aa"), 12);
        assert_eq!(there_and_back(b"aa", b"aaa"), 12 + 1);
    }

    #[test]
    fn what_is_no_patch_of_the_text_is_refused() {
        let edit = |at: u32, removed: u32, inserted: u32, text: &[u8]| {
            let mut patch = Vec::new();
            for number in [at, removed, inserted] {
                patch.extend_from_slice(&number.to_le_bytes());
            }
            patch.extend_from_slice(text);
            patch
        };
        assert!(apply(b"0123", &edit(1, 2, 2, b"ab"), 4).is_some());
        for (patch, length) in [
            (edit(1, 2, 2, b"ab"), 5),
            (edit(1, 2, 2, b"ab"), 3),
            (edit(1, 2, 2, b"a"), 4),
            (edit(1, 4, 2, b"ab"), 3),
            (edit(5, 0, 0, b""), 4),
            (edit(u32::MAX, u32::MAX, 0, b""), 4),
            (edit(0, 0, u32::MAX, b""), 4),
            ([edit(2, 1, 0, b""), edit(1, 1, 0, b"")].concat(), 2),
            (b"short".to_vec(), 4),
        ] {
            assert!(apply(b"0123", &patch, length).is_none(), "{patch:?} {length}");
        }
    }

    proptest! {
        // Mutant: common ends that overlap.
        #[test]
        fn every_pair_of_texts_comes_back(
            released in "[ab]{0,200}",
            original in "[ab]{0,200}",
            same in any::<bool>(),
        ) {
            let mut original = original.into_bytes();
            if same {
                original.resize(released.len(), b'a');
            }
            there_and_back(released.as_bytes(), &original);
        }
    }
}
