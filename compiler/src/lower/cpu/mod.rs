//! Fused kernels on the processor.
//!
//! An entry is planned once ([`crate::plan`]); its steps become the operators of one luminal graph, run in planned order
//! over one arena. Token counts only move offsets: nothing is rebuilt for them. bf16 lies in memory as such, everything else
//! as f32: i32 and bool as whole numbers, f64 rounded except for values without dims, which are computed in f64. Kernels
//! that know no bf16 are given f32 for the time they run.
//!
//! `kernel` is the exhaustive match from op to kernel; one file a family.

mod activation;
mod attention;
mod context;
mod einsum;
mod elementwise;
mod joins;
mod lanes;
mod leaves;
mod limit;
mod linear;
mod math;
mod matmul;
mod memory;
mod nest;
mod norm;
pub(crate) mod parallel;
mod peak;
mod place;
mod reduce;
mod room;
mod rows;
mod scratch;
#[cfg(test)]
mod tests;
mod update;
mod view;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Instant;

use super::luminal::chain::{Chain, Job};
use super::profile::Clock;
use super::{Event, LowerError, Machine, Output, Shared, StepInputs};
use crate::ir::graph::{Segments, SlotId};
use crate::ir::kind::Kind;
use crate::ir::op::Op;
use crate::plan::{Plan, Step};
use crate::program::{Entry, Program};
use context::Context;
use limit::Limit;
use memory::Memory;

pub use peak::{Peak, peak, peak_within};

/// The entries that a machine runs; `init` and `draw` are the interpreter's.
const ENTRIES: [Entry; 4] = [Entry::Grads, Entry::Update, Entry::Metrics, Entry::Backbone];

/// A program on the processor.
pub struct CpuMachine {
    program: Shared,
    memory: Rc<Memory>,
    entries: Vec<Lowered>,
    pool: rayon::ThreadPool,
    threads: usize,
    clock: Rc<RefCell<Clock>>,
    limit: Option<Limit>,
    peak: usize,
}

/// An entry, planned, and its operators.
struct Lowered {
    entry: Entry,
    cx: Rc<Context>,
    chain: Chain,
}

impl CpuMachine {
    /// Plans and lowers the entries; slots are zero until they are loaded. Weights, state and the values of a step take at
    /// most `limit` bytes, if there is one, or the step fails.
    pub fn new(program: Shared, threads: usize, limit: Option<usize>) -> Result<CpuMachine, LowerError> {
        let limit = limit.map(|bytes| Limit::new(&program, bytes)).transpose()?;
        let memory = Rc::new(Memory::new(&slot_sizes(&program))?);
        let threads = threads.max(1);
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .map_err(|e| LowerError::User(format!("cannot start {threads} threads: {e}")))?;
        let peak = memory.bytes();
        let clock = Rc::default();
        let mut machine = CpuMachine { program, memory, entries: vec![], pool, threads, clock, limit, peak };
        for entry in ENTRIES {
            refuse_draws(&machine.program, entry)?;
            let program = &machine.program;
            let plan = Plan::new(program.entry(entry), &program.tables, batch(program));
            let cx = Context::new(machine.program.clone(), plan, machine.memory.clone(), threads);
            let lowered = machine.lower(entry, cx);
            machine.entries.push(lowered);
        }
        Ok(machine)
    }

    fn lower(&self, entry: Entry, cx: Context) -> Lowered {
        let cx = Rc::new(cx);
        let job = |s: usize| (name(&cx.plan.steps[s].op).to_string(), job(&cx, entry, s, &self.clock));
        let jobs: Vec<(String, Job)> = (0..cx.plan.steps.len()).map(job).collect();
        let chain = Chain::new(jobs);
        Lowered { entry, cx, chain }
    }

    /// The entry, planned so that a step with these counts is within the limit.
    fn within_limit(&mut self, entry: Entry, segments: &Segments) -> Result<usize, LowerError> {
        let Some(place) = self.entries.iter().position(|e| e.entry == entry) else {
            return Err(LowerError::Bug(format!("entry `{}` is not for kernels", entry.name())));
        };
        if let Some(limit) = &mut self.limit
            && let Some(cx) = limit.keep(&self.entries[place].cx, entry, segments, self.threads)?
        {
            self.entries[place] = self.lower(entry, cx);
        }
        Ok(place)
    }
}

impl Machine for CpuMachine {
    fn slot(&self, id: SlotId) -> &[f32] {
        self.memory.slot(id)
    }

    fn slot_mut(&mut self, id: SlotId) -> &mut [f32] {
        self.memory.slot_mut(id)
    }

    fn run(&mut self, entry: Entry, step: &StepInputs) -> Result<Vec<Output>, LowerError> {
        let place = self.within_limit(entry, step.segments)?;
        let Lowered { cx, chain, .. } = &mut self.entries[place];
        cx.begin(step)?;
        cx.check_inputs()?;
        self.peak = self.peak.max(self.memory.bytes());
        let lent = Lent(chain);
        let done = self.pool.install(move || lent.execute());
        self.peak = self.peak.max(self.memory.bytes());
        done?;
        Ok(cx.plan.outputs.iter().map(|(name, value)| output(cx, name, *value)).collect())
    }

