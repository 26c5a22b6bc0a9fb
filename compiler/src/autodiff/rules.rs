//! One gradient rule an op: from the gradient of the result to the gradients of the inputs.
//!
//! Conventions where the derivative does not exist: the smaller or larger of two equal numbers shares its gradient in
//! halves; the largest (smallest) elements of a reduction share it equally; `abs`, `sign` and the steps (`floor`, `ceil`,
//! `round`) have slope 0 where they jump or turn. Comparisons, index ops, draws and whole numbers have none. The
//! backward idioms have no gradient of their own: second derivatives are an error.

use std::f64::consts::PI;

use super::Part;
use crate::ir::build::Builder;
use crate::ir::extent::{fits, larger};
use crate::ir::graph::{Dim, Extent, Outer, Type, Value};
use crate::ir::op::{BinaryOp, DType, Op, ReduceOp, UnaryOp};

/// A node whose result has the gradient `g`.
pub(super) struct Rule<'a, 'b> {
    pub(super) b: &'a mut Builder<'b>,
    pub(super) inputs: Vec<Value>,
    /// The node's result.
    pub(super) out: Value,
    /// Gradient of the result.
    pub(super) g: Value,
    /// Which inputs need a gradient.
    pub(super) wanted: Vec<bool>,
}

/// True if a gradient can pass through: what is not on the list ends the walk.
pub fn passes(op: &Op) -> bool {
    match op {
        Op::Read(_) | Op::Input(_) | Op::Scalar(_) | Op::Constant(_) | Op::Iota | Op::Index { .. } => false,
        Op::Strategy(_) | Op::Size(_) | Op::Draw { .. } | Op::Stop | Op::OneHot | Op::Argmax { .. } => false,
        Op::Accumulate(_) | Op::Store(_) | Op::Adamw { .. } | Op::Sgd { .. } | Op::Ema(_) => false,
        Op::Unary(u) => match u {
            UnaryOp::Neg | UnaryOp::Exp | UnaryOp::Log | UnaryOp::Sqrt | UnaryOp::Abs => true,
            UnaryOp::Sin | UnaryOp::Cos | UnaryOp::Tanh | UnaryOp::Erf => true,
            UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Round | UnaryOp::Sign | UnaryOp::Not => false,
        },
        Op::Binary(b) => match b {
            BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul | BinaryOp::Div | BinaryOp::Rem | BinaryOp::Pow => true,
            BinaryOp::Min | BinaryOp::Max => true,
            BinaryOp::Eq | BinaryOp::Ne | BinaryOp::Lt | BinaryOp::Le | BinaryOp::Gt | BinaryOp::Ge => false,
            BinaryOp::And | BinaryOp::Or => false,
        },
        Op::Reduce { op, .. } => match op {
            ReduceOp::Sum | ReduceOp::Mean | ReduceOp::Max | ReduceOp::Min => true,
            ReduceOp::Any | ReduceOp::All | ReduceOp::Count => false,
        },
        Op::Select | Op::Cast | Op::Arrange { .. } | Op::Reshape | Op::Slice { .. } | Op::Pad { .. } => true,
        Op::Concat { .. } | Op::Gather { .. } | Op::ScatterAdd { .. } | Op::Fold { .. } | Op::Einsum { .. } => true,
        Op::Linear | Op::LayerNorm { .. } | Op::LayerNormGrad { .. } | Op::Softmax | Op::SoftmaxGrad => true,
        Op::Attention { .. } | Op::AttentionGrad { .. } | Op::Gelu | Op::GeluGrad | Op::Patches { .. } => true,
    }
}

