//! The tensor IR's graph: a petgraph `StableGraph` of nodes, and the tables its ops refer to.
//!
//! Edges run from a value to its user and say which port feeds which input. Tables (slots, inputs, scalars, segment
//! sets, counts) are shared by all entries of a program and live in [`Tables`].

use std::sync::Arc;

use petgraph::Direction;
use petgraph::stable_graph::{NodeIndex, StableGraph};
use petgraph::visit::EdgeRef;
use serde::{Deserialize, Serialize};

use super::op::{DType, Op, Which};
use crate::source::Span;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub struct $name(pub u32);
    )*};
}
ids! {
    /// A stored tensor: [`Tables::slots`].
    SlotId
    /// What the caller supplies: [`Tables::inputs`].
    InputId
    /// A number a step: [`Tables::scalars`].
    ScalarId
    /// A set of segments: [`Tables::sets`].
    SetId
    /// A token count: [`Tables::counts`].
    CountId
}

/// How many blocks a value has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outer {
    /// One for the step.
    One,
    /// One a clip.
    Clips,
    /// One a segment of the set: mask-major, clip-minor (segment = mask_place * clips + clip).
    Segments(SetId),
}

/// The size of a dim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Extent {
    /// Known.
    Static(usize),
    /// Differs from segment to segment.
    Counted(CountId),
}

/// A dim of a block: its extent, and the axis name it is printed with.
#[derive(Clone, Debug)]
pub struct Dim {
    /// Size.
    pub extent: Extent,
    /// For people only: types are equal whatever the names.
    pub name: Arc<str>,
}

impl Dim {
    /// A dim with a name.
    pub fn new(extent: Extent, name: &str) -> Dim {
        Dim { extent, name: name.into() }
    }

    /// A static dim.
    pub fn fixed(size: usize, name: &str) -> Dim {
        Dim::new(Extent::Static(size), name)
    }
}

impl PartialEq for Dim {
    fn eq(&self, other: &Dim) -> bool {
        self.extent == other.extent
    }
}

/// Element type, number of blocks, and dims of a block.
#[derive(Clone, Debug, PartialEq)]
pub struct Type {
    /// Element type.
    pub dtype: DType,
    /// Blocks.
    pub outer: Outer,
    /// Dims of one block.
    pub dims: Vec<Dim>,
}

impl Type {
    /// A type.
    pub fn new(dtype: DType, outer: Outer, dims: Vec<Dim>) -> Type {
        Type { dtype, outer, dims }
    }

    /// A number for the whole step.
    pub fn scalar(dtype: DType) -> Type {
        Type::new(dtype, Outer::One, vec![])
    }

    /// The extents alone.
    pub fn extents(&self) -> Vec<Extent> {
        self.dims.iter().map(|d| d.extent).collect()
    }

    /// The same type with another element type.
    pub fn with_dtype(&self, dtype: DType) -> Type {
        Type { dtype, ..self.clone() }
    }
}

/// One result of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Value {
    /// The node.
    pub node: NodeIndex,
    /// Which of its results.
    pub port: u8,
}

impl From<NodeIndex> for Value {
    fn from(node: NodeIndex) -> Value {
        Value { node, port: 0 }
    }
}

/// A node: its op, result types, and where it came from.
#[derive(Clone, Debug)]
pub struct Node {
    /// The operation.
    pub op: Op,
    /// One type a port.
    pub types: Vec<Type>,
    /// The expression it came from.
    pub span: Option<Span>,
    /// The path of the instance it came from, such as `encoder.blocks.3.attn`; for `explain` and profiles.
    pub place: Arc<str>,
}

/// Which port feeds which input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feed {
    /// Port of the source.
    pub port: u8,
    /// Input of the target, from 0.
    pub input: u16,
}

