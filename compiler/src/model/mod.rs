//! The resolved, typed model: the noun in the middle.
//!
//! `elaborate` makes it, `check` looks at it, `build` turns it into tensor IR. Everything that the language can say more
//! cheaply than a tensor program is gone here: imports, variants, settings, units, comprehensions, blocks. What is left
//! is a list of nodes over **named axes**, a table of weights with their keys, schedules, masks and training settings.
//!
//! A node has an outer (see `ir::op`) and an ordered list of axes, which is its storage order; `build` aligns operands
//! by axis identity. Elementwise nodes list the axes of their result, and operands may lack some of them.

pub mod schedule;

use std::rc::Rc;

use crate::ir::graph::{InputSpec, Outer, SetId};
use crate::ir::op::{BinaryOp, DType, Dist, ReduceOp, UnaryOp, Which};
use crate::source::Span;
pub use schedule::Schedule;

/// Index into [`Model::axes`]: two axes are the same only if their ids are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AxisId(pub u32);
/// Index into [`Model::nodes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u32);
/// Index into [`Model::weights`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WeightId(pub u32);

/// A named axis.
#[derive(Clone, Debug)]
pub struct Axis {
    /// Display name.
    pub name: Rc<str>,
    /// How long it is.
    pub size: AxisSize,
    /// Factors of a product axis (`tokens = (time, rows, cols)`), outermost first.
    pub factors: Vec<AxisId>,
}

/// How long an axis is.
#[derive(Clone, Debug, PartialEq)]
pub enum AxisSize {
    /// Known.
    Static(usize),
    /// Counted by a mask draw of this set; the number is the static bound.
    Counted(SetId, Which, usize),
    /// `a ++ b`: two axes one after another, at least one of them counted.
    Joined(AxisId, AxisId),
}

/// One tensor operation over named axes.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it does.
    pub op: NodeOp,
    /// Operands.
    pub inputs: Vec<NodeId>,
    /// How many blocks: one, one a clip, one a segment.
    pub outer: Outer,
    /// Axes of a block, in storage order.
    pub axes: Vec<AxisId>,
    /// Element type as the language sees it: F64 for numbers of any precision, I32 for index sets, Bool.
    pub dtype: DType,
    /// The expression it came from.
    pub span: Span,
    /// Instance path it was made in, such as `encoder.blocks.3.attn`.
    pub place: Rc<str>,
}

/// What a node does. Axes that an op does not mention ride along.
#[derive(Clone, Debug, PartialEq)]
pub enum NodeOp {
    /// A number.
    Number(f64),
    /// A schedule's value at the step.
    Scheduled(Schedule),
    /// Positions along the node's only axis.
    Iota,
    /// A stored tensor; the node's axes are its logical axes (a literal 1 in the stored shape has none; a group has several).
    Weight(WeightId),
    /// A video, image or label: index into [`Model::sources`].
    Source(usize),
    /// Index set of a mask draw; axes are (extra..., counted).
    Index(SetId, Which),
    /// Place of the segment's mask in its list.
    Strategy(SetId),
    /// A draw inside a mask, by name. Inputs: the distribution's parameters. Outer One if `per batch`, else Clips.
    Draw {
        /// Distribution.
        dist: Dist,
        /// Name of the draw; mask path and occurrence are added by `build`.
        name: Rc<str>,
    },
    /// Coordinates of every position of a product axis: axes (product, coord), coord as long as it has factors.
    Coords(AxisId),
    /// Elementwise.
    Unary(UnaryOp),
    /// Elementwise.
    Binary(BinaryOp),
    /// Elementwise: condition, then, otherwise.
    Select,
    /// Repeats the input along the node's further axes.
    Spread,
    /// No gradient.
    Stop,
    /// Reduces these axes.
    Reduce(ReduceOp, Vec<AxisId>),
    /// Sum or mean over the segments of one clip: outer Segments becomes Clips (`mean([... for z ~ masks])`).
    OverMasks {
        /// Average rather than add.
        mean: bool,
    },
    /// Position of the largest element.
    Argmax(AxisId),
    /// Contracts these axes, which both inputs have.
    Dot(Vec<AxisId>),
    /// `x[a -> b]`: the axes change their identity, position by position; data stay.
    Relabel,
    /// `x[a -> (b, c)]`: the axis is replaced in place by the listed ones.
    Split(AxisId, Vec<AxisId>),
    /// `x[(a, b) -> c]`: the listed axes (brought side by side in this order, at the place of the first) become one.
    Merge(Vec<AxisId>, AxisId),
    /// `x[a in idx]`: inputs x, index.
    Pick(AxisId),
    /// `x[a = i]` with a number computed at run time: inputs x, i.
    At(AxisId),
    /// `x[a = 3]`.
    AtFixed(AxisId, usize),
    /// `x ++ y`: inputs x, y; axis of x, axis of y, joined axis.
    Join(AxisId, AxisId, AxisId),
    /// `z[part]`: from the joined axis take this part: first (true) or second.
    Part(AxisId, bool),
    /// A new last axis from equal inputs.
    Stack(AxisId),
    /// Input: whole numbers; new axis with a one at that place.
    OneHot(AxisId),
    /// `p in idx` for every position p of the first axis: true where an index set over the second axis holds p.
    Holds(AxisId, AxisId),
}