impl Rule<'_, '_> {
    /// What each input's gradient receives.
    pub(super) fn parts(mut self, op: &Op) -> Result<Vec<Option<Part>>, String> {
        let none = vec![None; self.inputs.len()];
        let grads: Vec<Option<Value>> = match op {
            Op::Read(_) | Op::Input(_) | Op::Scalar(_) | Op::Constant(_) | Op::Iota | Op::Index { .. } => {
                return Ok(none);
            }
            Op::Strategy(_) | Op::Size(_) | Op::Draw { .. } | Op::Stop | Op::OneHot | Op::Argmax { .. } => {
                return Ok(none);
            }
            Op::Accumulate(_) | Op::Store(_) | Op::Adamw { .. } | Op::Sgd { .. } | Op::Ema(_) => return Ok(none),
            Op::Unary(u) => vec![self.unary(*u)],
            Op::Binary(b) => self.binary(*b),
            Op::Select => {
                let g = self.narrow();
                let zero = self.b.constant(0.0, &self.b.ty(g));
                let c = self.inputs[0];
                vec![None, self.when(1, |b| b.select(c, g, zero)), self.when(2, |b| b.select(c, zero, g))]
            }
            Op::Cast => vec![Some(self.b.cast(self.g, self.b.graph.ty(self.inputs[0]).dtype))],
            Op::Arrange { from } => vec![Some(self.arrange(from))],
            Op::Reshape => vec![Some(self.b.reshape(self.g, self.b.ty(self.inputs[0]).dims))],
            Op::Slice { axis, start } => {
                return Ok(vec![Some(Part::Slice { axis: *axis, start: start.clone(), g: self.g })]);
            }
            Op::Pad { axis, before } => {
                let len = self.b.ty(self.inputs[0]).dims[*axis].clone();
                vec![Some(self.b.slice(self.g, *axis, before.clone(), len))]
            }
            Op::Concat { axis } => self.concat(*axis),
            Op::Gather { axis, shared } => {
                let x = self.b.ty(self.inputs[0]);
                let x = x.with_dtype(self.weight_dtype(&x));
                vec![Some(self.b.scatter_add(self.g, self.inputs[1], *axis, *shared, &x)), None]
            }
            Op::ScatterAdd { axis, shared } => {
                let rows = self.b.gather(self.g, self.inputs[1], *axis, *shared);
                let outer = self.b.ty(self.inputs[0]).outer;
                vec![Some(self.b.lift(rows, outer)), None]
            }
            Op::Reduce { op, axes } => vec![self.reduce(*op, axes)],
            Op::Fold { mean } => vec![Some(self.fold(*mean))],
            Op::Einsum { a, b, out } => {
                let [x, y] = [self.inputs[0], self.inputs[1]];
                let dx = self.wanted[0].then(|| self.einsum(y, x, [out, b, a]));
                let dy = self.wanted[1].then(|| self.einsum(x, y, [out, a, b]));
                vec![dx, dy]
            }
            Op::Linear => self.linear(),
            Op::LayerNorm { eps } => {
                let g = self.narrow();
                let mut inputs = vec![self.inputs[0], g];
                inputs.extend(self.inputs.get(1));
                let dx = self.b.op(Op::LayerNormGrad { eps: *eps }, &inputs);
                (0..self.inputs.len()).map(|port| Some(Value { port: port as u8, ..dx })).collect()
            }
            Op::Softmax => {
                let g = self.narrow();
                vec![Some(self.b.op(Op::SoftmaxGrad, &[self.out, g]))]
            }
            Op::Attention { scale } => {
                let g = self.narrow();
                let inputs = [&self.inputs[..], &[self.out, g]].concat();
                let dq = self.b.op(Op::AttentionGrad { scale: *scale }, &inputs);
                (0..3).map(|port| Some(Value { port, ..dq })).collect()
            }
            Op::Gelu => {
                let g = self.narrow();
                vec![Some(self.b.op(Op::GeluGrad, &[self.inputs[0], g]))]
            }
            Op::Patches { tube, dy, dx } => vec![Some(self.patches([*tube, *dy, *dx])), None],
            Op::LayerNormGrad { .. } | Op::SoftmaxGrad | Op::AttentionGrad { .. } | Op::GeluGrad => {
                return Err(format!("compiler bug: {op:?} has no second derivative"));
            }
        };
        Ok(grads.into_iter().map(|g| g.map(Part::Whole)).collect())
    }

    /// The gradient in the element type of the result.
    fn narrow(&mut self) -> Value {
        self.b.cast(self.g, self.b.graph.ty(self.out).dtype)
    }

    /// Element type of a gradient toward a value of this type.
    fn weight_dtype(&self, ty: &Type) -> DType {
        if ty.outer == Outer::One && ty.dtype == DType::Bf16 { DType::F32 } else { ty.dtype }
    }