/// What a slot holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum SlotKind {
    /// A trained weight.
    Trained {
        /// Index into [`Tables::networks`].
        network: usize,
        /// Decayed by the optimiser.
        decay: bool,
    },
    /// A moving average of the slot `of`; its momentum is the scalar.
    Average {
        /// The weight it follows.
        of: SlotId,
        /// Momentum.
        momentum: ScalarId,
    },
    /// A weight that is loaded and never changes.
    Frozen,
    /// A trained weight that the loss does not reach.
    Unused,
    /// Computed once by the init entry.
    Buffer,
    /// Optimiser state of the slot `of`; `name` as in the checkpoint (`exp_avg`, `exp_avg_sq`).
    Moment {
        /// The weight it belongs to.
        of: SlotId,
        /// `exp_avg`, `exp_avg_sq`, `momentum_buffer`.
        name: String,
    },
    /// Gradient of the slot `of`.
    Gradient {
        /// The weight it belongs to.
        of: SlotId,
    },
}

/// A stored tensor. All slots are f32 in memory; shapes are as stored in checkpoints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Slot {
    /// Checkpoint key, such as `encoder.blocks.0.attn.qkv.weight`. Gradients: `grad.` + key. Moments: `name.` + key.
    pub key: String,
    /// Stored dims.
    pub shape: Vec<usize>,
    /// What it holds.
    pub kind: SlotKind,
}

/// A per-step number: a schedule, read at step s (1..=N) or s - 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScalarSpec {
    /// `lr`, `weight_decay`, `ema.target_encoder`, `clip_grad`, `step`, `clips_share` (clips of this call / batch).
    pub name: String,
    /// Where its value comes from; index into `Program::schedules`, or `None` for what the runtime knows (step, share).
    pub schedule: Option<usize>,
    /// Read at step - 1 rather than step (EMA momentum).
    pub previous: bool,
}

/// Index sets over one list of masks: the segments are all (mask, clip) pairs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentSet {
    /// Indices into [`Tables::masks`], in the order of the list.
    pub masks: Vec<usize>,
}

/// What is counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CountKind {
    /// Context tokens of a segment.
    Context(SetId),
    /// Target tokens of a segment.
    Target(SetId),
    /// Two counted extents joined.
    Sum(CountId, CountId),
    /// A counted extent and a static one joined.
    Plus(CountId, usize),
}

/// A token count: one number a segment, at most `bound`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// What.
    pub kind: CountKind,
    /// Static upper bound.
    pub bound: usize,
}

/// One drawn mask (an item of a `masks` list).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MaskSpec {
    /// Path in the model, such as `masks.0`; part of the key of its draws.
    pub name: String,
    /// Number of tokens that indices point into.
    pub tokens: usize,
    /// Extra axes of `target` before the tokens (I-JEPA's 4 targets): their sizes.
    pub target_extra: Vec<usize>,
    /// Extra axes of `context`.
    pub context_extra: Vec<usize>,
}

/// What the caller supplies each step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum InputSpec {
    /// `video(...)`: f32 [frames, size, size, 3] a clip, normalised.
    Video(VideoSpec),
    /// `image(...)`: f32 [size, size, 3].
    Image(VideoSpec),
    /// `label(classes)`: i32, no dims.
    Label {
        /// Number of classes.
        classes: usize,
    },
}

/// Which frames of a file make a clip.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Pace {
    /// One of so many: a clip spans `frames` times as many.
    Every(usize),
    /// So many a second, whatever the file has.
    Rate(f64),
}

impl Pace {
    /// Source frames from one frame of a clip to the next, in a file of so many frames a second: the quotient of whole
    /// frames a second, as in the published code of V-JEPA 2 (`ceil(fps) // rate`), at least 1.
    pub fn step(self, fps: f64) -> usize {
        match self {
            Pace::Every(n) => n,
            Pace::Rate(rate) => ((fps.ceil() / rate).floor() as usize).max(1),
        }
    }
}

#[cfg(test)]
mod pace_tests {
    use super::Pace;

    #[test]
    fn a_rate_is_a_step_of_whole_frames() {
        // 30 and 29.97 frames a second at 4: every 7th, as published.
        assert_eq!([30.0, 29.97, 25.0, 3.0].map(|fps| Pace::Rate(4.0).step(fps)), [7, 7, 6, 1]);
        assert_eq!(Pace::Every(4).step(25.0), 4);
    }
}

impl std::fmt::Display for Pace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Pace::Every(n) => write!(f, "every {n}"),
            Pace::Rate(rate) => write!(f, "rate {rate:?}"),
        }
    }
}

