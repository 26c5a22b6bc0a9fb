//! Schedule, storage and lifetimes of an entry, settled once; sizes and offsets follow from each step's counts.
//!
//! [`Plan::new`] fixes the order of the nodes, decides which values are **lenses** (strided views of another value's
//! storage, see [`lens`]) and which own a buffer of the arena, and notes from which step to which a buffer lives.
//! Token counts change every step: [`shape::Shape`] holds one step's extents of a type and [`arena::offsets`] places the
//! buffers for them; `in_place` lets a result take over the buffer of an input that nobody else reads. Nothing here
//! depends on a device.

pub mod arena;
pub mod check;
pub mod fit;
mod in_place;
pub mod lens;
pub mod recompute;
pub mod schedule;
pub mod shape;
pub mod work;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::ir::graph::{Extent, Graph, InputId, Node, Outer, SlotId, Tables, Type, Value};
use crate::ir::kind::Kind;
use crate::ir::op::{DType, Op};
use arena::Span;
use lens::Lens;
use petgraph::stable_graph::NodeIndex;
use shape::Shape;

/// Where a value's elements are.
#[derive(Clone, Debug, PartialEq)]
pub enum Home {
    /// Its own buffer: an index into [`Plan::buffers`].
    Arena(usize),
    /// A slot's content.
    Slot(SlotId),
    /// What the caller supplied.
    Input(InputId),
    /// A view of another value, which is no lens itself.
    Lens(Lens),
}

/// How elements lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// Four bytes; whole numbers and truths too.
    F32,
    /// Two bytes.
    Bf16,
}

impl Stored {
    /// How the arena stores a type: bf16 as such, but for numbers; all else as f32.
    pub fn of(ty: &Type) -> Stored {
        if ty.dtype == DType::Bf16 && !ty.dims.is_empty() { Stored::Bf16 } else { Stored::F32 }
    }

    /// Words of four bytes that so many elements take.
    pub fn words(self, elements: usize) -> usize {
        match self {
            Stored::F32 => elements,
            Stored::Bf16 => elements.div_ceil(2),
        }
    }
}

/// A value of the entry.
#[derive(Clone, Debug)]
pub struct Planned {
    /// Its type.
    pub ty: Type,
    /// Index into [`Plan::shapes`].
    pub shape: usize,
    /// Where it is.
    pub home: Home,
}

/// One operation to run.
#[derive(Clone, Debug)]
pub struct Step {
    /// The node it came from.
    pub node: NodeIndex,
    /// What to do.
    pub op: Op,
    /// Indices into [`Plan::values`].
    pub inputs: Vec<usize>,
    /// One a port.
    pub outputs: Vec<usize>,
    /// Path of the instance it came from.
    pub place: Arc<str>,
}

/// A buffer of the arena: the size class it has and the steps it lives through, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffer {
    /// Index into [`Plan::shapes`].
    pub shape: usize,
    /// How its elements lie.
    pub stored: Stored,
    /// The step that writes it.
    pub first: usize,
    /// The last step that reads it.
    pub last: usize,
}

/// An entry, ready to be lowered.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// In the order of execution.
    pub steps: Vec<Step>,
    /// All values.
    pub values: Vec<Planned>,
    /// The distinct (outer, extents) of the values.
    pub shapes: Vec<(Outer, Vec<Extent>)>,
    /// Buffers with their lifetimes.
    pub buffers: Vec<Buffer>,
    /// Named results.
    pub outputs: Vec<(String, usize)>,
}

impl Plan {
    /// Plans an entry for steps of about so many clips.
    pub fn new(graph: &Graph, tables: &Tables, clips: usize) -> Plan {
        Plan::again(graph, tables, clips, &BTreeSet::new())
    }

    /// Plans an entry whose late readers find the values of the nodes in `again` computed once more.
    pub fn again(graph: &Graph, tables: &Tables, clips: usize, again: &BTreeSet<NodeIndex>) -> Plan {
        let size = sizes(tables, clips);
        let mut graph = graph.clone();
        let order = schedule::schedule(&graph, &size);
        let order = match recompute::recompute(&mut graph, &order, again) {
            0 => order,
            _ => schedule::schedule(&graph, &size),
        };
        let mut planner = Planner::new(&graph, &order);
        for &node in &order {
            planner.node(node);
        }
        let plan = planner.finish();
        if cfg!(debug_assertions)
            && let Err(reason) = check::check(&plan)
        {
            panic!("compiler bug: {reason}");
        }
        plan
    }

