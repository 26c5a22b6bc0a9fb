//! One model node to one or a few ops.

use std::sync::Arc;

use super::tables::{self, Start};
use crate::ir::graph::{Dim, Extent, Graph, InputId, Outer, Type, Value};
use crate::ir::op::{BinaryOp, DType, Op, ReduceOp, UnaryOp};
use crate::model::{AxisId, AxisSize, Model, Node, NodeId, NodeOp};

/// Builds nodes of one graph. `wide` graphs (masks, buffers, initial weights) compute in f64, the others in f32.
pub struct Lowering<'a> {
    pub model: &'a Model,
    pub start: &'a mut Start,
    pub graph: Graph,
    wide: bool,
    /// Prefix of the sites of draws: the mask's name.
    site: String,
    done: Vec<Option<Value>>,
}

impl<'a> Lowering<'a> {
    pub fn new(model: &'a Model, start: &'a mut Start, wide: bool) -> Self {
        let done = vec![None; model.nodes.len()];
        Lowering { model, start, graph: Graph::default(), wide, site: String::new(), done }
    }

    /// Forgets what was built and names the mask whose draws come next: a mask named twice is drawn twice.
    pub fn enter_mask(&mut self, site: &str) {
        self.site = site.to_string();
        self.done.fill(None);
    }

    pub fn number(&self) -> DType {
        if self.wide { DType::F64 } else { DType::F32 }
    }

    fn dtype(&self, node: &Node) -> DType {
        match node.dtype {
            DType::F64 | DType::F32 | DType::Bf16 => self.number(),
            DType::I32 => DType::I32,
            DType::Bool => DType::Bool,
        }
    }

    pub fn dims(&mut self, axes: &[AxisId]) -> Vec<Dim> {
        axes.iter()
            .map(|a| Dim::new(tables::extent(self.model, &mut self.start.tables, *a), &self.model.axis(*a).name))
            .collect()
    }

    fn place(&self, id: NodeId) -> Arc<str> {
        Arc::from(&*self.model.node(id).place)
    }

    fn emit(&mut self, id: NodeId, op: Op, inputs: &[Value], ty: Type) -> Value {
        let (span, place) = (self.model.node(id).span, self.place(id));
        self.graph.add(op, inputs, vec![ty], Some(span), &place)
    }

    /// The value of a node, built if it is new. Operands come before users in the model, so a loop over what is
    /// missing replaces recursion: deep models do not deepen the stack.
    pub fn value(&mut self, id: NodeId) -> Value {
        let mut stack = vec![id];
        while let Some(&top) = stack.last() {
            if self.done[top.0 as usize].is_some() {
                stack.pop();
                continue;
            }
            let missing: Vec<NodeId> =
                self.model.node(top).inputs.iter().copied().filter(|i| self.done[i.0 as usize].is_none()).collect();
            if missing.is_empty() {
                let value = self.lower(top);
                self.done[top.0 as usize] = Some(value);
                stack.pop();
            } else {
                stack.extend(missing.into_iter().rev());
            }
        }
        self.done[id.0 as usize].expect("compiler bug: node was not built")
    }

    fn input(&self, node: &Node, i: usize) -> Value {
        self.done[node.inputs[i].0 as usize].expect("compiler bug: operand was not built")
    }

    fn input_axes(&self, node: &Node, i: usize) -> Vec<AxisId> {
        self.model.node(node.inputs[i]).axes.clone()
    }

    /// `value`, whose dims are `have`, permuted, repeated and lifted to `want` and `outer`.
    pub fn align(&mut self, id: NodeId, value: Value, have: &[AxisId], want: &[AxisId], outer: Outer) -> Value {
        let ty = self.graph.ty(value).clone();
        if have == want && ty.outer == outer {
            return value;
        }
        let from: Vec<Option<usize>> = want.iter().map(|a| have.iter().position(|h| h == a)).collect();
        let dims = self.dims(want);
        self.emit(id, Op::Arrange { from }, &[value], Type::new(ty.dtype, outer, dims))
    }

    fn aligned(&mut self, id: NodeId, i: usize, want: &[AxisId], outer: Outer) -> Value {
        let node = self.model.node(id).clone();
        let (value, have) = (self.input(&node, i), self.input_axes(&node, i));
        self.align(id, value, &have, want, outer)
    }