    fn prepare(&mut self, segments: &Segments) -> Result<Option<usize>, LowerError> {
        let mut words = 0;
        for entry in ENTRIES {
            let place = self.within_limit(entry, segments)?;
            words = words.max(self.entries[place].cx.lay_out(segments)?);
        }
        Ok(Some(self.memory.slot_bytes() + 4 * words))
    }

    fn peak_bytes(&self) -> usize {
        self.peak
    }

    fn profile(&mut self) -> Vec<(String, f64)> {
        self.clock.borrow_mut().take()
    }

    fn record(&mut self) -> Result<(), LowerError> {
        self.clock.borrow_mut().record();
        Ok(())
    }

    fn recorded(&mut self) -> Vec<Event> {
        self.clock.borrow_mut().recorded()
    }
}

/// Clips of a step, for which entries are planned.
fn batch(program: &Program) -> usize {
    program.run.as_ref().map_or(1, |run| run.batch)
}

/// Numbers in each slot.
fn slot_sizes(program: &Program) -> Vec<usize> {
    program.tables.slots.iter().map(|s| s.shape.iter().product()).collect()
}

/// A chain lent to the pool.
struct Lent<'a>(&'a mut Chain);

// SAFETY: `install` blocks the machine's thread until the chain is done, so the chain, and all that its operators share,
// is used by one thread at a time; kernels hand other threads views and slices only.
unsafe impl Send for Lent<'_> {}

impl Lent<'_> {
    fn execute(self) -> Result<(), LowerError> {
        self.0.execute()
    }
}

fn refuse_draws(program: &Program, entry: Entry) -> Result<(), LowerError> {
    for node in program.entry(entry).nodes.node_weights() {
        if let Op::Draw { site, .. } = &node.op {
            return Err(LowerError::Bug(format!("draw `{site}` in entry `{}`", entry.name())));
        }
    }
    Ok(())
}

/// A named result, copied out.
fn output(cx: &Context, name: &str, value: usize) -> Output {
    let mut data = vec![0.0; cx.shape(value).total()];
    let place = place::Shared::new(&mut data);
    cx.widened(&[value], &[], || {
        let view = cx.view(value);
        let bases = (0..view.shape.blocks).map(|b| view.shape.start(b)).collect();
        let strides = (0..view.shape.blocks).flat_map(|b| view::dense_strides(view.shape.dims(b))).collect();
        elementwise::copy_view(&view, &view::View::region(place, view.shape.clone(), bases, strides), place);
    });
    Output { name: name.to_string(), ty: cx.ty(value).clone(), data }
}

/// The work of a step: its kernel, rounding of bf16 results, and the clock.
fn job(cx: &Rc<Context>, entry: Entry, index: usize, clock: &Rc<RefCell<Clock>>) -> Job {
    let (cx, clock) = (cx.clone(), clock.clone());
    let label = name(&cx.plan.steps[index].op);
    Box::new(move || {
        let start = Instant::now();
        let step = &cx.plan.steps[index];
        let run = || if reads_bf16(&cx, step) { kernel(&cx, step) } else { cx.in_f32(step, || kernel(&cx, step)) };
        cx.with_workspace(index, run).map_err(|e| located(e, step))?;
        let seconds = start.elapsed().as_secs_f64();
        clock.borrow_mut().add(label, seconds, || {
            let types = |values: &[usize]| values.iter().map(|&v| shown(&cx, v)).collect();
            let (inputs, outputs) = (types(&step.inputs), types(&step.outputs));
            Event { entry, op: label, place: step.place.clone(), inputs, outputs, start, seconds }
        });
        Ok(())
    })
}

/// True if the kernel reads and writes bf16 itself; others are given f32 (see [`Context::in_f32`]).
fn reads_bf16(cx: &Context, step: &Step) -> bool {
    match (&step.op, step.op.kind()) {
        // Moves of elements as they are.
        (Op::Reshape | Op::Arrange { .. } | Op::Slice { .. } | Op::Concat { .. } | Op::Pad { .. }, _) => {
            step.inputs.iter().all(|v| cx.stored(*v) == cx.stored(step.outputs[0]))
        }
        (Op::Gather { .. } | Op::Softmax | Op::SoftmaxGrad | Op::Reduce { .. }, _) => true,
        (_, Kind::Elementwise | Kind::Product | Kind::Norm | Kind::Attention) => true,
        (_, Kind::Leaf | Kind::View | Kind::Join | Kind::Move | Kind::Reduction | Kind::Effect(_)) => false,
    }
}

/// A value's type with this step's extents: `f32 16 x [40..57, 384]`.
fn shown(cx: &Context, value: usize) -> String {
    format!("{} {}", cx.ty(value).dtype.name(), cx.shape(value))
}

fn located(error: LowerError, step: &Step) -> LowerError {
    match error {
        LowerError::User(text) => LowerError::User(text),
        LowerError::Bug(text) => {
            LowerError::Bug(format!("{text} ({} {}, {})", name(&step.op), step.node.index(), step.place))
        }
    }
}