    fn when(&mut self, input: usize, f: impl FnOnce(&mut Builder) -> Value) -> Option<Value> {
        self.wanted[input].then(|| f(self.b))
    }

    fn unary(&mut self, op: UnaryOp) -> Option<Value> {
        let (g, x, y) = (self.narrow(), self.inputs[0], self.out);
        let b = &mut *self.b;
        // A result wider than its input differentiates in the result's element type.
        let x = b.cast(x, b.ty(y).dtype);
        Some(match op {
            UnaryOp::Neg => b.neg(g),
            UnaryOp::Exp => b.mul(g, y),
            UnaryOp::Log => b.div(g, x),
            UnaryOp::Sqrt => {
                let half = b.scale(g, 0.5);
                b.div(half, y)
            }
            UnaryOp::Abs => {
                let sign = b.unary(UnaryOp::Sign, x);
                b.mul(g, sign)
            }
            UnaryOp::Sin => {
                let cos = b.unary(UnaryOp::Cos, x);
                b.mul(g, cos)
            }
            UnaryOp::Cos => {
                let sin = b.unary(UnaryOp::Sin, x);
                let slope = b.neg(sin);
                b.mul(g, slope)
            }
            UnaryOp::Tanh => {
                let square = b.mul(y, y);
                let minus = b.neg(square);
                let slope = b.offset(minus, 1.0);
                b.mul(g, slope)
            }
            UnaryOp::Erf => {
                let square = b.mul(x, x);
                let minus = b.neg(square);
                let bell = b.unary(UnaryOp::Exp, minus);
                let slope = b.scale(bell, 2.0 / PI.sqrt());
                b.mul(g, slope)
            }
            UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Round | UnaryOp::Sign | UnaryOp::Not => return None,
        })
    }

    fn binary(&mut self, op: BinaryOp) -> Vec<Option<Value>> {
        let (g, out) = (self.narrow(), self.out);
        let dtype = self.b.ty(out).dtype;
        if matches!(dtype, DType::I32 | DType::Bool) {
            return vec![None, None];
        }
        let [x, y] = [0, 1].map(|i| self.b.cast(self.inputs[i], dtype));
        match op {
            BinaryOp::Add => vec![Some(g), Some(g)],
            BinaryOp::Sub => vec![Some(g), self.when(1, |b| b.neg(g))],
            BinaryOp::Mul => vec![self.when(0, |b| b.mul(g, y)), self.when(1, |b| b.mul(g, x))],
            BinaryOp::Div => {
                let dx = self.b.div(g, y);
                let dy = self.when(1, |b| {
                    let minus = b.neg(dx);
                    b.mul(minus, out)
                });
                vec![Some(dx), dy]
            }
            BinaryOp::Rem => {
                let dy = self.when(1, |b| {
                    let ratio = b.div(x, y);
                    let floor = b.unary(UnaryOp::Floor, ratio);
                    let slope = b.neg(floor);
                    b.mul(g, slope)
                });
                vec![Some(g), dy]
            }
            BinaryOp::Pow => vec![self.when(0, |b| pow_base(b, g, x, y)), self.when(1, |b| pow_exponent(b, g, x, out))],
            BinaryOp::Min | BinaryOp::Max => {
                // The share of the first is (1 + sign(x - y)) / 2 for the larger one, else of y - x.
                let b = &mut *self.b;
                let (first, second) = if op == BinaryOp::Max { (x, y) } else { (y, x) };
                let difference = b.sub(first, second);
                let sign = b.unary(UnaryOp::Sign, difference);
                let half = b.scale(sign, 0.5);
                let share = b.offset(half, 0.5);
                let dx = b.mul(g, share);
                vec![Some(dx), self.when(1, |b| b.sub(g, dx))]
            }
            BinaryOp::Eq | BinaryOp::Ne | BinaryOp::Lt | BinaryOp::Le | BinaryOp::Gt | BinaryOp::Ge => vec![None, None],
            BinaryOp::And | BinaryOp::Or => vec![None, None],
        }
    }