/// How a stored tensor starts.
#[derive(Clone, Debug, PartialEq)]
pub enum Init {
    /// `= constant`.
    Constant(f64),
    /// `~ distribution` with its parameters (deviation, or lo and hi).
    Drawn(Dist, Vec<f64>),
    /// A buffer's expression; its axes are permuted to the weight's.
    Computed(NodeId),
}

/// A stored tensor.
#[derive(Clone, Debug)]
pub struct Weight {
    /// Checkpoint key with the network in front: `encoder.blocks.0.attn.qkv.weight`.
    pub key: String,
    /// Stored shape: groups flat, literal ones kept.
    pub stored: Vec<usize>,
    /// Stored shape with groups spelt out: `[3, 16, 64, 1024]`; loading accepts it too.
    pub expanded: Vec<usize>,
    /// Logical axes.
    pub axes: Vec<AxisId>,
    /// What it is to training.
    pub kind: WeightKind,
    /// Start value. Moving averages start as copies of what they follow.
    pub init: Init,
    /// Where it is declared.
    pub span: Span,
}

/// What a weight is to training.
#[derive(Clone, Debug, PartialEq)]
pub enum WeightKind {
    /// Learnt; index into [`Model::networks`].
    Trained(usize),
    /// Follows another weight; index into [`Model::averages`].
    Average(WeightId, usize),
    /// Wrapped in `frozen`.
    Frozen,
    /// `buffer`.
    Buffer,
}

/// `ema(block, momentum)`.
#[derive(Clone, Debug)]
pub struct Average {
    /// Field name.
    pub name: String,
    /// Momentum, read at 0..N-1.
    pub momentum: Schedule,
}

/// A `video`, `image` or `label` field.
#[derive(Clone, Debug)]
pub struct Source {
    /// Field name.
    pub name: String,
    /// Settings; the first spec's `name` is the field name.
    pub spec: InputSpec,
}

/// A mask that is drawn: two bool nodes over (extra..., factors of tokens), and what must hold.
#[derive(Clone, Debug)]
pub struct Mask {
    /// Path in the model plus occurrence, such as `masks.0`; keys its draws.
    pub name: String,
    /// The product axis that indices point into.
    pub tokens: AxisId,
    /// True where the encoder may look.
    pub context: NodeId,
    /// True where the predictor must predict.
    pub target: NodeId,
    /// Extra axes of context before the token factors.
    pub context_extra: Vec<AxisId>,
    /// Extra axes of target before the token factors.
    pub target_extra: Vec<AxisId>,
    /// Draws that fail one of these (bool, no axes) are drawn again.
    pub require: Vec<NodeId>,
}

