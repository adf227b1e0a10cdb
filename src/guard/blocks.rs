//! Which rules may match where: for texts in which many rules may match somewhere.
//!
//! An expression that has to read a whole text costs about as much as the engine that reads it for all of them. Where
//! one rule may match, one reading is the shortest way. Where a hundred may, because somebody put an example of
//! each into the text, the engine is asked again, block by block, and each expression reads the blocks only in
//! which its rule may match.
//!
//! ```text
//! text      |--------|--------|--------|--------|
//! engine   [-1 .. block .. + margin]                what begins in the block is seen whole
//! rule      |        |  here  |  here  |        |
//! search             [.............. + reach]       matches that begin in the blocks
//! ```

use std::ops::Range;

use super::engine::{EngineFault, Presence};

/// Bound: bytes of a block; about as long as what stands around it is read again.
const BLOCK_BYTES: usize = 512;
/// Bound: rules from which it is worth while: the engine reads each byte twice more.
const RULES_MIN: usize = 6;
/// Bound: bytes of a text from which it is worth while.
const TEXT_BYTES_MIN: usize = 4 * BLOCK_BYTES;
/// Bound: bytes that a rule may reach to be looked for in blocks. All but a few stay below.
const REACH_BYTES_MAX: usize = 2 * BLOCK_BYTES;
/// Bound: words that are kept for the next text, half a megabyte: blocks of 10 MiB with 130 rules.
const KEPT_WORDS_MAX: usize = 1 << 16;

/// Where an expression looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Window {
    /// What it reads.
    pub(super) span: Range<usize>,
    /// Where a match may begin, at most: what begins behind it is not whole, or not there.
    pub(super) begin_max: usize,
}

impl Window {
    /// All of `span`.
    pub(super) fn whole(span: Range<usize>) -> Window {
        Window { begin_max: span.end, span }
    }
}

/// For each block of one text the rules that may match in it.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    words: Vec<u64>,
    /// Words of a block; 0 when the text was not looked at in blocks.
    each: usize,
    bytes: usize,
}

impl Blocks {
    /// Looks at `text`, where it is worth while, in which the rules of `presence` may match. `margin` is longer than
    /// what the engine has to see of a match; `scan` asks it.
    ///
    /// # Errors
    /// Those of `scan`.
    pub(super) fn look(
        &mut self,
        text: &[u8],
        presence: &Presence,
        margin: usize,
        mut scan: impl FnMut(&[u8], &mut Presence) -> Result<(), EngineFault>,
    ) -> Result<(), EngineFault> {
        self.each = 0;
        self.bytes = text.len();
        self.words.clear();
        self.words.shrink_to(KEPT_WORDS_MAX);
        if text.len() < TEXT_BYTES_MIN || presence.iter().take(RULES_MIN).count() < RULES_MIN {
            return Ok(());
        }
        let mut here = presence.clone();
        for start in (0..text.len()).step_by(BLOCK_BYTES) {
            here.clear();
            // The byte before it says whether a word begins with the block.
            let end = text.len().min(start + BLOCK_BYTES + margin);
            scan(&text[start.saturating_sub(1)..end], &mut here)?;
            self.words.extend_from_slice(here.words());
        }
        self.each = presence.words().len();
        Ok(())
    }

    /// The whole of `text`, for each rule.
    pub(super) fn skip(&mut self, text: &[u8]) -> Result<(), EngineFault> {
        (self.each, self.bytes) = (0, text.len());
        Ok(())
    }

    /// Where the expression of rule `rule` has to look in the text; `reach` is how far a match of it reaches with all that decides
    /// about it, in bytes, `None` without a bound.
    pub(super) fn windows(
        &self,
        rule: usize,
        reach: Option<usize>,
    ) -> impl Iterator<Item = Window> + '_ {
        let reach = reach.filter(|reach| self.each > 0 && *reach <= REACH_BYTES_MAX);
        let count = if reach.is_some() { self.bytes.div_ceil(BLOCK_BYTES) } else { 1 };
        let mut next = 0;
        std::iter::from_fn(move || {
            let Some(reach) = reach else {
                let first = next == 0;
                next = 1;
                return first.then(|| Window::whole(0..self.bytes));
            };
            let has =
                |block: &usize| self.words[block * self.each + rule / 64] >> (rule % 64) & 1 == 1;
            let first = (next..count).find(has)?;
            next = (first + 1..count).find(|block| !has(block)).unwrap_or(count);
            let begin_max = self.bytes.min(next * BLOCK_BYTES);
            let end = self.bytes.min(begin_max + reach);
            Some(Window { span: first * BLOCK_BYTES..end, begin_max })
        })
    }
}