    /// The buffers of a step, given the elements of each of [`Plan::shapes`].
    pub fn spans(&self, elements: impl Fn(usize) -> usize) -> Vec<Span> {
        let span = |b: &Buffer| Span { first: b.first, last: b.last, words: b.stored.words(elements(b.shape)) };
        self.buffers.iter().map(span).collect()
    }

    /// How a value's elements lie in the storage it uses.
    pub fn stored(&self, value: usize) -> Stored {
        let root = &self.values[self.root(value)];
        match root.home {
            Home::Arena(buffer) => self.buffers[buffer].stored,
            Home::Slot(_) | Home::Input(_) | Home::Lens(_) => Stored::F32,
        }
    }

    /// The buffer in which a value lies.
    pub fn buffer(&self, value: usize) -> Option<usize> {
        match self.values[self.root(value)].home {
            Home::Arena(buffer) => Some(buffer),
            Home::Slot(_) | Home::Input(_) | Home::Lens(_) => None,
        }
    }

    /// The value whose storage `value` uses: itself unless it is a lens.
    pub fn root(&self, value: usize) -> usize {
        match &self.values[value].home {
            Home::Lens(lens) => lens.root,
            Home::Arena(_) | Home::Slot(_) | Home::Input(_) => value,
        }
    }
}

/// An entry's graph with a view of its own for each group of near readers, as [`fit`] needs it.
pub fn with_views_parted(graph: &Graph, tables: &Tables, clips: usize) -> Graph {
    let mut graph = graph.clone();
    let order = schedule::schedule(&graph, sizes(tables, clips));
    recompute::part_views(&mut graph, &order);
    graph
}

/// Words that a value of a type takes at most in a step of so many clips.
fn sizes(tables: &Tables, clips: usize) -> impl Fn(&Type) -> usize {
    let bounds = shape::bounds(tables, clips);
    move |ty| Stored::of(ty).words(Shape::new(tables, &bounds, ty.outer, &ty.extents()).total())
}

struct Planner<'a> {
    graph: &'a Graph,
    positions: HashMap<NodeIndex, usize>,
    slot_effects: HashMap<SlotId, Vec<usize>>,
    ids: HashMap<Value, usize>,
    shape_ids: HashMap<(Outer, Vec<Extent>), usize>,
    plan: Plan,
}