    /// New dims are summed, blocks folded, and the rest brought back into the input's order. Counted dims are all new
    /// where blocks fold, so they are gone by then.
    fn arrange(&mut self, from: &[Option<usize>]) -> Value {
        let x = self.b.ty(self.inputs[0]);
        let dtype = self.weight_dtype(&x);
        let new: Vec<usize> = (0..from.len()).filter(|j| from[*j].is_none()).collect();
        let mut g = self.sum_as(self.g, new, dtype);
        g = self.b.fold(g, x.outer, false);
        let kept: Vec<usize> = from.iter().flatten().copied().collect();
        let order: Vec<usize> =
            (0..kept.len()).map(|i| kept.iter().position(|k| *k == i).expect("every dim is used")).collect();
        self.b.permute(g, &order)
    }

    fn sum_as(&mut self, x: Value, axes: Vec<usize>, dtype: DType) -> Value {
        if axes.is_empty() {
            return self.b.cast(x, dtype);
        }
        let hint = Type::new(dtype, Outer::One, vec![]);
        self.b.op_as(Op::Reduce { op: ReduceOp::Sum, axes }, &[x], &hint)
    }

    fn concat(&mut self, axis: usize) -> Vec<Option<Value>> {
        let mut start: Vec<Extent> = vec![];
        let mut grads = vec![];
        for i in 0..self.inputs.len() {
            let len = self.b.ty(self.inputs[i]).dims[axis].clone();
            let (g, before, extent) = (self.g, start.clone(), len.extent);
            grads.push(self.when(i, |b| b.slice(g, axis, before, len)));
            start.push(extent);
        }
        grads
    }

    fn reduce(&mut self, op: ReduceOp, axes: &[usize]) -> Option<Value> {
        let (x, out) = (self.inputs[0], self.out);
        let x_ty = self.b.ty(x);
        let g = self.narrow();
        let b = &mut *self.b;
        // The place in the result of each dim of x.
        let mut next = 0;
        let from: Vec<Option<usize>> = (0..x_ty.dims.len())
            .map(|i| {
                (!axes.contains(&i)).then(|| {
                    next += 1;
                    next - 1
                })
            })
            .collect();
        let back = |b: &mut Builder, v: Value| b.arrange(v, from.clone(), x_ty.outer, x_ty.dims.clone());
        match op {
            ReduceOp::Sum => Some(back(b, g)),
            ReduceOp::Mean => {
                let extents: Vec<Extent> = axes.iter().map(|a| x_ty.dims[*a].extent).collect();
                let ty = b.ty(g);
                let size = match static_product(&extents) {
                    Some(n) => b.number(n as f64, ty.dtype),
                    None => b.op_as(Op::Size(extents), &[], &Type::scalar(ty.dtype)),
                };
                let size = b.spread(size, &ty);
                let each = b.div(g, size);
                Some(back(b, each))
            }
            ReduceOp::Max | ReduceOp::Min => {
                let largest = b.cast(out, x_ty.dtype);
                let largest = back(b, largest);
                let equal = b.binary(BinaryOp::Eq, x, largest);
                let mask = b.cast(equal, b.ty(g).dtype);
                let ties = b.reduce(ReduceOp::Sum, mask, axes.to_vec());
                let each = b.div(g, ties);
                let each = back(b, each);
                Some(b.mul(mask, each))
            }
            ReduceOp::Any | ReduceOp::All | ReduceOp::Count => None,
        }
    }

    fn fold(&mut self, mean: bool) -> Value {
        let outer = self.b.ty(self.inputs[0]).outer;
        let mut g = self.narrow();
        let ty = self.b.ty(g);
        let b = &mut *self.b;
        if mean {
            // How many blocks fall together: the fold of ones.
            let one = b.number(1.0, ty.dtype);
            let ones = b.lift(one, outer);
            let count = b.fold(ones, ty.outer, false);
            let count = b.spread(count, &ty);
            g = b.div(g, count);
        }
        b.lift(g, outer)
    }

    /// The gradient toward `x`, where `other` is the second factor: products summed over what x does not have, repeated
    /// over what only x has.
    fn einsum(&mut self, other: Value, x: Value, [out, other_labels, x_labels]: [&[u8]; 3]) -> Value {
        let ty = self.b.ty(x);
        let full = larger(self.b.ty(self.g).outer, self.b.ty(other).outer).expect("compiler bug: different sets");
        let outer = if fits(ty.outer, full) { ty.outer } else { full };
        let common: Vec<u8> =
            x_labels.iter().copied().filter(|l| out.contains(l) || other_labels.contains(l)).collect();
        let dtype = self.weight_dtype(&ty);
        let labels = [out.to_vec(), other_labels.to_vec(), common.clone()];
        let g = self.b.einsum_to(self.g, other, labels, outer, dtype);
        let from = x_labels.iter().map(|l| common.iter().position(|c| c == l)).collect();
        self.b.arrange(g, from, ty.outer, ty.dims)
    }

