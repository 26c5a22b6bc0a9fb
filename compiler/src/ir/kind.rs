//! What kind of operation an op is, and which slots it writes.
//!
//! Where every op has an answer of its own (type, meaning, gradient, verification, text, kernel) the enum [`Op`] is
//! matched. Who asks less (which values are views, how a pass treats what it has no rule for) matches `(op, op.kind())`:
//! first the few ops that it treats in their own way, then the kinds, every one of them. A new op is then classed once,
//! in [`Op::kind`], and a new kind does not compile until each of them has an answer.

use super::graph::SlotId;
use super::op::Op;

/// Kinds of operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Read, given or made rather than computed: slots, inputs, numbers, index sets, draws.
    Leaf,
    /// The operand's elements under other strides or dims.
    View,
    /// Each element from those at its place in the operands.
    Elementwise,
    /// Operands laid beside each other or beside zeros.
    Join,
    /// Elements placed by an index, a number or the order of tubelets.
    Move,
    /// Contractions.
    Product,
    /// Elements or blocks combined into fewer.
    Reduction,
    /// Row by row over the last dim, forward and backward.
    Norm,
    /// Attention, forward and backward.
    Attention,
    /// Update rules, with the slots that they write: the first is the one whose content is the value.
    Effect([Option<SlotId>; 3]),
}

impl Op {
    /// The op's kind.
    pub fn kind(&self) -> Kind {
        match self {
            Op::Read(_) | Op::Input(_) | Op::Scalar(_) | Op::Constant(_) | Op::Iota => Kind::Leaf,
            Op::Index { .. } | Op::Strategy(_) | Op::Size(_) | Op::Draw { .. } => Kind::Leaf,
            Op::Stop | Op::Arrange { .. } | Op::Reshape | Op::Slice { .. } => Kind::View,
            Op::Unary(_) | Op::Binary(_) | Op::Select | Op::Cast | Op::Gelu | Op::GeluGrad => Kind::Elementwise,
            Op::Pad { .. } | Op::Concat { .. } => Kind::Join,
            Op::Gather { .. } | Op::ScatterAdd { .. } | Op::OneHot | Op::Patches { .. } => Kind::Move,
            Op::Linear | Op::Einsum { .. } => Kind::Product,
            Op::Reduce { .. } | Op::Argmax { .. } | Op::Fold { .. } => Kind::Reduction,
            Op::LayerNorm { .. } | Op::LayerNormGrad { .. } | Op::Softmax | Op::SoftmaxGrad => Kind::Norm,
            Op::Attention { .. } | Op::AttentionGrad { .. } => Kind::Attention,
            Op::Accumulate(slot) | Op::Store(slot) | Op::Ema(slot) => Kind::Effect([Some(*slot), None, None]),
            Op::Adamw { weight, first, second } => Kind::Effect([Some(*weight), Some(*first), Some(*second)]),
            Op::Sgd { weight, velocity } => Kind::Effect([Some(*weight), *velocity, None]),
        }
    }

    /// The slots that the op writes; the first is the one whose content is the op's value.
    pub fn written(&self) -> impl Iterator<Item = SlotId> + use<> {
        let slots = match self.kind() {
            Kind::Effect(slots) => slots,
            Kind::Leaf | Kind::View | Kind::Elementwise | Kind::Join | Kind::Move => [None; 3],
            Kind::Product | Kind::Reduction | Kind::Norm | Kind::Attention => [None; 3],
        };
        slots.into_iter().flatten()
    }

    /// True for ops that write a slot: they are never removed, merged or reordered against reads of that slot.
    pub fn is_effect(&self) -> bool {
        matches!(self.kind(), Kind::Effect(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_effect_writes_its_own_slot_first() {
        let [weight, first, second] = [5, 3, 4].map(SlotId);
        let written = |op: Op| op.written().collect::<Vec<_>>();
        assert_eq!(written(Op::Ema(weight)), [weight]);
        assert_eq!(written(Op::Adamw { weight, first, second }), [weight, first, second]);
        assert_eq!(written(Op::Sgd { weight, velocity: Some(first) }), [weight, first]);
        assert_eq!(written(Op::Sgd { weight, velocity: None }), [weight]);
    }

    #[test]
    fn reads_and_computations_write_nothing() {
        for op in [Op::Read(SlotId(0)), Op::Reshape, Op::Linear, Op::Softmax, Op::OneHot] {
            assert!(!op.is_effect() && op.written().next().is_none(), "{op:?}");
        }
    }
}