/// Settings of a `video` or `image` source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VideoSpec {
    /// Field name in the model.
    pub name: String,
    /// Frames of a clip (1 for images).
    pub frames: usize,
    /// Which frames of a file the clip has.
    pub pace: Pace,
    /// Height and width after the crop, pixels.
    pub size: usize,
    /// Share of the picture's area that the crop takes, if cropped at random.
    pub crop: Option<(f64, f64)>,
    /// Log-uniform aspect of the crop.
    pub aspect: Option<(f64, f64)>,
    /// Mirrored with probability one half.
    pub flip: bool,
}

/// Tables that all entries of a program share.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tables {
    /// Stored tensors.
    pub slots: Vec<Slot>,
    /// Names of networks, which are clipped one by one.
    pub networks: Vec<String>,
    /// What the caller supplies.
    pub inputs: Vec<InputSpec>,
    /// Numbers a step.
    pub scalars: Vec<ScalarSpec>,
    /// Drawn masks.
    pub masks: Vec<MaskSpec>,
    /// Sets of segments.
    pub sets: Vec<SegmentSet>,
    /// Token counts.
    pub counts: Vec<Count>,
}

/// One entry of a program.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// Nodes and who feeds whom.
    pub nodes: StableGraph<Node, Feed>,
    /// Named results, in order: `loss`, `metric.feature_std`, `mask.0.context`, `tap.context.0`, ...
    pub outputs: Vec<(String, Value)>,
}

impl Graph {
    /// Adds a node and connects its inputs. `types` has one entry a port.
    pub fn add(&mut self, op: Op, inputs: &[Value], types: Vec<Type>, span: Option<Span>, place: &Arc<str>) -> Value {
        let node = self.nodes.add_node(Node { op, types, span, place: place.clone() });
        for (i, v) in inputs.iter().enumerate() {
            self.nodes.add_edge(v.node, node, Feed { port: v.port, input: i as u16 });
        }
        node.into()
    }

    /// The inputs of a node, in order.
    pub fn inputs(&self, node: NodeIndex) -> Vec<Value> {
        let mut feeds: Vec<_> = self
            .nodes
            .edges_directed(node, Direction::Incoming)
            .map(|e| (e.weight().input, Value { node: e.source(), port: e.weight().port }))
            .collect();
        feeds.sort_unstable_by_key(|f| f.0);
        feeds.into_iter().map(|f| f.1).collect()
    }

    /// The users of a value: (node, input place), ascending.
    pub fn users(&self, value: Value) -> Vec<(NodeIndex, u16)> {
        let mut users: Vec<_> = self
            .nodes
            .edges_directed(value.node, Direction::Outgoing)
            .filter(|e| e.weight().port == value.port)
            .map(|e| (e.target(), e.weight().input))
            .collect();
        users.sort_unstable();
        users
    }

    /// The type of a value.
    pub fn ty(&self, value: Value) -> &Type {
        &self.nodes[value.node].types[value.port as usize]
    }

    /// The op of a value's node.
    pub fn op(&self, value: Value) -> &Op {
        &self.nodes[value.node].op
    }

    /// Makes every user of `old`, outputs included, use `new` instead.
    pub fn replace(&mut self, old: Value, new: Value) {
        for (user, input) in self.users(old) {
            if user == new.node {
                continue; // `new` is built from `old`
            }
            let edge = self
                .nodes
                .edges_directed(user, Direction::Incoming)
                .find(|e| e.weight().input == input)
                .map(|e| e.id())
                .expect("compiler bug: a user without its edge");
            self.nodes.remove_edge(edge);
            self.nodes.add_edge(new.node, user, Feed { port: new.port, input });
        }
        for (_, v) in &mut self.outputs {
            if *v == old {
                *v = new;
            }
        }
    }

    /// Nodes so that inputs come before users; ties in order of index, so that the order is stable.
    pub fn order(&self) -> Vec<NodeIndex> {
        let bound = self.nodes.node_indices().map(|n| n.index() + 1).max().unwrap_or(0);
        let mut missing = vec![0usize; bound];
        for n in self.nodes.node_indices() {
            missing[n.index()] = self.nodes.edges_directed(n, Direction::Incoming).count();
        }
        let mut ready: std::collections::BinaryHeap<_> =
            self.nodes.node_indices().filter(|n| missing[n.index()] == 0).map(std::cmp::Reverse).collect();
        let mut order = Vec::with_capacity(self.nodes.node_count());
        while let Some(std::cmp::Reverse(n)) = ready.pop() {
            order.push(n);
            for e in self.nodes.edges_directed(n, Direction::Outgoing) {
                let t = e.target();
                missing[t.index()] -= 1;
                if missing[t.index()] == 0 {
                    ready.push(std::cmp::Reverse(t));
                }
            }
        }
        order
    }