    fn cast(&mut self, id: NodeId, value: Value, dtype: DType) -> Value {
        let ty = self.graph.ty(value).clone();
        if ty.dtype == dtype {
            return value;
        }
        self.emit(id, Op::Cast, &[value], ty.with_dtype(dtype))
    }

    fn reshape(&mut self, id: NodeId, value: Value, dims: Vec<Dim>) -> Value {
        let ty = self.graph.ty(value).clone();
        if ty.dims == dims {
            return value;
        }
        self.emit(id, Op::Reshape, &[value], Type::new(ty.dtype, ty.outer, dims))
    }

    fn lower(&mut self, id: NodeId) -> Value {
        let node = self.model.node(id).clone();
        let dims = self.dims(&node.axes);
        let ty = Type::new(self.dtype(&node), node.outer, dims);
        match &node.op {
            NodeOp::Number(v) => {
                let value = self.emit(id, Op::Constant(*v), &[], Type::scalar(ty.dtype));
                self.align(id, value, &[], &node.axes, node.outer)
            }
            NodeOp::Scheduled(s) => {
                let name = format!("schedule.{}", self.start.schedules.len());
                let scalar = tables::scalar(&mut self.start.tables, &mut self.start.schedules, &name, Some(s), false);
                self.emit(id, Op::Scalar(scalar), &[], ty)
            }
            NodeOp::Iota => self.emit(id, Op::Iota, &[], ty),
            NodeOp::Weight(w) => {
                let weight = &self.model.weights[w.0 as usize];
                let stored: Vec<Dim> = weight.stored.iter().map(|n| Dim::fixed(*n, "")).collect();
                let slot = self.start.slots[w.0 as usize];
                let axes = weight.axes.clone();
                let read = self.emit(id, Op::Read(slot), &[], Type::new(ty.dtype, Outer::One, stored));
                let logical = self.dims(&axes);
                let value = self.reshape(id, read, logical);
                self.align(id, value, &axes, &node.axes, node.outer)
            }
            NodeOp::Source(i) => self.emit(id, Op::Input(InputId(*i as u32)), &[], ty),
            NodeOp::Index(set, which) => self.emit(id, Op::Index { set: *set, which: *which }, &[], ty),
            NodeOp::Strategy(set) => self.emit(id, Op::Strategy(*set), &[], ty),
            NodeOp::Draw { dist, name } => {
                let inputs: Vec<Value> = (0..node.inputs.len()).map(|i| self.aligned(id, i, &[], node.outer)).collect();
                let site = format!("{}.{name}", self.site);
                self.emit(id, Op::Draw { dist: *dist, site }, &inputs, ty)
            }
            NodeOp::Coords(axis) => self.coords(id, *axis, ty),
            NodeOp::Unary(op) => {
                let x = self.aligned(id, 0, &node.axes, node.outer);
                self.emit(id, Op::Unary(*op), &[x], ty)
            }
            NodeOp::Binary(op) => self.binary(id, *op, ty),
            NodeOp::Select => {
                let inputs: Vec<Value> = (0..3)
                    .map(|i| {
                        let x = self.aligned(id, i, &node.axes, node.outer);
                        if i == 0 { x } else { self.cast(id, x, ty.dtype) }
                    })
                    .collect();
                self.emit(id, Op::Select, &inputs, ty)
            }
            NodeOp::Spread => self.aligned(id, 0, &node.axes, node.outer),
            NodeOp::Stop => {
                let x = self.aligned(id, 0, &node.axes, node.outer);
                self.emit(id, Op::Stop, &[x], ty)
            }
            NodeOp::Reduce(op, axes) => {
                let have = self.input_axes(&node, 0);
                let rest: Vec<AxisId> = have.iter().copied().filter(|a| !axes.contains(a)).collect();
                let places: Vec<usize> = (0..have.len()).filter(|i| axes.contains(&have[*i])).collect();
                let (mut x, dims) = (self.input(&node, 0), self.dims(&rest));
                // Truth values are added and averaged as ones and zeros.
                if matches!(op, ReduceOp::Sum | ReduceOp::Mean | ReduceOp::Max | ReduceOp::Min) {
                    x = self.cast(id, x, ty.dtype);
                }
                let outer = self.graph.ty(x).outer;
                let op = Op::Reduce { op: *op, axes: places };
                let value = self.emit(id, op, &[x], Type::new(ty.dtype, outer, dims));
                self.align(id, value, &rest, &node.axes, node.outer)
            }
            NodeOp::OverMasks { mean } => {
                let have = self.input_axes(&node, 0);
                let x = self.aligned(id, 0, &node.axes, self.model.node(node.inputs[0]).outer);
                debug_assert_eq!(have.len(), node.axes.len());
                self.emit(id, Op::Fold { mean: *mean }, &[x], ty)
            }
            NodeOp::Argmax(axis) => {
                let have = self.input_axes(&node, 0);
                let place = position(&have, *axis);
                let rest: Vec<AxisId> = have.iter().copied().filter(|a| a != axis).collect();
                let (x, dims) = (self.input(&node, 0), self.dims(&rest));
                let outer = self.graph.ty(x).outer;
                let value = self.emit(id, Op::Argmax { axis: place }, &[x], Type::new(DType::I32, outer, dims));
                let value = self.align(id, value, &rest, &node.axes, node.outer);
                self.cast(id, value, ty.dtype)
            }
            NodeOp::Dot(_) => {
                let (a, b) = (self.input_axes(&node, 0), self.input_axes(&node, 1));
                let mut names: Vec<AxisId> = Vec::new();
                let mut label = |axis: &AxisId| match names.iter().position(|n| n == axis) {
                    Some(i) => i as u8,
                    None => {
                        names.push(*axis);
                        names.len() as u8 - 1
                    }
                };
                let a: Vec<u8> = a.iter().map(&mut label).collect();
                let b: Vec<u8> = b.iter().map(&mut label).collect();
                let out: Vec<u8> = node.axes.iter().map(&mut label).collect();
                let inputs = [self.input(&node, 0), self.input(&node, 1)];
                self.emit(id, Op::Einsum { a, b, out }, &inputs, ty)
            }
            NodeOp::Relabel => {
                let x = self.input(&node, 0);
                self.reshape(id, x, ty.dims)
            }
            NodeOp::Split(..) => {
                let (x, have) = (self.input(&node, 0), self.input_axes(&node, 0));
                let NodeOp::Split(axis, parts) = &node.op else { unreachable!() };
                let place = position(&have, *axis);
                let mut axes = have;
                axes.splice(place..=place, parts.iter().copied());
                let dims = self.dims(&axes);
                let value = self.reshape(id, x, dims);
                self.align(id, value, &axes, &node.axes, node.outer)
            }
            NodeOp::Merge(parts, to) => {
                let have = self.input_axes(&node, 0);
                let mut side_by_side: Vec<AxisId> = have.iter().copied().filter(|a| !parts[1..].contains(a)).collect();
                let place = position(&side_by_side, parts[0]);
                side_by_side.splice(place..=place, parts.iter().copied());
                let outer = self.model.node(node.inputs[0]).outer;
                let x = self.aligned(id, 0, &side_by_side, outer);
                let mut merged = side_by_side;
                merged.splice(place..place + parts.len(), [*to]);
                let dims = self.dims(&merged);
                let value = self.reshape(id, x, dims);
                self.align(id, value, &merged, &node.axes, node.outer)
            }
            NodeOp::Pick(axis) | NodeOp::At(axis) => self.gather(id, *axis, ty),
            NodeOp::AtFixed(axis, i) => {
                let (x, have) = (self.input(&node, 0), self.input_axes(&node, 0));
                let place = position(&have, *axis);
                let x_ty = self.graph.ty(x).clone();
                let mut one = x_ty.dims.clone();
                one[place] = Dim::fixed(1, &self.model.axis(*axis).name);
                let op = Op::Slice { axis: place, start: vec![Extent::Static(*i)] };
                let cut = self.emit(id, op, &[x], Type::new(x_ty.dtype, x_ty.outer, one));
                let mut rest = have;
                rest.remove(place);
                let dims = self.dims(&rest);
                let value = self.reshape(id, cut, dims);
                self.align(id, value, &rest, &node.axes, node.outer)
            }
            NodeOp::Join(ax, ay, joined) => {
                let place = position(&node.axes, *joined);
                let with = |axis: AxisId| {
                    let mut axes = node.axes.clone();
                    axes[place] = axis;
                    axes
                };
                let x = self.aligned(id, 0, &with(*ax), node.outer);
                let y = self.aligned(id, 1, &with(*ay), node.outer);
                self.emit(id, Op::Concat { axis: place }, &[x, y], ty)
            }
            NodeOp::Part(joined, first) => {
                let have = self.input_axes(&node, 0);
                let place = position(&have, *joined);
                let AxisSize::Joined(a, b) = self.model.axis(*joined).size else {
                    unreachable!("compiler bug: a part of an axis that was not joined")
                };
                let start = if *first { vec![] } else { vec![tables::extent(self.model, &mut self.start.tables, a)] };
                let mut axes = have;
                axes[place] = if *first { a } else { b };
                let (x, dims) = (self.input(&node, 0), self.dims(&axes));
                let outer = self.graph.ty(x).outer;
                let value = self.emit(id, Op::Slice { axis: place, start }, &[x], Type::new(ty.dtype, outer, dims));
                self.align(id, value, &axes, &node.axes, node.outer)
            }
            NodeOp::Stack(axis) => {
                let place = position(&node.axes, *axis);
                let rest: Vec<AxisId> = node.axes.iter().copied().filter(|a| a != axis).collect();
                let mut one = self.dims(&node.axes);
                one[place] = Dim::fixed(1, &self.model.axis(*axis).name);
                let inputs: Vec<Value> = (0..node.inputs.len())
                    .map(|i| {
                        let x = self.aligned(id, i, &rest, node.outer);
                        let x = self.cast(id, x, ty.dtype);
                        self.reshape(id, x, one.clone())
                    })
                    .collect();
                self.emit(id, Op::Concat { axis: place }, &inputs, ty)
            }
            NodeOp::OneHot(axis) => {
                let have = self.input_axes(&node, 0);
                let mut last = have.clone();
                last.push(*axis);
                let x = self.input(&node, 0);
                let x = self.cast(id, x, DType::I32);
                let (outer, dims) = (self.graph.ty(x).outer, self.dims(&last));
                let value = self.emit(id, Op::OneHot, &[x], Type::new(ty.dtype, outer, dims));
                self.align(id, value, &last, &node.axes, node.outer)
            }
            NodeOp::Holds(axis, counted) => self.holds(id, *axis, *counted),
        }
    }

