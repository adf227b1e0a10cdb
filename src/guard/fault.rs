//! Why a text could not be judged.

use super::views::ViewFault;
use super::work::OverBudget;

/// Why a text was not judged. It is then refused whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuardFault {
    /// Escapes remain after the last level of decoding (`views_max`).
    TooDeep,
    /// The decoded views are too long together (`view_bytes_max`).
    TooLong,
    /// More encoded texts in it than the scanner looks into.
    TooMany,
    /// More findings than `findings_max`.
    TooManyFindings,
    /// More rejected candidates than any honest text has.
    TooManyCandidates,
    /// More work than a text of its length may be: most of it is dear.
    TooMuchWork(OverBudget),
    /// The pattern library failed.
    Engine,
    /// The masked message is no longer a message that can be read strictly.
    EditBroke,
    /// The masked message still holds something that must be masked.
    NotClean,
    /// It cannot be read again, to look for opaque content.
    Unreadable,
}

impl GuardFault {
    /// The word used in records and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            GuardFault::TooDeep => "views-too-deep",
            GuardFault::TooLong => "views-too-long",
            GuardFault::TooMany => "too-many-encoded-texts",
            GuardFault::TooManyFindings => "too-many-findings",
            GuardFault::TooManyCandidates => "too-many-candidates",
            GuardFault::TooMuchWork(_) => "over-work-budget",
            GuardFault::Engine => "scan-engine-failed",
            GuardFault::EditBroke => "edit-broke-message",
            GuardFault::NotClean => "mask-left-a-match",
            GuardFault::Unreadable => "message-unreadable",
        }
    }
}

impl std::fmt::Display for GuardFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let GuardFault::TooMuchWork(OverBudget { seen, allowed }) = self {
            return write!(
                f,
                "scanning it is the work of more than the scanner's budget: seen {seen}, allowed {allowed} bytes of ordinary text for a message of its length"
            );
        }
        f.write_str(match self {
            GuardFault::TooDeep => "encoded in more levels than limits.views_max",
            GuardFault::TooLong => "decoded text is longer than limits.view_bytes_max",
            GuardFault::TooMany => {
                "more encoded texts in one message than the scanner's bound of 65536"
            }
            GuardFault::TooManyFindings => "more findings than limits.findings_max",
            GuardFault::TooManyCandidates => "more near-matches than the scanner's bound",
            GuardFault::TooMuchWork(_) => "more work than the scanner's budget",
            GuardFault::Engine => "the pattern library failed",
            GuardFault::EditBroke => "masking would break the message",
            GuardFault::NotClean => "masking did not remove every match",
            GuardFault::Unreadable => "the message cannot be read again",
        })
    }
}

impl From<ViewFault> for GuardFault {
    fn from(fault: ViewFault) -> GuardFault {
        match fault {
            ViewFault::TooDeep => GuardFault::TooDeep,
            ViewFault::TooLong => GuardFault::TooLong,
            ViewFault::TooMany => GuardFault::TooMany,
            ViewFault::TooMuchWork(over) => GuardFault::TooMuchWork(over),
        }
    }
}
