//! What a run tells: `metrics.jsonl` for programs, a bar or lines on standard error and `log.txt` for people; a trace of one step.

pub mod metrics;
pub mod progress;
pub mod trace;
