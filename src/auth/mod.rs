//! Who calls: tokens, key sets, protected-resource metadata and the deny list.
