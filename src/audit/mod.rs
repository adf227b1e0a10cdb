//! Reading the record back: verify, sessions, show, search, echoed.
