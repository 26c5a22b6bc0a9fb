//! Frames -> batches: lists of files, the clip taken from each, its crop, and workers that prepare steps ahead.
//!
//! A batch is a function of (program, list, seed, step): every draw is keyed by what it is for, and neither the number
//! of workers nor the memory for decoded frames enters.

pub mod index;
pub mod sites;

pub mod augment;
pub mod order;
pub mod sample;

pub mod cache;
pub mod loader;