impl<'a> Planner<'a> {
    fn new(graph: &'a Graph, order: &[NodeIndex]) -> Planner<'a> {
        let positions = order.iter().enumerate().map(|(p, n)| (*n, p)).collect();
        let mut slot_effects: HashMap<SlotId, Vec<usize>> = HashMap::new();
        for (position, node) in order.iter().enumerate() {
            for slot in graph.nodes[*node].op.written() {
                slot_effects.entry(slot).or_default().push(position);
            }
        }
        Planner {
            graph,
            positions,
            slot_effects,
            ids: HashMap::new(),
            shape_ids: HashMap::new(),
            plan: Plan::default(),
        }
    }

    /// Gives every result of a node a home, and a step to those that are to be computed.
    fn node(&mut self, index: NodeIndex) {
        let node = &self.graph.nodes[index];
        let inputs: Vec<usize> = self.graph.inputs(index).iter().map(|v| self.ids[v]).collect();
        if let Some(home) = self.without_work(index, node, &inputs) {
            self.value(Value::from(index), &node.types[0], home);
            return;
        }
        let inputs = self.seen_through(node, inputs);
        let step = self.plan.steps.len();
        let mut outputs = vec![];
        for (port, ty) in node.types.iter().enumerate() {
            let value = Value { node: index, port: port as u8 };
            let home = match self.effect_home(index, &node.op, value) {
                Some(home) => home,
                None => {
                    let shape = self.shape(ty);
                    let stored = self.stored(value, ty);
                    self.plan.buffers.push(Buffer { shape, stored, first: step, last: step });
                    Home::Arena(self.plan.buffers.len() - 1)
                }
            };
            outputs.push(self.value(value, ty, home));
        }
        self.plan.steps.push(Step { node: index, op: node.op.clone(), inputs, outputs, place: node.place.clone() });
    }

    /// How a result is stored: as its type says, or, if all that read it round it to bf16, rounded at once.
    fn stored(&self, value: Value, ty: &Type) -> Stored {
        let rounds = |node: &NodeIndex| {
            let reader = &self.graph.nodes[*node];
            reader.op == Op::Cast && reader.types[0].dtype == DType::Bf16
        };
        let users = self.graph.users(value);
        let shown = self.graph.outputs.iter().any(|(_, v)| *v == value);
        if ty.dtype == DType::F32 && !ty.dims.is_empty() && !shown && !users.is_empty() {
            return if users.iter().all(|(node, _)| rounds(node)) { Stored::Bf16 } else { Stored::F32 };
        }
        Stored::of(ty)
    }

    /// The home of a node that needs no step: leaves in place, and views where every user can read strides.
    fn without_work(&self, index: NodeIndex, node: &Node, inputs: &[usize]) -> Option<Home> {
        let value = Value::from(index);
        let ty = &node.types[0];
        let position = self.positions[&index];
        let lens = match (&node.op, node.op.kind()) {
            (Op::Read(slot), _) => return self.slot_stays(*slot, position, value).then_some(Home::Slot(*slot)),
            (Op::Input(input), _) => return Some(Home::Input(*input)),
            (Op::Stop, _) => self.lens(inputs[0]),
            (Op::Cast, _) if exact(self.plan.values[inputs[0]].ty.dtype, ty.dtype) => self.lens(inputs[0]),
            (Op::Cast, _) if ty.dtype == DType::Bf16 && self.plan.stored(inputs[0]) == Stored::Bf16 => {
                self.lens(inputs[0])
            }
            (Op::Arrange { from }, _) => self.lens(inputs[0]).arrange(from),
            (Op::Slice { axis, start }, _) => self.lens(inputs[0]).slice(*axis, start),
            (Op::Reshape, _) => {
                self.lens(inputs[0]).reshape(&self.plan.values[inputs[0]].ty.extents(), &ty.extents())?
            }
            (_, Kind::Leaf | Kind::View | Kind::Elementwise | Kind::Join | Kind::Move) => return None,
            (_, Kind::Product | Kind::Reduction | Kind::Norm | Kind::Attention | Kind::Effect(_)) => return None,
        };
        let root = &self.plan.values[lens.root].ty;
        let readable = lens.is_dense(ty, root)
            || self
                .graph
                .users(value)
                .iter()
                .all(|(user, place)| reads_strides(&self.graph.nodes[*user].op, *place, lens.unit_last(ty)));
        readable.then_some(Home::Lens(lens))
    }

    /// The input of a view that must be copied, seen in the dims of the result.
    fn seen_through(&mut self, node: &Node, inputs: Vec<usize>) -> Vec<usize> {
        let lens = match (&node.op, node.op.kind()) {
            (Op::Arrange { from }, _) => self.lens(inputs[0]).arrange(from),
            (Op::Slice { axis, start }, _) => self.lens(inputs[0]).slice(*axis, start),
            (_, Kind::Leaf | Kind::View | Kind::Elementwise | Kind::Join | Kind::Move) => return inputs,
            (_, Kind::Product | Kind::Reduction | Kind::Norm | Kind::Attention | Kind::Effect(_)) => return inputs,
        };
        let shape = self.shape(&node.types[0]);
        self.plan.values.push(Planned { ty: node.types[0].clone(), shape, home: Home::Lens(lens) });
        vec![self.plan.values.len() - 1]
    }

    /// A value seen through a lens: its own, or the plain one of its dense storage.
    fn lens(&self, value: usize) -> Lens {
        match &self.plan.values[value].home {
            Home::Lens(lens) => lens.clone(),
            Home::Arena(_) | Home::Slot(_) | Home::Input(_) => {
                Lens::whole(value, &self.plan.values[value].ty.extents())
            }
        }
    }

    /// The value of an effect is its slot, unless the slot changes again before the value is last read.
    fn effect_home(&self, index: NodeIndex, op: &Op, value: Value) -> Option<Home> {
        let slot = op.written().next()?;
        self.slot_stays(slot, self.positions[&index], value).then_some(Home::Slot(slot))
    }

    /// True if no effect changes `slot` after `position` and before the last step that may read `value`.
    fn slot_stays(&self, slot: SlotId, position: usize, value: Value) -> bool {
        let last = self.last_reader(value);
        self.slot_effects.get(&slot).is_none_or(|effects| effects.iter().all(|&e| e <= position || e >= last))
    }

    /// The last position that may read a value, looking through whatever may become a lens of it.
    fn last_reader(&self, value: Value) -> usize {
        if self.graph.outputs.iter().any(|(_, v)| *v == value) {
            return usize::MAX;
        }
        let last = |user: NodeIndex| match (&self.graph.nodes[user].op, self.graph.nodes[user].op.kind()) {
            (Op::Cast, _) | (_, Kind::View) => self.last_reader(user.into()).max(self.position(user)),
            (_, Kind::Leaf | Kind::Elementwise | Kind::Join | Kind::Move) => self.position(user),
            (_, Kind::Product | Kind::Reduction | Kind::Norm | Kind::Attention | Kind::Effect(_)) => {
                self.position(user)
            }
        };
        self.graph.users(value).into_iter().map(|(user, _)| last(user)).max().unwrap_or(0)
    }

    /// When a node runs; 0 if nothing needs it.
    fn position(&self, node: NodeIndex) -> usize {
        self.positions.get(&node).copied().unwrap_or(0)
    }

    fn value(&mut self, value: Value, ty: &Type, home: Home) -> usize {
        let shape = self.shape(ty);
        let id = self.plan.values.len();
        self.plan.values.push(Planned { ty: ty.clone(), shape, home });
        self.ids.insert(value, id);
        id
    }

    fn shape(&mut self, ty: &Type) -> usize {
        let key = (ty.outer, ty.extents());
        if let Some(&id) = self.shape_ids.get(&key) {
            return id;
        }
        let id = self.plan.shapes.len();
        self.plan.shapes.push(key.clone());
        self.shape_ids.insert(key, id);
        id
    }

    /// Names the outputs and closes the lifetimes.
    fn finish(mut self) -> Plan {
        for (name, value) in &self.graph.outputs {
            self.plan.outputs.push((name.clone(), self.ids[value]));
        }
        let end = self.plan.steps.len();
        let uses: Vec<(usize, usize)> = self
            .plan
            .steps
            .iter()
            .enumerate()
            .flat_map(|(s, step)| step.inputs.iter().map(move |&v| (s, v)))
            .chain(self.plan.outputs.iter().map(|(_, v)| (end, *v)))
            .collect();
        for (step, value) in uses {
            if let Home::Arena(buffer) = self.plan.values[self.plan.root(value)].home {
                let last = &mut self.plan.buffers[buffer].last;
                *last = (*last).max(step);
            }
        }
        in_place::share(&mut self.plan);
        self.plan
    }
}

/// True if a cast changes nothing: the new type holds every value of the old one, and is read as the old one is stored.
fn exact(from: DType, to: DType) -> bool {
    match to {
        DType::F64 | DType::F32 => true,
        DType::Bf16 => matches!(from, DType::Bf16 | DType::Bool), // a truth stays stored as f32
        DType::I32 => matches!(from, DType::I32 | DType::Bool),
        DType::Bool => from == DType::Bool,
    }
}

/// True if the kernel of `op` reads its input `place` through any strides.
fn reads_strides(op: &Op, place: u16, unit_last: bool) -> bool {
    match (op, op.kind()) {
        (Op::Gelu | Op::GeluGrad, _) => false,
        (Op::Einsum { .. } | Op::Reduce { .. }, _) => true,
        (_, Kind::View | Kind::Elementwise | Kind::Join) => true,
        (_, Kind::Attention) => unit_last && place < 3,
        (_, Kind::Leaf | Kind::Move | Kind::Product | Kind::Reduction | Kind::Norm | Kind::Effect(_)) => false,
    }
}
