//! `Ast` to `Model`.