/// Optimiser settings.
#[derive(Clone, Debug)]
pub enum Optimizer {
    /// AdamW.
    Adamw {
        /// Learning rate.
        lr: Schedule,
        /// Weight decay.
        decay: Schedule,
        /// Decay rates of the moments.
        betas: (f64, f64),
        /// Added to the root.
        eps: f64,
    },
    /// Stochastic gradient descent.
    Sgd {
        /// Learning rate.
        lr: Schedule,
        /// Momentum, 0 for none.
        momentum: f64,
        /// Weight decay.
        decay: Schedule,
    },
}

/// Where data come from: `["k710"]` (weights none) or `(k710: 0.335, ...)`.
pub type DataShare = (String, Option<f64>);

/// `train { ... }`.
#[derive(Clone, Debug)]
pub struct Train {
    /// Names of data.
    pub data: Vec<DataShare>,
    /// Clips of one optimiser step.
    pub batch: usize,
    /// Clips whose masks are cut to one length; `None` if no mask is drawn.
    pub group: Option<usize>,
    /// Optimiser steps.
    pub steps: usize,
    /// How weights move.
    pub optimizer: Optimizer,
    /// Largest gradient norm of a network.
    pub clip_grad: Option<Schedule>,
    /// `f32` or `bf16`.
    pub precision: DType,
    /// Seed.
    pub seed: u64,
}

/// `backbone`: what is evaluated and exported.
#[derive(Clone, Debug)]
pub struct Backbone {
    /// The field that was named (`target_encoder`), whose weights it has.
    pub field: String,
    /// Its output when called with the model's video or image source and defaults.
    pub output: NodeId,
}

/// A value kept for replay: a model-level call or field.
#[derive(Clone, Debug)]
pub struct Tap {
    /// The called field (`encoder`) or the equation's name (`y`).
    pub name: String,
    /// A call rather than an equation.
    pub call: bool,
    /// The value.
    pub node: NodeId,
}

/// A model, checked and typed.
#[derive(Clone, Debug)]
pub struct Model {
    /// Its name.
    pub name: String,
    /// All axes.
    pub axes: Vec<Axis>,
    /// All nodes, operands before users.
    pub nodes: Vec<Node>,
    /// All stored tensors, in the order of their fields.
    pub weights: Vec<Weight>,
    /// Top-level fields that hold trained weights.
    pub networks: Vec<String>,
    /// `ema` fields.
    pub averages: Vec<Average>,
    /// Sources.
    pub sources: Vec<Source>,
    /// Drawn masks.
    pub masks: Vec<Mask>,
    /// For each set its masks, in list order.
    pub sets: Vec<Vec<usize>>,
    /// A number a clip (outer Clips, no axes) or a number for the step.
    pub loss: NodeId,
    /// `metric name = ...`.
    pub metrics: Vec<(String, NodeId)>,
    /// What is evaluated, if said.
    pub backbone: Option<Backbone>,
    /// For `--taps`.
    pub taps: Vec<Tap>,
    /// How it is trained.
    pub train: Train,
    /// Lints that the text silences, and where.
    pub allowed: Vec<(String, Span)>,
}

impl Model {
    /// The node.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }

    /// The axis.
    pub fn axis(&self, id: AxisId) -> &Axis {
        &self.axes[id.0 as usize]
    }

    /// Static size of an axis, or its bound.
    pub fn bound(&self, id: AxisId) -> usize {
        match self.axis(id).size {
            AxisSize::Static(n) | AxisSize::Counted(_, _, n) => n,
            AxisSize::Joined(a, b) => self.bound(a) + self.bound(b),
        }
    }

    /// `[batch, context, dim: 1024]`, as messages show it.
    pub fn show_axes(&self, outer: Outer, axes: &[AxisId]) -> String {
        let mut parts: Vec<String> = if outer == Outer::One { vec![] } else { vec!["batch".into()] };
        parts.extend(axes.iter().map(|a| match self.axis(*a).size {
            AxisSize::Static(n) => format!("{}: {n}", self.axis(*a).name),
            AxisSize::Counted(..) | AxisSize::Joined(..) => self.axis(*a).name.to_string(),
        }));
        format!("[{}]", parts.join(", "))
    }
}
