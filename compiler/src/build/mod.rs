//! `Model` to `Graph`.