    /// Which positions an index set holds: a one for each index, added at its place.
    fn holds(&mut self, id: NodeId, axis: AxisId, counted: AxisId) -> Value {
        let node = self.model.node(id).clone();
        let extra: Vec<AxisId> = self.input_axes(&node, 0).into_iter().filter(|a| *a != counted).collect();
        let (from, to) = ([&extra[..], &[counted]].concat(), [&extra[..], &[axis]].concat());
        let outer = self.model.node(node.inputs[0]).outer;
        let index = self.aligned(id, 0, &from, outer);
        let number = self.number();
        let one = self.emit(id, Op::Constant(1.0), &[], Type::scalar(number));
        let ones = self.align(id, one, &[], &from, outer);
        let ty = Type::new(number, outer, self.dims(&to));
        let op = Op::ScatterAdd { axis: extra.len(), shared: extra.len() };
        let sum = self.emit(id, op, &[ones, index], ty.clone());
        let zero = self.emit(id, Op::Constant(0.0), &[], Type::scalar(number));
        let zero = self.align(id, zero, &[], &to, outer);
        let found = self.emit(id, Op::Binary(BinaryOp::Gt), &[sum, zero], ty.with_dtype(DType::Bool));
        self.align(id, found, &to, &node.axes, node.outer)
    }

