//! The operations of the tensor IR: one exhaustive enum, matched everywhere without `_`.
//!
//! A value is a sequence of **blocks**, each a dense row-major array: one block for the whole step (`Outer::One`), one a
//! clip (`Outer::Clips`), or one a segment (`Outer::Segments`), a segment being one (mask, clip) pair. Extents inside a
//! block are static or counted by a mask draw; counted extents differ from segment to segment. Nothing is padded.
//!
//! Unless an op says otherwise its inputs have the same outer and the same dims as its result: broadcasting, permuting
//! and lifting to a larger outer are written out as [`Op::Arrange`]. Five questions have one match each: type (`infer`),
//! meaning (`eval`), gradient (`autodiff/rules`), verification (`verify`), text (`print`, `parse_text`).
//! Who asks less matches its kind: [`Op::kind`].

use super::graph::{Extent, InputId, ScalarId, SetId, SlotId, Type};

/// Element types. Settings, masks and buffers are f64; i32 holds indices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names say it")]
pub enum DType {
    F64,
    F32,
    Bf16,
    I32,
    Bool,
}

/// Elementwise functions of one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names say it")]
pub enum UnaryOp {
    Neg,
    Exp,
    Log,
    Sqrt,
    Abs,
    Sin,
    Cos,
    Tanh,
    Erf,
    Floor,
    Ceil,
    /// Half to even.
    Round,
    /// -1, 0 or 1.
    Sign,
    Not,
}

/// Elementwise functions of two arguments; the comparisons and `And`, `Or` give Bool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names say it")]
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
    Div,
    /// Floored: the result has the sign of the divisor, as in Python.
    Rem,
    Pow,
    Min,
    Max,
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    And,
    Or,
}

/// Reductions over axes of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names say it")]
pub enum ReduceOp {
    Sum,
    Mean,
    Max,
    Min,
    Any,
    All,
    /// Number of true elements.
    Count,
}

/// Distributions of [`Op::Draw`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Dist {
    /// Uniform on [lo, hi): inputs lo, hi.
    Uniform,
    /// Whole numbers lo..=hi: inputs lo, hi (both whole).
    Whole,
    /// Normal with mean 0: input deviation.
    Normal,
    /// Normal with mean 0 cut at +-2 (absolute), as published: input deviation.
    TruncNormal,
    /// 1 with the given probability, else 0: input probability.
    Bernoulli,
    /// A random order of the elements of the result: no input; values 0..n in every block.
    Permutation,
}

/// What a mask draw's index set holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Which {
    Context,
    Target,
}

