//! Schedule, buffers, lifetimes.
