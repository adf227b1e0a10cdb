//! Reading one segment.