    fn binary(&mut self, id: NodeId, op: BinaryOp, ty: Type) -> Value {
        let node = self.model.node(id).clone();
        let mut inputs = [self.aligned(id, 0, &node.axes, node.outer), self.aligned(id, 1, &node.axes, node.outer)];
        let squared = matches!(self.model.node(node.inputs[1]).op, NodeOp::Number(v) if v == 2.0);
        if op == BinaryOp::Pow && squared {
            return self.emit(id, Op::Binary(BinaryOp::Mul), &[inputs[0], inputs[0]], ty);
        }
        let kind = match op {
            BinaryOp::And | BinaryOp::Or => DType::Bool,
            BinaryOp::Add
            | BinaryOp::Sub
            | BinaryOp::Mul
            | BinaryOp::Div
            | BinaryOp::Rem
            | BinaryOp::Pow
            | BinaryOp::Min
            | BinaryOp::Max => ty.dtype,
            BinaryOp::Eq | BinaryOp::Ne | BinaryOp::Lt | BinaryOp::Le | BinaryOp::Gt | BinaryOp::Ge => self.number(),
        };
        for x in &mut inputs {
            *x = self.cast(id, *x, kind);
        }
        self.emit(id, Op::Binary(op), &inputs, ty)
    }

    /// `x[a in idx]` and `x[a = i]`: axes that both have come first.
    fn gather(&mut self, id: NodeId, axis: AxisId, ty: Type) -> Value {
        let node = self.model.node(id).clone();
        let (x_axes, i_axes) = (self.input_axes(&node, 0), self.input_axes(&node, 1));
        let shared: Vec<AxisId> = i_axes.iter().copied().filter(|a| *a != axis && x_axes.contains(a)).collect();
        let lead = |axes: &[AxisId]| -> Vec<AxisId> {
            shared.iter().copied().chain(axes.iter().copied().filter(|a| !shared.contains(a))).collect()
        };
        let (x_want, i_want) = (lead(&x_axes), lead(&i_axes));
        let (x_outer, i_outer) = (self.model.node(node.inputs[0]).outer, self.model.node(node.inputs[1]).outer);
        let x = self.aligned(id, 0, &x_want, x_outer);
        let index = self.aligned(id, 1, &i_want, i_outer);
        let index = self.cast(id, index, DType::I32);
        let place = position(&x_want, axis);
        let mut axes = x_want;
        axes.splice(place..=place, i_want[shared.len()..].iter().copied());
        let dims = self.dims(&axes);
        let op = Op::Gather { axis: place, shared: shared.len() };
        let value = self.emit(id, op, &[x, index], Type::new(ty.dtype, x_outer.max(i_outer), dims));
        self.align(id, value, &axes, &node.axes, node.outer)
    }