    /// dx = g w,  dw = g^T x over all rows of the step,  db = sum of g over them.
    fn linear(&mut self) -> Vec<Option<Value>> {
        let (x, w, g) = (self.inputs[0], self.inputs[1], self.g);
        let (x_ty, w_ty) = (self.b.ty(x), self.b.ty(w));
        let rows: Vec<u8> = (0..x_ty.dims.len() as u8 - 1).collect();
        let (i, o) = (rows.len() as u8, rows.len() as u8 + 1);
        let (in_x, in_g) = ([&rows[..], &[i]].concat(), [&rows[..], &[o]].concat());
        let labels = [in_g.clone(), vec![o, i], in_x.clone()];
        let dx = self.when(0, |b| b.einsum_to(g, w, labels, x_ty.outer, x_ty.dtype));
        let dtype = self.weight_dtype(&w_ty);
        let dw = self.when(1, |b| b.einsum_to(g, x, [in_g, in_x, vec![o, i]], Outer::One, dtype));
        let mut grads = vec![dx, dw];
        if let Some(bias) = self.inputs.get(2).copied() {
            let dtype = self.weight_dtype(&self.b.ty(bias));
            grads.push(self.wanted[2].then(|| {
                let sum = self.sum_as(g, (0..rows.len()).collect(), dtype);
                self.b.fold(sum, Outer::One, false)
            }));
        }
        grads
    }

    /// Rows back to pixels: picked rows are scattered into all tokens first.
    fn patches(&mut self, [tube, dy, dx]: [usize; 3]) -> Value {
        let clip = self.b.ty(self.inputs[0]);
        let mut g = self.narrow();
        let b = &mut *self.b;
        let [frames, height, width, channels] = [0, 1, 2, 3].map(|i| match clip.dims[i].extent {
            Extent::Static(n) => n,
            Extent::Counted(_) => unreachable!("a clip has static dims"),
        });
        let grid = [frames / tube, height / dy, width / dx];
        if let Some(index) = self.inputs.get(1) {
            let row = b.ty(g).dims[1].clone();
            let all = Dim::fixed(grid.iter().product(), "token");
            let ty = Type::new(b.ty(g).dtype, clip.outer, vec![all, row]);
            g = b.scatter_add(g, *index, 0, 0, &ty);
        }
        let sizes = [grid[0], grid[1], grid[2], channels, tube, dy, dx];
        let split = b.reshape(g, sizes.iter().map(|n| Dim::fixed(*n, "")).collect());
        let ordered = b.permute(split, &[0, 4, 1, 5, 2, 6, 3]);
        b.reshape(ordered, clip.dims)
    }
}

/// g y x^(y - 1).
fn pow_base(b: &mut Builder, g: Value, x: Value, y: Value) -> Value {
    let less = b.offset(y, -1.0);
    let power = b.binary(BinaryOp::Pow, x, less);
    let slope = b.mul(y, power);
    b.mul(g, slope)
}

/// g x^y log x, and 0 where x is 0.
fn pow_exponent(b: &mut Builder, g: Value, x: Value, out: Value) -> Value {
    let ty = b.ty(x);
    let zero = b.constant(0.0, &ty);
    let one = b.constant(1.0, &ty);
    let empty = b.binary(BinaryOp::Eq, x, zero);
    let safe = b.select(empty, one, x);
    let log = b.unary(UnaryOp::Log, safe);
    let slope = b.mul(out, log);
    b.mul(g, slope)
}

/// Number of elements of a block with these extents, if no draw decides it.
fn static_product(extents: &[Extent]) -> Option<usize> {
    extents
        .iter()
        .map(|e| match e {
            Extent::Static(n) => Some(*n),
            Extent::Counted(_) => None,
        })
        .product()
}
