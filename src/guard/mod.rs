//! What may pass: rules, scanner, masking and grants.