    /// Coordinates of position p of a product axis: for each factor, floor(p / stride) % size.
    fn coords(&mut self, id: NodeId, axis: AxisId, ty: Type) -> Value {
        let sizes: Vec<usize> = self.model.axis(axis).factors.iter().map(|f| self.model.bound(*f)).collect();
        let line = Type::new(ty.dtype, Outer::One, self.dims(&[axis]));
        let one = Type::new(ty.dtype, Outer::One, vec![line.dims[0].clone(), Dim::fixed(1, "coord")]);
        let position = self.emit(id, Op::Iota, &[], line.clone());
        let mut columns = Vec::new();
        for (k, size) in sizes.iter().enumerate() {
            let stride: usize = sizes[k + 1..].iter().product();
            let mut constant = |v: usize| {
                let c = self.emit(id, Op::Constant(v as f64), &[], Type::scalar(ty.dtype));
                self.emit(id, Op::Arrange { from: vec![None] }, &[c], line.clone())
            };
            let (stride, size) = (constant(stride), constant(*size));
            let row = self.emit(id, Op::Binary(BinaryOp::Div), &[position, stride], line.clone());
            let row = self.emit(id, Op::Unary(UnaryOp::Floor), &[row], line.clone());
            let row = self.emit(id, Op::Binary(BinaryOp::Rem), &[row, size], line.clone());
            columns.push(self.emit(id, Op::Reshape, &[row], one.clone()));
        }
        self.emit(id, Op::Concat { axis: 1 }, &columns, ty)
    }
}

fn position(axes: &[AxisId], axis: AxisId) -> usize {
    axes.iter().position(|a| *a == axis).expect("compiler bug: an op on an axis that its operand does not have")
}
