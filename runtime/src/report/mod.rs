//! What a run tells: `metrics.jsonl` for programs, a bar or lines on standard error and `log.txt` for people.

pub mod metrics;
pub mod progress;
