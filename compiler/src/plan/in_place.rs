//! Results that take over the buffer of an input.
//!
//! A kernel of [`overwritable`] reads an element (or a row) of an input before it writes that element (or row) of its
//! result. If this is the last step that reads the input's buffer, the result needs none of its own. Never taken over:
//! slots, what the caller supplied, outputs, and whatever is read later, through a view too. Kernels learn of it by the
//! addresses: they ask for such inputs by `Context::source` or as views, and make no slice of one that lies under a result.

use super::{Buffer, Home, Plan, Step};
use crate::ir::kind::Kind;
use crate::ir::op::Op;

/// Inputs that result 0 may be written over. `elementwise`, `activation` and `norm` of `lower/cpu` keep to it.
fn overwritable(op: &Op) -> &'static [usize] {
    match (op, op.kind()) {
        (Op::Unary(_) | Op::Cast | Op::Gelu | Op::LayerNorm { .. } | Op::Softmax, _) => &[0],
        (Op::Binary(_) | Op::GeluGrad | Op::LayerNormGrad { .. } | Op::SoftmaxGrad, _) => &[0, 1],
        (Op::Select, _) => &[0, 1, 2],
        // The rest read other elements than they write, or have no input of their size.
        (_, Kind::Leaf | Kind::View | Kind::Elementwise | Kind::Join | Kind::Move) => &[],
        (_, Kind::Product | Kind::Reduction | Kind::Norm | Kind::Attention | Kind::Effect(_)) => &[],
    }
}

/// Merges buffers of results into those of inputs that end there. Lifetimes must be final.
pub fn share(plan: &mut Plan) {
    let mut gone = vec![false; plan.buffers.len()];
    for s in 0..plan.steps.len() {
        let Some((out, from, to)) = taken_over(plan, s) else { continue };
        plan.buffers[to].last = plan.buffers[from].last;
        plan.values[out].home = Home::Arena(to);
        gone[from] = true;
    }
    let mut place = vec![0; gone.len()];
    let mut kept: Vec<Buffer> = vec![];
    for (b, buffer) in plan.buffers.iter().enumerate() {
        place[b] = kept.len();
        if !gone[b] {
            kept.push(*buffer);
        }
    }
    plan.buffers = kept;
    for value in &mut plan.values {
        if let Home::Arena(buffer) = &mut value.home {
            *buffer = place[*buffer];
        }
    }
}

/// The first result of a step, its buffer, and the one that it takes over instead.
fn taken_over(plan: &Plan, s: usize) -> Option<(usize, usize, usize)> {
    let step = &plan.steps[s];
    let out = step.outputs[0];
    let Home::Arena(from) = plan.values[out].home else { return None };
    if plan.values[out].ty.dims.is_empty() {
        return None; // numbers are kept exactly beside their buffers
    }
    let places = overwritable(&step.op);
    let to = places.iter().find_map(|&i| {
        let to = plan.buffer(step.inputs[i])?;
        let fits = |j: usize| plan.buffer(step.inputs[j]) != Some(to) || (places.contains(&j) && whole(plan, step, j));
        (plan.buffers[to].last == s && (0..step.inputs.len()).all(fits)).then_some(to)
    })?;
    Some((out, from, to))
}

/// True if input `i` is all of its storage, element by element where those of the result will be.
fn whole(plan: &Plan, step: &Step, i: usize) -> bool {
    let (value, root) = (&plan.values[step.inputs[i]], &plan.values[plan.root(step.inputs[i])]);
    let out = &plan.values[step.outputs[0]];
    let dense = match &value.home {
        Home::Lens(lens) => lens.is_whole(&value.ty, &root.ty),
        Home::Arena(_) | Home::Slot(_) | Home::Input(_) => true,
    };
    dense && value.shape == out.shape && plan.stored(step.inputs[i]) == plan.stored(step.outputs[0])
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ir::graph::{Dim, Graph, InputId, Outer, Tables, Type, Value};
    use crate::ir::op::{BinaryOp, DType, UnaryOp};

    /// A graph of [8, 8] blocks, one a clip.
    struct Small(Graph);

    impl Small {
        fn add(&mut self, op: Op, inputs: &[Value]) -> Value {
            let place: Arc<str> = "".into();
            let dims = vec![Dim::fixed(8, "a"), Dim::fixed(8, "b")];
            self.0.add(op, inputs, vec![Type::new(DType::F32, Outer::Clips, dims)], None, &place)
        }
    }

    /// The buffers of a graph with an input x, u = -x and what `build` makes of them.
    fn buffers(build: impl Fn(&mut Small, Value, Value) -> Value) -> usize {
        let mut g = Small(Graph::default());
        let x = g.add(Op::Input(InputId(0)), &[]);
        let u = g.add(Op::Unary(UnaryOp::Neg), &[x]);
        let y = build(&mut g, x, u);
        g.0.outputs.push(("y".into(), y));
        Plan::new(&g.0, &Tables::default(), 1).buffers.len()
    }

    #[test]
    fn a_result_takes_over_an_input_that_ends_there() {
        assert_eq!(buffers(|g, _, u| g.add(Op::Gelu, &[u])), 1);
        assert_eq!(buffers(|g, x, u| g.add(Op::Binary(BinaryOp::Add), &[x, u])), 1);
        assert_eq!(buffers(|g, _, u| g.add(Op::Binary(BinaryOp::Add), &[u, u])), 1);
    }

    #[test]
    fn what_is_read_later_or_in_another_order_is_left_alone() {
        let later = |g: &mut Small, _: Value, u: Value| {
            let y = g.add(Op::Gelu, &[u]);
            g.add(Op::Binary(BinaryOp::Mul), &[y, u])
        };
        // The product takes over one of its two operands.
        assert_eq!(buffers(later), 2);
        let turned = |g: &mut Small, _: Value, u: Value| {
            let t = g.add(Op::Arrange { from: vec![Some(1), Some(0)] }, &[u]);
            g.add(Op::Binary(BinaryOp::Add), &[u, t])
        };
        assert_eq!(buffers(turned), 2);
        let output = |g: &mut Small, _: Value, u: Value| {
            g.0.outputs.push(("u".into(), u));
            g.add(Op::Gelu, &[u])
        };
        assert_eq!(buffers(output), 2);
    }
}
