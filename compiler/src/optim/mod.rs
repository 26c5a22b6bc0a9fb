//! Update rules as IR.
