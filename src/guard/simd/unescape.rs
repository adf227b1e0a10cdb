//! Units of a coding decoded: the loop, and the escapes that are two bytes long.

/// Which units are decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::guard) enum Units {
    /// Escapes of JSON strings.
    Json,
    /// All.
    Any,
}

/// What came of unescaping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::guard) struct Unescaped {
    /// Bytes written.
    pub(in crate::guard) written: usize,
    /// Escapes decoded.
    pub(in crate::guard) units: usize,
}

/// What a short escape (RFC 8259 §7) stands for; 0 for all that is none.
pub(super) const SHORT: [u8; 256] = {
    let mut table = [0; 256];
    table[b'"' as usize] = b'"';
    table[b'\\' as usize] = b'\\';
    table[b'/' as usize] = b'/';
    table[b'b' as usize] = 8;
    table[b'f' as usize] = 12;
    table[b'n' as usize] = b'\n';
    table[b'r' as usize] = b'\r';
    table[b't' as usize] = b'\t';
    table
};

// Each round copies a whole block, also where less of it counts: `out` has room for that.
macro_rules! unescape_loop {
    ($from:expr, $out:expr, $long:expr, $masks:expr, $begins:expr) => {{
        let (from, out): (&[u8], &mut [u8]) = ($from, $out);
        let (mut read, mut written, mut units) = (0, 0, 0usize);
        while let Some(block) = from[read..].first_chunk::<BLOCK_BYTES>() {
            out[written..written + BLOCK_BYTES].copy_from_slice(block);
            let escapes = $masks(block);
            let plain = escapes.trailing_zeros() as usize;
            (read, written) = (read + plain, written + plain);
            if escapes == 0 {
                continue;
            }
            // Escapes in a row: nested JSON has many.
            while let Some(&first) = from.get(read).filter(|byte| $begins(**byte)) {
                let short = from.get(read + 1).map_or(0, |&byte| SHORT[byte as usize]);
                if short != 0 && first == b'\\' {
                    out[written] = short;
                    (read, written, units) = (read + 2, written + 1, units + 1);
                } else {
                    let (used, made) = $long(&from[read..], &mut out[written..]);
                    units += usize::from(used > 1);
                    (read, written) = (read + used, written + made);
                }
            }
        }
        while let Some(&byte) = from.get(read) {
            if $begins(byte) {
                let (used, made) = $long(&from[read..], &mut out[written..]);
                units += usize::from(used > 1);
                (read, written) = (read + used, written + made);
            } else {
                out[written] = byte;
                (read, written) = (read + 1, written + 1);
            }
        }
        Unescaped { written, units }
    }};
}
pub(super) use unescape_loop;
