//! Keeps a machine within a limit of memory: plans an entry anew, with more values computed again, until a step fits.
//!
//! Token counts differ from step to step. A step that would take more than the limit is planned with still more values
//! computed again; later steps keep that plan. Bits are the same with every plan.

use std::collections::BTreeSet;
use std::rc::Rc;

use super::context::Context;
use super::memory::Memory;
use super::{batch, slot_sizes};
use crate::ir::graph::{Graph, Segments};
use crate::lower::{LowerError, Shared};
use crate::plan::{self, Plan, fit, work};
use crate::program::Entry;
use petgraph::stable_graph::NodeIndex;

/// What an element of a value costs that is written or read once, in operations of a product. By feel: memory is that much
/// slower than arithmetic.
const PASS: f64 = 16.0;

/// A limit on what a machine holds.
pub struct Limit {
    program: Shared,
    bytes: usize,
    /// Bytes of weights, gradients, averages and state, which are not the plan's to choose.
    slots: usize,
    entries: Vec<Fitting>,
}

/// An entry that was planned again.
struct Fitting {
    entry: Entry,
    /// With its views parted.
    graph: Graph,
    /// What is computed again; grows with the steps that need it.
    again: BTreeSet<NodeIndex>,
}

impl Limit {
    /// A limit of so many bytes, which weights and state must leave room in.
    pub fn new(program: &Shared, bytes: usize) -> Result<Limit, LowerError> {
        let slots = Memory::foretold(&slot_sizes(program)).slot_bytes();
        if slots >= bytes {
            let (slots, bytes) = (gib(slots), gib(bytes));
            return Err(LowerError::User(format!(
                "a limit of {bytes} is too small: weights, gradients and optimiser state alone take {slots}"
            )));
        }
        Ok(Limit { program: program.clone(), bytes, slots, entries: vec![] })
    }

    /// A new context for a step that takes more than the limit in the present one; an error with what it takes at least if
    /// there is none.
    pub fn keep(
        &mut self,
        cx: &Context,
        entry: Entry,
        segments: &Segments,
        threads: usize,
    ) -> Result<Option<Context>, LowerError> {
        let words = (self.bytes - self.slots) / 4;
        if cx.lay_out(segments)? <= words {
            return Ok(None);
        }
        let place = match self.entries.iter().position(|f| f.entry == entry) {
            Some(place) => place,
            None => {
                let (tables, clips) = (&self.program.tables, batch(&self.program));
                let graph = plan::with_views_parted(self.program.entry(entry), tables, clips);
                let again = BTreeSet::new();
                self.entries.push(Fitting { entry, graph, again });
                self.entries.len() - 1
            }
        };
        match self.entries[place].fit(&self.program, cx.memory(), segments, threads, words)? {
            Ok(cx) => Ok(Some(cx)),
            Err(least) => {
                let (least, bytes, clips) = (gib(self.slots + 4 * least), gib(self.bytes), segments.clips);
                Err(LowerError::User(format!(
                    "a limit of {bytes} is too small: a step of {clips} clips takes at least {least}, {} of it for weights, \
                     gradients and optimiser state; run fewer clips at once (`--micro-batch`), or allow more",
                    gib(self.slots)
                )))
            }
        }
    }
}

impl Fitting {
    /// A context in which a step takes at most `words` of arena, or the least that was found.
    fn fit(
        &mut self,
        program: &Shared,
        memory: &Rc<Memory>,
        segments: &Segments,
        threads: usize,
        words: usize,
    ) -> Result<Result<Context, usize>, LowerError> {
        let mut planned = self.planned(program, memory, segments, threads)?;
        let mut tried = BTreeSet::new();
        while planned.room > words {
            let cx = &planned.cx;
            let words_of = |value: usize| cx.plan.stored(value).words(cx.shape(value).total());
            let work = |node: NodeIndex| {
                let products = work::node_work(&program.tables, segments, &self.graph, node).unwrap_or(0.0);
                let elements = |ty| segments.elements(&program.tables, ty) as f64;
                products + PASS * self.graph.nodes[node].types.iter().map(elements).sum::<f64>()
            };
            let moment =
                fit::Moment { graph: &self.graph, plan: &cx.plan, spans: &cx.living(), words: &words_of, work: &work };
            let mut again = self.again.clone();
            let chosen = fit::choose(&moment, planned.room - words, &tried, &mut again);
            if chosen.is_empty() {
                return Ok(Err(planned.room));
            }
            let before = std::mem::replace(&mut self.again, again);
            let next = self.planned(program, memory, segments, threads)?;
            if next.room < planned.room {
                planned = next;
            } else {
                self.again = before;
                tried.extend(chosen);
            }
        }
        Ok(Ok(planned.cx))
    }

    /// The entry, planned with what is to be computed again.
    fn planned(
        &self,
        program: &Shared,
        memory: &Rc<Memory>,
        segments: &Segments,
        threads: usize,
    ) -> Result<Planned, LowerError> {
        let plan = Plan::again(&self.graph, &program.tables, batch(program), &self.again);
        let cx = Context::new(program.clone(), plan, memory.clone(), threads);
        let room = cx.lay_out(segments)?;
        Ok(Planned { cx, room })
    }
}

/// A planned entry, and the words of arena that a step takes in it.
struct Planned {
    cx: Context,
    room: usize,
}

/// Bytes for people: `1.50 GiB`, `300 MiB`.
fn gib(bytes: usize) -> String {
    let mib = bytes as f64 / f64::from(1 << 20);
    if mib < 1024.0 { format!("{mib:.0} MiB") } else { format!("{:.2} GiB", mib / 1024.0) }
}