    /// The value called `name` among the outputs.
    pub fn output(&self, name: &str) -> Option<Value> {
        self.outputs.iter().find(|(n, _)| n == name).map(|(_, v)| *v)
    }
}

impl Tables {
    /// The count of a set's context or target tokens, added if new.
    pub fn count(&mut self, kind: CountKind, bound: usize) -> CountId {
        if let Some(i) = self.counts.iter().position(|c| c.kind == kind) {
            return CountId(i as u32);
        }
        self.counts.push(Count { kind, bound });
        CountId(self.counts.len() as u32 - 1)
    }

    /// Which set a count belongs to.
    pub fn set_of(&self, count: CountId) -> SetId {
        match &self.counts[count.0 as usize].kind {
            CountKind::Context(s) | CountKind::Target(s) => *s,
            CountKind::Sum(a, _) | CountKind::Plus(a, _) => self.set_of(*a),
        }
    }

    /// Upper bound of an extent.
    pub fn bound(&self, extent: Extent) -> usize {
        match extent {
            Extent::Static(n) => n,
            Extent::Counted(c) => self.counts[c.0 as usize].bound,
        }
    }
}

/// Index and segment data of one step: what mask drawing hands to every other entry.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Segments {
    /// Number of clips.
    pub clips: usize,
    /// For each set: index sets of its segments, mask-major.
    pub sets: Vec<SegmentData>,
}

/// Index sets of one set: `context[s]` holds the indices of segment s, extra axes outermost, all rows of equal length.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SegmentData {
    /// Visible tokens, ascending.
    pub context: Vec<Vec<i32>>,
    /// Tokens to predict, ascending.
    pub target: Vec<Vec<i32>>,
    /// Number of context tokens in a row of each segment.
    pub context_count: Vec<usize>,
    /// Number of target tokens in a row of each segment.
    pub target_count: Vec<usize>,
}

impl Segments {
    /// The number of elements of `extent` in block `block` of `outer`.
    pub fn extent(&self, tables: &Tables, extent: Extent, segment: usize) -> usize {
        match extent {
            Extent::Static(n) => n,
            Extent::Counted(c) => match &tables.counts[c.0 as usize].kind {
                CountKind::Context(s) => self.sets[s.0 as usize].context_count[segment],
                CountKind::Target(s) => self.sets[s.0 as usize].target_count[segment],
                CountKind::Sum(a, b) => {
                    self.extent(tables, Extent::Counted(*a), segment)
                        + self.extent(tables, Extent::Counted(*b), segment)
                }
                CountKind::Plus(a, n) => self.extent(tables, Extent::Counted(*a), segment) + n,
            },
        }
    }

    /// The number of blocks of an outer.
    pub fn blocks(&self, tables: &Tables, outer: Outer) -> usize {
        match outer {
            Outer::One => 1,
            Outer::Clips => self.clips,
            Outer::Segments(s) => self.clips * tables.sets[s.0 as usize].masks.len(),
        }
    }

    /// Dims of block `block` of a value of type `ty`.
    pub fn dims(&self, tables: &Tables, ty: &Type, block: usize) -> Vec<usize> {
        ty.dims.iter().map(|d| self.extent(tables, d.extent, block)).collect()
    }

    /// Elements of all blocks of a value of type `ty`.
    pub fn elements(&self, tables: &Tables, ty: &Type) -> usize {
        (0..self.blocks(tables, ty.outer)).map(|b| self.dims(tables, ty, b).iter().product::<usize>()).sum()
    }
}

/// Which index set.
pub fn index_extra(tables: &Tables, set: SetId, which: Which) -> &[usize] {
    let mask = &tables.masks[tables.sets[set.0 as usize].masks[0]];
    match which {
        Which::Context => &mask.context_extra,
        Which::Target => &mask.target_extra,
    }
}
