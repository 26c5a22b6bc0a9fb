//! Where the time of a machine goes: seconds by op name, always; every single run of an op, when it is asked for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use crate::program::Entry;

/// One run of an op.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// The entry it ran in.
    pub entry: Entry,
    /// Its name, as in [`Machine::profile`](super::Machine::profile).
    pub op: &'static str,
    /// Path of the instance it came from.
    pub place: Arc<str>,
    /// Types of what it read, with this step's extents.
    pub inputs: Vec<String>,
    /// Types of what it wrote, likewise.
    pub outputs: Vec<String>,
    /// When it began.
    pub start: Instant,
    /// How long it took.
    pub seconds: f64,
}

/// What has been measured so far.
#[derive(Debug, Default)]
pub struct Clock {
    seconds: BTreeMap<&'static str, f64>,
    events: Option<Vec<Event>>,
}

impl Clock {
    /// Adds a run of an op; `event` describes it and is called only while events are recorded.
    pub fn add(&mut self, op: &'static str, seconds: f64, event: impl FnOnce() -> Event) {
        *self.seconds.entry(op).or_default() += seconds;
        if let Some(events) = &mut self.events {
            events.push(event());
        }
    }

    /// Records events from now on.
    pub fn record(&mut self) {
        self.events = Some(Vec::new());
    }

    /// Stops recording and hands out what was recorded, in order.
    pub fn recorded(&mut self) -> Vec<Event> {
        self.events.take().unwrap_or_default()
    }

    /// Seconds by op name since the last call, most first.
    pub fn take(&mut self) -> Vec<(String, f64)> {
        let mut rows: Vec<_> =
            std::mem::take(&mut self.seconds).into_iter().map(|(op, s)| (op.to_string(), s)).collect();
        rows.sort_by(|a, b| b.1.total_cmp(&a.1));
        rows
    }
}
