//! Training: the loop, the numbers of a step, and what stops a run that has gone wrong.

pub mod schedule;
