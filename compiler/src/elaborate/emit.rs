//! Nodes: the only place that adds them.

use super::units::show_real;
use super::value::{Num, Number, Tensor, Value};
use super::{Elab, Res};
use crate::diag::Diagnostic;
use crate::ir::graph::{Outer, SetId};
use crate::ir::op::{BinaryOp, DType, Dist, ReduceOp, UnaryOp, Which};
use crate::model::{AxisId, Node, NodeId, NodeOp, Schedule, WeightId};
use crate::source::Span;

/// Nodes without inputs, which exist once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Leaf {
    /// Bits of the number, whether it is a truth value, whether it was whole.
    Number(u64, bool, bool),
    /// Positions of an axis.
    Iota(AxisId),
    /// Coordinates of a product axis.
    Coords(AxisId),
    /// A stored tensor.
    Weight(WeightId),
    /// A source.
    Source(usize),
    /// An index set.
    Index(SetId, Which),
    /// A place in a list of masks.
    Strategy(SetId),
}

impl Elab<'_> {
    pub(super) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }

    pub(super) fn outer(&self, t: &Tensor) -> Outer {
        self.node(t.node).outer
    }

    /// Adds a node.
    pub(super) fn emit(
        &mut self,
        op: NodeOp,
        inputs: &[NodeId],
        outer: Outer,
        axes: Vec<AxisId>,
        span: Span,
    ) -> NodeId {
        let dtype = self.dtype(&op, inputs);
        let whole = self.is_whole(&op, inputs, dtype);
        self.nodes.push(Node { op, inputs: inputs.to_vec(), outer, axes, dtype, span, place: self.at.place.clone() });
        self.whole.push(whole);
        NodeId(self.nodes.len() as u32 - 1)
    }

    /// Adds a node without inputs, or finds it.
    pub(super) fn leaf(&mut self, leaf: Leaf, op: NodeOp, outer: Outer, axes: Vec<AxisId>, span: Span) -> NodeId {
        if let Some(id) = self.interned.get(&leaf) {
            return *id;
        }
        let id = self.emit(op, &[], outer, axes, span);
        if let Leaf::Number(_, truth, whole) = leaf {
            self.whole[id.0 as usize] = whole;
            if truth {
                self.nodes[id.0 as usize].dtype = DType::Bool;
            }
        }
        self.interned.insert(leaf, id);
        id
    }

    fn dtype(&self, op: &NodeOp, inputs: &[NodeId]) -> DType {
        let of = |i: usize| inputs.get(i).map_or(DType::F64, |n| self.node(*n).dtype);
        match op {
            NodeOp::Index(..) | NodeOp::Argmax(_) => DType::I32,
            NodeOp::Unary(UnaryOp::Not) | NodeOp::Holds(..) => DType::Bool,
            NodeOp::Binary(op) => match op {
                BinaryOp::Eq | BinaryOp::Ne | BinaryOp::Lt | BinaryOp::Le | BinaryOp::Gt | BinaryOp::Ge => DType::Bool,
                BinaryOp::And | BinaryOp::Or => DType::Bool,
                BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul | BinaryOp::Div => DType::F64,
                BinaryOp::Rem | BinaryOp::Pow | BinaryOp::Min | BinaryOp::Max => DType::F64,
            },
            NodeOp::Select => of(1),
            NodeOp::Reduce(ReduceOp::Any | ReduceOp::All, _) => DType::Bool,
            NodeOp::Spread
            | NodeOp::Stop
            | NodeOp::Relabel
            | NodeOp::Split(..)
            | NodeOp::Merge(..)
            | NodeOp::Pick(_)
            | NodeOp::At(_)
            | NodeOp::AtFixed(..)
            | NodeOp::Join(..)
            | NodeOp::Part(..)
            | NodeOp::Stack(_) => of(0),
            NodeOp::Number(_)
            | NodeOp::Scheduled(_)
            | NodeOp::Iota
            | NodeOp::Weight(_)
            | NodeOp::Source(_)
            | NodeOp::Strategy(_)
            | NodeOp::Draw { .. }
            | NodeOp::Coords(_)
            | NodeOp::Unary(_)
            | NodeOp::Reduce(..)
            | NodeOp::OverMasks { .. }
            | NodeOp::Dot(_)
            | NodeOp::OneHot(_) => DType::F64,
        }
    }

    /// Whether all elements are whole numbers: then a draw between them is one too.
    fn is_whole(&self, op: &NodeOp, inputs: &[NodeId], dtype: DType) -> bool {
        let all = || inputs.iter().all(|n| self.whole[n.0 as usize]);
        if dtype != DType::F64 {
            return true;
        }
        match op {
            NodeOp::Iota | NodeOp::Strategy(_) | NodeOp::Coords(_) | NodeOp::OneHot(_) => true,
            NodeOp::Unary(UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Round | UnaryOp::Sign) => true,
            NodeOp::Unary(UnaryOp::Neg | UnaryOp::Abs) => all(),
            NodeOp::Binary(
                BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul | BinaryOp::Rem | BinaryOp::Min | BinaryOp::Max,
            ) => all(),
            NodeOp::Scheduled(s) => s.is_whole(),
            NodeOp::Draw { dist: Dist::Whole | Dist::Permutation | Dist::Bernoulli, .. } => true,
            NodeOp::Reduce(ReduceOp::Sum | ReduceOp::Max | ReduceOp::Min, _) => all(),
            NodeOp::Reduce(ReduceOp::Count, _) => true,
            NodeOp::Select => inputs[1..].iter().all(|n| self.whole[n.0 as usize]),
            NodeOp::Spread | NodeOp::Relabel | NodeOp::Merge(..) | NodeOp::Split(..) => all(),
            _ => false,
        }
    }

    /// The node of a number.
    pub(super) fn number_node(&mut self, n: Number, span: Span) -> NodeId {
        let x = n.real();
        let whole = matches!(n, Number::Whole(_));
        self.leaf(Leaf::Number(x.to_bits(), false, whole), NodeOp::Number(x), Outer::One, vec![], span)
    }

    /// A tensor of a value that can be one.
    pub(super) fn tensor(&mut self, value: &Value, span: Span) -> Res<Tensor> {
        let scalar = |node| Tensor { node, axes: vec![], loops: vec![], of: None, made: None };
        match value {
            Value::Tensor(t) => Ok(t.clone()),
            Value::Num(n) => Ok(scalar(self.number_node(n.value, span))),
            Value::Bool(b) => {
                let x = f64::from(u8::from(*b));
                let op = NodeOp::Number(x);
                Ok(scalar(self.leaf(Leaf::Number(x.to_bits(), true, true), op, Outer::One, vec![], span)))
            }
            Value::Schedule(_) | Value::Arrow(_) => {
                let schedule = self.schedule(value, span)?;
                if let Schedule::Constant(x) = schedule {
                    return Ok(scalar(self.number_node(Number::Real(x), span)));
                }
                Ok(scalar(self.emit(NodeOp::Scheduled(schedule), &[], Outer::One, vec![], span)))
            }
            Value::Source(s) => self.source_tensor(s, span),
            Value::Stacked(axis, items) => {
                let mut axes = items[0].axes.clone();
                axes.push(*axis);
                let inputs: Vec<NodeId> = items.iter().map(|t| t.node).collect();
                let node = self.emit(NodeOp::Stack(*axis), &inputs, Outer::One, axes.clone(), span);
                Ok(Tensor { node, axes, loops: vec![], of: None, made: None })
            }
            Value::List(_) | Value::Packed(..) => {
                let d = Diagnostic::error(
                    "V0104",
                    format!("expected a tensor, found {}", value.kind()),
                    span,
                    "this is a list",
                );
                Err(self.fail(d.help("average it with `mean(...)`, or take one item with `x[0]`")))
            }
            other => self.error("V0104", format!("expected a tensor, found {}", other.kind()), span, "not a tensor"),
        }
    }

    /// The larger of two outers. Blocks of two different draws cannot meet.
    pub(super) fn join_outer(&self, a: Outer, b: Outer, span: Span) -> Res<Outer> {
        match (a, b) {
            (Outer::Segments(x), Outer::Segments(y)) if x != y => {
                let text = "these values belong to two different draws of masks";
                let d = Diagnostic::error("V0211", text, span, "they cannot be combined token by token");
                Err(self.fail(d.help("average each over its masks first: `mean([ ... for z ~ masks ])`")))
            }
            (Outer::Segments(_), _) | (_, Outer::One) => Ok(a),
            (_, Outer::Segments(_)) | (Outer::One, _) => Ok(b),
            (Outer::Clips, Outer::Clips) => Ok(a),
        }
    }

    /// The same data with other axes than the operand's, position by position.
    pub(super) fn relabel(&mut self, t: &Tensor, from: AxisId, to: AxisId, span: Span) -> Tensor {
        self.relabel_all(t, &[(from, to)], span)
    }

    /// Several axes change their identity at once.
    pub(super) fn relabel_all(&mut self, t: &Tensor, pairs: &[(AxisId, AxisId)], span: Span) -> Tensor {
        let swap = |a: &AxisId| pairs.iter().find(|(from, _)| from == a).map_or(*a, |(_, to)| *to);
        if !t.axes.iter().any(|a| swap(a) != *a) {
            return t.clone();
        }
        let loops = t.loops.clone();
        let node_axes = self.node(t.node).axes.clone();
        let new: Vec<AxisId> = node_axes.iter().map(|a| if loops.contains(a) { *a } else { swap(a) }).collect();
        let node = self.emit(NodeOp::Relabel, &[t.node], self.outer(t), new, span);
        Tensor { node, axes: t.axes.iter().map(swap).collect(), loops, of: t.of, made: None }
    }

    /// The tensor with exactly these axes in this order: repeated and permuted as needed.
    pub(super) fn arranged(&mut self, t: &Tensor, axes: &[AxisId], span: Span) -> Tensor {
        let mut want: Vec<AxisId> = t.loops.iter().copied().filter(|l| !axes.contains(l)).collect();
        let loops = want.clone();
        want.extend(axes);
        if self.node(t.node).axes == want {
            return Tensor { node: t.node, axes: axes.to_vec(), loops, of: t.of, made: None };
        }
        let node = self.emit(NodeOp::Spread, &[t.node], self.outer(t), want, span);
        Tensor { node, axes: axes.to_vec(), loops, of: t.of, made: None }
    }

    /// The product axis in place of its factors.
    pub(super) fn merged(&mut self, t: &Tensor, product: AxisId, span: Span) -> Tensor {
        let factors = self.axis(product).factors.clone();
        let place = |axes: &[AxisId]| -> Vec<AxisId> {
            let first = axes.iter().position(|a| factors.contains(a)).unwrap_or(0);
            let mut out: Vec<AxisId> = axes[..first].to_vec();
            out.push(product);
            out.extend(axes[first..].iter().filter(|a| !factors.contains(a)));
            out
        };
        let node_axes = place(&self.node(t.node).axes);
        let node = self.emit(NodeOp::Merge(factors.clone(), product), &[t.node], self.outer(t), node_axes, span);
        Tensor { node, axes: place(&t.axes), loops: t.loops.clone(), of: None, made: None }
    }

    /// A reduction of these axes, which the tensor has.
    pub(super) fn reduce(&mut self, op: ReduceOp, t: &Tensor, over: &[AxisId], span: Span) -> Tensor {
        let keep = |axes: &[AxisId]| -> Vec<AxisId> { axes.iter().copied().filter(|a| !over.contains(a)).collect() };
        let node_axes = keep(&self.node(t.node).axes);
        let node = self.emit(NodeOp::Reduce(op, over.to_vec()), &[t.node], self.outer(t), node_axes, span);
        Tensor { node, axes: keep(&t.axes), loops: keep(&t.loops), of: None, made: None }
    }

    /// A whole number that an expression must give.
    pub(super) fn whole_number(&self, value: &Value, what: &str, span: Span) -> Res<usize> {
        match value {
            Value::Num(Num { value: Number::Whole(n), .. }) if *n >= 0 => Ok(*n as usize),
            Value::Num(n) => {
                let text = format!("`{what}` must be a whole number, but it is {}", show_real(n.value.real()));
                self.error("V0104", text, span, "not a whole number")
            }
            other => {
                let text = format!("`{what}` must be a whole number, but it is {}", other.kind());
                self.error("V0104", text, span, "not a whole number")
            }
        }
    }
}
