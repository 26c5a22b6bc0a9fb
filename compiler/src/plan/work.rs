//! How much arithmetic entries are, from the IR and a step's token counts.
//!
//! Counted are products of matrices and what they are made of: a multiply and an add are two. Elementwise work, norms,
//! softmax and the optimiser are a few operations an element, bound by memory, and not counted, as is usual.

use crate::ir::graph::{Graph, Outer, Segments, Tables, Type, Value};
use crate::ir::kind::Kind;
use crate::ir::op::Op;
use crate::lower::cpu::name;
use crate::program::{Entry, Program};
use petgraph::stable_graph::NodeIndex;

/// The arithmetic of all ops of one name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Work {
    /// Name of the op, as machines tell it.
    pub op: &'static str,
    /// Product or attention.
    pub kind: Kind,
    /// Multiplies and adds.
    pub flops: f64,
}

/// The arithmetic of entries by op; ops that have none are left out.
pub fn work(program: &Program, entries: &[Entry], segments: &Segments) -> Vec<Work> {
    let mut all: Vec<Work> = Vec::new();
    for graph in entries.iter().map(|entry| program.entry(*entry)) {
        for node in graph.nodes.node_indices() {
            let Some(flops) = node_work(&program.tables, segments, graph, node) else { continue };
            let kind = graph.op(node.into()).kind();
            let op = name(graph.op(node.into()));
            match all.iter_mut().find(|work| work.op == op) {
                Some(work) => work.flops += flops,
                None => all.push(Work { op, kind, flops }),
            }
        }
    }
    all
}

/// Multiplies and adds of a node; nothing for what has no products.
pub fn node_work(tables: &Tables, segments: &Segments, graph: &Graph, node: NodeIndex) -> Option<f64> {
    Ctx { tables, segments }.node(graph, node.into())
}

struct Ctx<'a> {
    tables: &'a Tables,
    segments: &'a Segments,
}

impl Ctx<'_> {
    fn node(&self, graph: &Graph, value: Value) -> Option<f64> {
        let inputs = graph.inputs(value.node);
        let ty = |i: usize| graph.ty(inputs[i]);
        let op = graph.op(value);
        match (op, op.kind()) {
            // x [.., i], w [o, i]: every element of the result is i products.
            (Op::Linear, _) => Some(2.0 * self.elements(graph.ty(value)) * self.dims(ty(1), 0)[1]),
            (Op::Einsum { a, b, .. }, _) => Some(self.einsum((a, ty(0)), (b, ty(1)))),
            // q k^T and p v.
            (Op::Attention { .. }, _) => Some(self.attention(ty(0), ty(1), ty(2))),
            // Gradients of both products by both sides; recomputing the scores is the kernel's own choice.
            (Op::AttentionGrad { .. }, _) => Some(2.0 * self.attention(ty(0), ty(1), ty(2))),
            (_, Kind::Product | Kind::Attention) => panic!("compiler bug: the products of {op:?} are not counted"),
            (_, Kind::Leaf | Kind::View | Kind::Elementwise | Kind::Join | Kind::Move) => None,
            (_, Kind::Reduction | Kind::Norm | Kind::Effect(_)) => None,
        }
    }

    /// Two for every combination of the labels of both inputs, in every block.
    fn einsum(&self, a: (&[u8], &Type), b: (&[u8], &Type)) -> f64 {
        let outer = larger(a.1.outer, b.1.outer);
        let block = |n: usize| {
            let mut labels: Vec<(u8, f64)> = Vec::new();
            for (names, ty) in [a, b] {
                for (label, size) in names.iter().zip(self.dims(ty, n)) {
                    if labels.iter().all(|(seen, _)| seen != label) {
                        labels.push((*label, size));
                    }
                }
            }
            2.0 * labels.iter().map(|(_, size)| size).product::<f64>()
        };
        (0..self.segments.blocks(self.tables, outer)).map(block).sum()
    }

    /// q [n, h, d], k [m, h, d], v [m, h, e]: n m h (d + e) products.
    fn attention(&self, q: &Type, k: &Type, v: &Type) -> f64 {
        let blocks = self.segments.blocks(self.tables, larger(q.outer, k.outer));
        let block = |b: usize| {
            let (q, k, v) = (self.dims(q, b), self.dims(k, b), self.dims(v, b));
            2.0 * q[0] * k[0] * q[1] * (q[2] + v[2])
        };
        (0..blocks).map(block).sum()
    }

    /// Elements of all blocks.
    fn elements(&self, ty: &Type) -> f64 {
        self.segments.elements(self.tables, ty) as f64
    }

    fn dims(&self, ty: &Type, block: usize) -> Vec<f64> {
        self.segments.dims(self.tables, ty, block).into_iter().map(|n| n as f64).collect()
    }
}

/// The outer with more blocks.
fn larger(a: Outer, b: Outer) -> Outer {
    match (a, b) {
        (Outer::Segments(_), _) | (_, Outer::One) => a,
        (_, Outer::Segments(_)) | (Outer::One, _) => b,
        (Outer::Clips, Outer::Clips) => a,
    }
}

#[cfg(test)]
mod tests {
    use crate::ir::graph::{Count, CountId, CountKind, Dim, Extent, SegmentData, SegmentSet, SetId, SlotId};
    use crate::ir::op::DType;

    use super::*;

    #[test]
    fn counted_rows_are_counted() {
        let set = SetId(0);
        let rows = Dim::new(Extent::Counted(CountId(0)), "context");
        let ty = |outer, dims| Type::new(DType::F32, outer, dims);
        let mut graph = Graph::default();
        let place = "".into();
        let (x_ty, w_ty) = (
            ty(Outer::Segments(set), vec![rows.clone(), Dim::fixed(4, "dim")]),
            ty(Outer::One, vec![Dim::fixed(6, "out"), Dim::fixed(4, "dim")]),
        );
        let y_ty = ty(Outer::Segments(set), vec![rows, Dim::fixed(6, "out")]);
        let x = graph.add(Op::Read(SlotId(0)), &[], vec![x_ty], None, &place);
        let w = graph.add(Op::Read(SlotId(1)), &[], vec![w_ty.clone()], None, &place);
        let y = graph.add(Op::Linear, &[x, w], vec![y_ty], None, &place);
        // The weight's gradient: sums over rows of all segments.
        graph.add(Op::Einsum { a: vec![0, 1], b: vec![0, 2], out: vec![1, 2] }, &[y, x], vec![w_ty], None, &place);
        let mut program = Program {
            tables: Tables {
                sets: vec![SegmentSet { masks: vec![0] }],
                counts: vec![Count { kind: CountKind::Context(set), bound: 9 }],
                ..Tables::default()
            },
            ..Program::default()
        };
        program.entries[Entry::Grads as usize] = graph;
        let data = SegmentData { context_count: vec![3, 5], ..SegmentData::default() };
        let segments = Segments { clips: 2, sets: vec![data] };
        let flops = 2.0 * 8.0 * 4.0 * 6.0;
        let expected = ["linear", "einsum"].map(|op| Work { op, kind: Kind::Product, flops });
        assert_eq!(work(&program, &[Entry::Grads, Entry::Update], &segments), expected);
    }
}