/// One operation.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    // ---- leaves
    /// The present content of a slot (weight, buffer, moment, gradient), outer One.
    Read(SlotId),
    /// What the caller supplies each step: a clip, an image, a label.
    Input(InputId),
    /// A number that the caller computes each step in f64: a schedule's value, the step. Outer One, no dims.
    Scalar(ScalarId),
    /// A constant, outer One, no dims.
    Constant(f64),
    /// 0, 1, 2, ... along its only dim (static or counted), outer One (or Segments if counted).
    Iota,
    /// Index set of a mask draw: i32, outer Segments(set), dims (extra..., count).
    Index {
        /// Whose segments.
        set: SetId,
        /// Context or target.
        which: Which,
    },
    /// The place, from 0, of a segment's mask in the list that is being run over: outer Segments(set), no dims.
    Strategy(SetId),
    /// Number of elements of a block with these extents, as a number: no dims; outer Segments if an extent is counted, else One.
    Size(Vec<Extent>),
    /// A random draw, keyed by (seed, step, clip if outer Clips, site, attempt, element). `site` names mask path,
    /// occurrence and draw (or the weight's key, for initial weights).
    Draw {
        /// Distribution; parameters are inputs, scalars without dims.
        dist: Dist,
        /// Part of the key.
        site: String,
    },

    // ---- elementwise
    /// Function of one input.
    Unary(UnaryOp),
    /// Function of two inputs of equal type.
    Binary(BinaryOp),
    /// Inputs: condition (Bool), value where true, value where false.
    Select,
    /// Change of element type to the node's.
    Cast,
    /// Identity whose gradient is zero.
    Stop,

    // ---- views and joins
    /// Dim j of the result is dim `from[j]` of the input, or new (repeated) if `None`; every input dim is used once.
    /// The result's outer may be larger: One to Clips to Segments (a segment takes its clip's block).
    Arrange {
        /// Where each result dim comes from.
        from: Vec<Option<usize>>,
    },
    /// Same elements in the same order inside every block, other dims (the node's type).
    Reshape,
    /// Positions `start .. start + len` of an axis; `start` is the sum of the extents, `len` the result's extent.
    Slice {
        /// The axis.
        axis: usize,
        /// Extents before the part.
        start: Vec<Extent>,
    },
    /// Zeros around the input along an axis: `before` (sum of the extents) in front, the rest, up to the result's extent, behind.
    Pad {
        /// The axis.
        axis: usize,
        /// Extents in front.
        before: Vec<Extent>,
    },
    /// Inputs one after another along an axis.
    Concat {
        /// The axis.
        axis: usize,
    },
    /// Inputs x, index: axis `axis` of x is replaced by index's dims after the first `shared`, which are index's and x's
    /// leading dims alike. Outer is the larger of the two. An index without further dims removes the axis.
    Gather {
        /// The axis of x.
        axis: usize,
        /// Leading dims common to x and index.
        shared: usize,
    },
    /// The gradient of Gather: inputs g, index; adds rows of g into a zero tensor of the node's type, over all blocks
    /// that fall into one block of the result.
    ScatterAdd {
        /// The axis of the result.
        axis: usize,
        /// Leading dims common to g and index.
        shared: usize,
    },
    /// Input: whole numbers; a new last dim of the node's extent, 1 where its position equals the number, else 0.
    OneHot,

    // ---- reductions and contractions
    /// Over the given axes (ascending) of every block, which go away.
    Reduce {
        /// How.
        op: ReduceOp,
        /// Which axes, ascending.
        axes: Vec<usize>,
    },
    /// Position of the first largest element along an axis, as i32.
    Argmax {
        /// The axis.
        axis: usize,
    },
    /// Blocks are added (or averaged) into the smaller outer of the node: Segments to Clips (over masks), Clips to One
    /// (over clips). Dims must be static. `mean` divides by the number of blocks that fall together.
    Fold {
        /// Average rather than add.
        mean: bool,
    },
    /// Sum of products. Labels name the dims of a, b and the result; labels missing from `out` are summed. The result's
    /// outer may be smaller than the inputs' larger one: then blocks are summed too.
    Einsum {
        /// Labels of the first input's dims.
        a: Vec<u8>,
        /// Labels of the second input's dims.
        b: Vec<u8>,
        /// Labels of the result's dims.
        out: Vec<u8>,
    },

    // ---- update rules (effects; the value is the slot's new content)
    /// slot += input. Used for gradients.
    Accumulate(SlotId),
    /// slot = input.
    Store(SlotId),
    /// AdamW with decoupled decay (Loshchilov & Hutter 2019), in PyTorch's order:
    /// w *= 1 - lr decay; m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2; w -= lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps).
    /// Inputs: g, clip factor (g is multiplied by it first), lr, decay, t (steps from 1), b1, b2, eps.
    Adamw {
        /// w.
        weight: SlotId,
        /// m.
        first: SlotId,
        /// v.
        second: SlotId,
    },
    /// Stochastic gradient descent: w *= 1 - lr decay; m = momentum m + g; w -= lr m.
    /// Inputs: g, clip factor, lr, decay, momentum.
    Sgd {
        /// w.
        weight: SlotId,
        /// m, only if there is momentum.
        velocity: Option<SlotId>,
    },
    /// average = m average + (1 - m) value. Inputs: value, m.
    Ema(SlotId),

    // ---- recognised idioms
    /// Inputs x [.., i], w [o, i], optionally b `[o]`: x w^T + b, result `[.., o]`. w and b are outer One.
    Linear,
    /// Inputs x, optionally w and b (both `[d]`, outer One): (x - mean) / sqrt(var + eps) over the last dim, biased variance,
    /// then * w + b.
    LayerNorm {
        /// Added to the variance.
        eps: f64,
    },
    /// Backward of LayerNorm. Inputs x, g, optionally w. Ports: dx; with w also dw `[d]` and db `[d]` (outer One).
    LayerNormGrad {
        /// As in the forward.
        eps: f64,
    },
    /// Over the last dim.
    Softmax,
    /// Inputs y (the softmax), g.
    SoftmaxGrad,
    /// Inputs q [n, h, d], k [m, h, d], v [m, h, e]: softmax(q k^T * scale) v for each head, result [n, h, e].
    Attention {
        /// Multiplies the scores.
        scale: f64,
    },
    /// Backward of Attention. Inputs q, k, v, out, g. Ports: dq, dk, dv.
    AttentionGrad {
        /// As in the forward.
        scale: f64,
    },
    /// x (1 + erf(x / sqrt 2)) / 2.
    Gelu,
    /// Inputs x, g.
    GeluGrad,
    /// Input clip [F, H, W, C], optionally an index (i32, `[n]`, into the T*R*C' tokens): tubelets as rows,
    /// [n or tokens, C * tube * dy * dx], each row ordered channel, frame, row, column, as a Conv3d weight is.
    Patches {
        /// Frames of a tubelet.
        tube: usize,
        /// Pixel rows of a patch.
        dy: usize,
        /// Pixel columns of a patch.
        dx: usize,
    },
}

/// Result types of a node, one a port.
pub type Types = Vec<Type>;

impl DType {
    /// As printed.
    pub fn name(self) -> &'static str {
        match self {
            DType::F64 => "f64",
            DType::F32 => "f32",
            DType::Bf16 => "bf16",
            DType::I32 => "i32",
            DType::Bool => "bool",
        }
    }
}
