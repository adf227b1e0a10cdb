//! Who calls: tokens, key sets, protected-resource metadata and the deny list.
//!
//! Everything here is sans-I/O: bytes and [`Now`](crate::types::Now) come in, decisions and wishes
//! for a fetch go out. The control thread that performs the fetches and watches the deny file lives
//! in `app`. Nothing here knows grants, scanning or the record.
//!
//! | module | holds |
//! |---|---|
//! | [`object`] | strict reading of a small JSON object: duplicate members are refused |
//! | [`keys`] | public keys, the snapshot of all issuers' key sets, the machine that asks for fetches |
//! | [`token`] | `Authorization` and the access token: one function decides |
//! | [`cache`] | verified tokens of one worker, by digest |
//! | [`metadata`] | RFC 9728 document, its address, the 401 challenge |
//! | [`deny`] | who is out although the token is still good |
//! | [`handle`] | session and event ids bound to their owner |

pub mod cache;
pub mod deny;
pub mod handle;
pub mod keys;
pub mod metadata;
pub mod object;
pub mod token;

pub use cache::Cache;
pub use deny::DenyList;
pub use keys::KeySets;
pub use token::{Issuer, TokenFault};