/// Runs the kernel of a step.
fn kernel(cx: &Context, step: &Step) -> Result<(), LowerError> {
    match &step.op {
        Op::Read(slot) => leaves::read(cx, step, *slot),
        Op::Scalar(id) => {
            cx.set_number(step, cx.scalar(id.0 as usize)?);
            Ok(())
        }
        Op::Constant(value) => {
            cx.set_number(step, *value);
            Ok(())
        }
        Op::Iota => leaves::iota(cx, step),
        Op::Index { set, which } => leaves::index(cx, step, *set, *which),
        Op::Strategy(_) => leaves::strategy(cx, step),
        Op::Size(extents) => leaves::size(cx, step, extents),
        Op::Draw { site, .. } => Err(LowerError::Bug(format!("draw `{site}` outside of mask drawing"))),
        Op::Unary(op) => elementwise::unary(cx, step, *op),
        Op::Binary(op) => elementwise::binary(cx, step, *op),
        Op::Select => elementwise::select(cx, step),
        Op::Cast => elementwise::cast(cx, step),
        Op::Input(_) | Op::Stop | Op::Arrange { .. } | Op::Reshape | Op::Slice { .. } => elementwise::copy(cx, step),
        Op::Pad { axis, before } => joins::pad(cx, step, *axis, before),
        Op::Concat { axis } => joins::concat(cx, step, *axis),
        Op::Gather { axis, shared } => rows::gather(cx, step, *axis, *shared),
        Op::ScatterAdd { axis, shared } => rows::scatter_add(cx, step, *axis, *shared),
        Op::OneHot => rows::one_hot(cx, step),
        Op::Reduce { op, axes } => reduce::reduce(cx, step, *op, axes),
        Op::Argmax { axis } => reduce::argmax(cx, step, *axis),
        Op::Fold { mean } => reduce::fold(cx, step, *mean),
        Op::Einsum { a, b, out } => einsum::einsum(cx, step, &einsum::Labels { a, b, out }),
        Op::Accumulate(slot) => update::accumulate(cx, step, *slot),
        Op::Store(slot) => update::store(cx, step, *slot),
        Op::Adamw { weight, first, second } => {
            update::adamw(cx, step, &update::AdamwSlots { weight: *weight, first: *first, second: *second })
        }
        Op::Sgd { weight, velocity } => update::sgd(cx, step, *weight, *velocity),
        Op::Ema(slot) => update::ema(cx, step, *slot),
        Op::Linear => linear::linear(cx, step),
        Op::LayerNorm { eps } => norm::layer_norm(cx, step, *eps),
        Op::LayerNormGrad { eps } => norm::layer_norm_grad(cx, step, *eps),
        Op::Softmax => norm::softmax(cx, step),
        Op::SoftmaxGrad => norm::softmax_grad(cx, step),
        Op::Attention { scale } => attention::attention(cx, step, *scale),
        Op::AttentionGrad { scale } => attention::attention_grad(cx, step, *scale),
        Op::Gelu => activation::gelu(cx, step),
        Op::GeluGrad => activation::gelu_grad(cx, step),
        Op::Patches { tube, dy, dx } => rows::patches(cx, step, rows::Tubelet { tube: *tube, dy: *dy, dx: *dx }),
    }
}

/// The name of an op in profiles and errors.
pub fn name(op: &Op) -> &'static str {
    match op {
        Op::Read(_) => "read",
        Op::Input(_) => "input",
        Op::Scalar(_) => "scalar",
        Op::Constant(_) => "constant",
        Op::Iota => "iota",
        Op::Index { .. } => "index",
        Op::Strategy(_) => "strategy",
        Op::Size(_) => "size",
        Op::Draw { .. } => "draw",
        Op::Unary(_) => "unary",
        Op::Binary(_) => "binary",
        Op::Select => "select",
        Op::Cast => "cast",
        Op::Stop => "stop",
        Op::Arrange { .. } => "arrange",
        Op::Reshape => "reshape",
        Op::Slice { .. } => "slice",
        Op::Pad { .. } => "pad",
        Op::Concat { .. } => "concat",
        Op::Gather { .. } => "gather",
        Op::ScatterAdd { .. } => "scatter_add",
        Op::OneHot => "one_hot",
        Op::Reduce { .. } => "reduce",
        Op::Argmax { .. } => "argmax",
        Op::Fold { .. } => "fold",
        Op::Einsum { .. } => "einsum",
        Op::Accumulate(_) => "accumulate",
        Op::Store(_) => "store",
        Op::Adamw { .. } => "adamw",
        Op::Sgd { .. } => "sgd",
        Op::Ema(_) => "ema",
        Op::Linear => "linear",
        Op::LayerNorm { .. } => "layer_norm",
        Op::LayerNormGrad { .. } => "layer_norm_grad",
        Op::Softmax => "softmax",
        Op::SoftmaxGrad => "softmax_grad",
        Op::Attention { .. } => "attention",
        Op::AttentionGrad { .. } => "attention_grad",
        Op::Gelu => "gelu",
        Op::GeluGrad => "gelu_grad",
        Op::Patches { .. } => "patches",
    }
}
