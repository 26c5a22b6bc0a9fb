//! Adds nodes to a graph with their types inferred: what every stage that makes IR writes with.
//!
//! A node that does not fit is a mistake of the compiler, so these methods panic with "compiler bug" and the reason;
//! [`Builder::try_op`] is there for whoever wants the reason instead.

use std::sync::Arc;

use super::graph::{Dim, Extent, Graph, InputId, Outer, ScalarId, SlotId, Tables, Type, Value};
use super::infer::infer;
use super::op::{BinaryOp, DType, Op, ReduceOp, UnaryOp};
use crate::source::Span;

/// Where new nodes go and what they are marked with.
#[derive(Debug)]
pub struct Builder<'a> {
    /// Receives the nodes.
    pub graph: &'a mut Graph,
    /// What the ops refer to.
    pub tables: &'a Tables,
    /// Span of new nodes.
    pub span: Option<Span>,
    /// Place of new nodes.
    pub place: Arc<str>,
}

impl<'a> Builder<'a> {
    /// A builder without span and place.
    pub fn new(graph: &'a mut Graph, tables: &'a Tables) -> Builder<'a> {
        Builder { graph, tables, span: None, place: "".into() }
    }

    /// New nodes are marked as `like` is.
    pub fn at(&mut self, like: Value) -> &mut Self {
        self.span = self.graph.nodes[like.node].span;
        self.place = self.graph.nodes[like.node].place.clone();
        self
    }

    /// The type of a value.
    pub fn ty(&self, x: Value) -> Type {
        self.graph.ty(x).clone()
    }

    /// Any op; `hint` is the type of the first result where the op leaves a choice.
    pub fn try_op(&mut self, op: Op, inputs: &[Value], hint: Option<&Type>) -> Result<Value, String> {
        let types: Vec<&Type> = inputs.iter().map(|v| self.graph.ty(*v)).collect();
        let types = infer(self.tables, &op, &types, hint)
            .map_err(|e| format!("compiler bug: {op:?} at `{}`: {e}", self.place))?;
        Ok(self.graph.add(op, inputs, types, self.span, &self.place))
    }

    /// Any op whose type follows from its inputs.
    pub fn op(&mut self, op: Op, inputs: &[Value]) -> Value {
        self.try_op(op, inputs, None).unwrap_or_else(|e| panic!("{e}"))
    }

    /// Any op, with the type of its first result.
    pub fn op_as(&mut self, op: Op, inputs: &[Value], ty: &Type) -> Value {
        self.try_op(op, inputs, Some(ty)).unwrap_or_else(|e| panic!("{e}"))
    }

    /// The content of a slot.
    pub fn read(&mut self, slot: SlotId) -> Value {
        self.op(Op::Read(slot), &[])
    }

    /// What the caller supplies.
    pub fn input(&mut self, input: InputId) -> Value {
        self.op(Op::Input(input), &[])
    }

    /// A number a step, as f64 unless said otherwise.
    pub fn scalar(&mut self, scalar: ScalarId, dtype: DType) -> Value {
        self.op_as(Op::Scalar(scalar), &[], &Type::scalar(dtype))
    }

    /// A number without dims, one for the step.
    pub fn number(&mut self, v: f64, dtype: DType) -> Value {
        self.op_as(Op::Constant(v), &[], &Type::scalar(dtype))
    }

    /// The number `v` in every element of a tensor like `like`.
    pub fn constant(&mut self, v: f64, like: &Type) -> Value {
        let n = self.number(v, like.dtype);
        self.spread(n, like)
    }

    /// A number without dims repeated to `like`'s dims and blocks; the element type stays.
    pub fn spread(&mut self, x: Value, like: &Type) -> Value {
        self.arrange(x, vec![None; like.dims.len()], like.outer, like.dims.clone())
    }

    /// Function of one input.
    pub fn unary(&mut self, op: UnaryOp, x: Value) -> Value {
        self.op(Op::Unary(op), &[x])
    }

    /// Function of two inputs of equal type.
    pub fn binary(&mut self, op: BinaryOp, x: Value, y: Value) -> Value {
        self.op(Op::Binary(op), &[x, y])
    }

    /// x + y.
    pub fn add(&mut self, x: Value, y: Value) -> Value {
        self.binary(BinaryOp::Add, x, y)
    }

    /// x - y.
    pub fn sub(&mut self, x: Value, y: Value) -> Value {
        self.binary(BinaryOp::Sub, x, y)
    }

    /// x * y.
    pub fn mul(&mut self, x: Value, y: Value) -> Value {
        self.binary(BinaryOp::Mul, x, y)
    }

    /// x / y.
    pub fn div(&mut self, x: Value, y: Value) -> Value {
        self.binary(BinaryOp::Div, x, y)
    }

    /// -x.
    pub fn neg(&mut self, x: Value) -> Value {
        self.unary(UnaryOp::Neg, x)
    }

    /// x times a constant.
    pub fn scale(&mut self, x: Value, by: f64) -> Value {
        let c = self.constant(by, &self.ty(x));
        self.mul(x, c)
    }

    /// x plus a constant.
    pub fn offset(&mut self, x: Value, by: f64) -> Value {
        let c = self.constant(by, &self.ty(x));
        self.add(x, c)
    }

    /// Where `c`, x, elsewhere y.
    pub fn select(&mut self, c: Value, x: Value, y: Value) -> Value {
        self.op(Op::Select, &[c, x, y])
    }

    /// Change of element type; x itself if it has that already.
    pub fn cast(&mut self, x: Value, dtype: DType) -> Value {
        let ty = self.ty(x);
        if ty.dtype == dtype { x } else { self.op_as(Op::Cast, &[x], &ty.with_dtype(dtype)) }
    }

    /// No gradient.
    pub fn stop(&mut self, x: Value) -> Value {
        self.op(Op::Stop, &[x])
    }

    /// Result dim j is x's dim `from[j]`, or new; x itself where nothing changes.
    pub fn arrange(&mut self, x: Value, from: Vec<Option<usize>>, outer: Outer, dims: Vec<Dim>) -> Value {
        let ty = self.ty(x);
        let plain = from.len() == ty.dims.len() && from.iter().enumerate().all(|(i, f)| *f == Some(i));
        if plain && outer == ty.outer {
            return x;
        }
        self.op_as(Op::Arrange { from }, &[x], &Type::new(ty.dtype, outer, dims))
    }

    /// Dim j of the result is dim `order[j]` of x.
    pub fn permute(&mut self, x: Value, order: &[usize]) -> Value {
        let ty = self.ty(x);
        let dims = order.iter().map(|i| ty.dims[*i].clone()).collect();
        self.arrange(x, order.iter().map(|i| Some(*i)).collect(), ty.outer, dims)
    }

    /// Repeats x into a larger outer.
    pub fn lift(&mut self, x: Value, outer: Outer) -> Value {
        let ty = self.ty(x);
        self.arrange(x, (0..ty.dims.len()).map(Some).collect(), outer, ty.dims)
    }

    /// Same elements, other dims; x itself where the dims are the same.
    pub fn reshape(&mut self, x: Value, dims: Vec<Dim>) -> Value {
        let ty = self.ty(x);
        if ty.dims == dims { x } else { self.op_as(Op::Reshape, &[x], &Type::new(ty.dtype, ty.outer, dims)) }
    }

    /// `len` positions of an axis after `start`.
    pub fn slice(&mut self, x: Value, axis: usize, start: Vec<Extent>, len: Dim) -> Value {
        let mut ty = self.ty(x);
        ty.dims[axis] = len;
        self.op_as(Op::Slice { axis, start }, &[x], &ty)
    }

    /// Zeros around x along an axis, up to `whole`.
    pub fn pad(&mut self, x: Value, axis: usize, before: Vec<Extent>, whole: Dim) -> Value {
        let mut ty = self.ty(x);
        ty.dims[axis] = whole;
        self.op_as(Op::Pad { axis, before }, &[x], &ty)
    }

    /// Parts one after another; a counted result needs its count in the tables.
    pub fn concat(&mut self, parts: &[Value], axis: usize) -> Value {
        self.op(Op::Concat { axis }, parts)
    }

    /// Rows of x.
    pub fn gather(&mut self, x: Value, index: Value, axis: usize, shared: usize) -> Value {
        self.op(Op::Gather { axis, shared }, &[x, index])
    }

    /// Rows of g added into zeros of type `ty`.
    pub fn scatter_add(&mut self, g: Value, index: Value, axis: usize, shared: usize, ty: &Type) -> Value {
        self.op_as(Op::ScatterAdd { axis, shared }, &[g, index], ty)
    }

    /// Reduces axes (ascending).
    pub fn reduce(&mut self, op: ReduceOp, x: Value, axes: Vec<usize>) -> Value {
        self.op(Op::Reduce { op, axes }, &[x])
    }

    /// Adds or averages blocks into a smaller outer; x itself if it has that outer.
    pub fn fold(&mut self, x: Value, outer: Outer, mean: bool) -> Value {
        let ty = self.ty(x);
        if ty.outer == outer { x } else { self.op_as(Op::Fold { mean }, &[x], &Type { outer, ..ty }) }
    }

    /// Sum of products with labels, for example `einsum(x, w, "ni", "oi", "no")`, in the larger outer of the two.
    pub fn einsum(&mut self, x: Value, y: Value, a: &str, b: &str, out: &str) -> Value {
        let op = Op::Einsum { a: a.into(), b: b.into(), out: out.into() };
        self.op(op, &[x, y])
    }

    /// Sum of products, blocks summed into `outer`; labels are bytes. `dtype` is the result's.
    pub fn einsum_to(&mut self, x: Value, y: Value, [a, b, out]: [Vec<u8>; 3], outer: Outer, dtype: DType) -> Value {
        let op = Op::Einsum { a, b, out };
        self.op_as(op, &[x, y], &Type::new(dtype, outer, vec![]))
    }

    /// x w^T + b.
    pub fn linear(&mut self, x: Value, w: Value, bias: Option<Value>) -> Value {
        let inputs: Vec<Value> = [x, w].into_iter().chain(bias).collect();
        self.op(Op::Linear, &inputs)
    }
}
