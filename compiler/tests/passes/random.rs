//! Random graphs of row-wise ops, idioms spelt out, and selections of rows: all passes keep what they compute.

use std::collections::BTreeMap;

use vjepac::ir::build::Builder;
use vjepac::ir::graph::{Dim, Extent, Graph, Tables, Type, Value};
use vjepac::ir::op::{BinaryOp, Op, ReduceOp, UnaryOp};
use vjepac::ir::parse_text::parse_module;
use vjepac::passes::{after_gradient, before_gradient, run_passes};

use super::world::{Numbers, assert_same};

const GRAPHS: u64 = 150;

/// Tables, and some values of [tokens, dim] to start from.
const START: &str = r#"
network 0 "encoder"
slot s0 "square" [6, 6] trained 0 decay
slot s1 "vector" [6] trained 0
slot s2 "pos" [8, 6] buffer
input i0 image "x" frames 1 every 1 size 4
mask m0 "masks.0" tokens 8 context [] target []
mask m1 "masks.1" tokens 8 context [] target []
set set0 [0, 1]
count c0 context set0 bound 8
count c1 target set0 bound 8
count c2 sum c0 c1 bound 16
%0: f32 clips [4, 4, 3] = input {i0}
%1: f32 clips [8, 6] = reshape %0
%2: i32 segments0 [context=c0] = index {set0, context}
%3: i32 segments0 [target=c1] = index {set0, target}
%4: f32 one [6, 6] = read {s0}
%5: f32 one [6] = read {s1}
%6: f32 one [8, 6] = read {s2}
output "x" = %1
output "context" = %2
output "target" = %3
output "square" = %4
output "vector" = %5
output "pos" = %6
"#;

struct Maker<'a> {
    b: Builder<'a>,
    numbers: Numbers,
    /// Values of [rows, 6].
    pool: Vec<Value>,
    indices: [Value; 2],
    square: Value,
    vector: Value,
    pos: Value,
}

/// Every graph is made, changed and compared.
#[test]
fn random_graphs() {
    let mut changes: BTreeMap<&str, usize> = BTreeMap::new();
    for seed in 0..GRAPHS {
        let (tables, before) = make(seed);
        let mut after = before.clone();
        for (pass, n) in run_passes(&tables, &mut after, before_gradient()) {
            *changes.entry(pass).or_default() += n;
        }
        run_passes(&tables, &mut after, after_gradient());
        assert_same(&tables, &before, &after, &format!("random graph {seed}"));
    }
    // Patches and GELU are not among the steps; everything else must have had something to do.
    for (pass, n) in changes {
        assert!(n > 20 || ["recognise_patches", "recognise_gelu"].contains(&pass), "{pass} made {n} changes");
    }
}

fn make(seed: u64) -> (Tables, Graph) {
    let (tables, mut graph) = parse_module(START).expect("the start is valid");
    let start: Vec<Value> = graph.outputs.drain(..).map(|o| o.1).collect();
    let [x, context, target, square, vector, pos] = start[..] else { panic!("six values to start from") };
    let b = Builder::new(&mut graph, &tables);
    let indices = [context, target];
    let mut m = Maker { b, numbers: Numbers(seed), pool: vec![x], indices, square, vector, pos };
    for _ in 0..12 {
        let y = m.step();
        m.pool.push(y);
    }
    let mut outputs = vec![*m.pool.last().expect("something was made")];
    if m.numbers.below(3) == 0 {
        outputs.push(m.any());
    }
    outputs.dedup();
    graph.outputs = outputs.into_iter().enumerate().map(|(i, v)| (format!("y{i}"), v)).collect();
    (tables, graph)
}

impl Maker<'_> {
    /// A value of the pool, new ones more often.
    fn any(&mut self) -> Value {
        let (a, b) = (self.numbers.below(self.pool.len()), self.numbers.below(self.pool.len()));
        self.pool[a.max(b)]
    }

    fn step(&mut self) -> Value {
        let x = self.any();
        match self.numbers.below(12) {
            0 => self.b.unary(UnaryOp::Sin, x),
            1 => self.b.scale(x, 0.5),
            2 => self.with_another(x),
            3 => self.linear(x),
            4 => self.normalize(x),
            5 => self.softmax(x, 1),
            6 => self.softmax(x, 0),
            7 => self.attention(x),
            8 => self.choose(x),
            9 => self.join_and_cut(x),
            10 => self.views(x),
            _ => self.positions(x),
        }
    }

    /// x op another value of the same type, or a vector spread over the rows.
    fn with_another(&mut self, x: Value) -> Value {
        let ty = self.b.ty(x);
        let same: Vec<Value> = self.pool.iter().copied().filter(|v| self.b.ty(*v) == ty).collect();
        let y = if self.numbers.below(3) == 0 {
            self.b.arrange(self.vector, vec![None, Some(0)], ty.outer, ty.dims.clone())
        } else {
            same[self.numbers.below(same.len())]
        };
        let op = [BinaryOp::Add, BinaryOp::Mul, BinaryOp::Sub][self.numbers.below(3)];
        self.b.binary(op, x, y)
    }

    fn linear(&mut self, x: Value) -> Value {
        let y = match self.numbers.below(2) {
            0 => self.b.einsum(x, self.square, "ni", "oi", "no"),
            _ => self.b.einsum(self.square, x, "io", "ni", "no"),
        };
        let ty = self.b.ty(y);
        let bias = self.b.arrange(self.vector, vec![None, Some(0)], ty.outer, ty.dims);
        self.b.add(y, bias)
    }

    /// What was reduced over `axis` of `like`, repeated along it.
    fn along(&mut self, x: Value, axis: usize, like: Value) -> Value {
        let ty = self.b.ty(like);
        let from = (0..2).map(|j| (j != axis).then_some(0)).collect();
        self.b.arrange(x, from, ty.outer, ty.dims)
    }

    fn normalize(&mut self, x: Value) -> Value {
        let mean = self.b.reduce(ReduceOp::Mean, x, vec![1]);
        let mean = self.along(mean, 1, x);
        let d = self.b.sub(x, mean);
        let square = self.b.mul(d, d);
        let var = self.b.reduce(ReduceOp::Mean, square, vec![1]);
        let var = self.b.offset(var, 1e-3);
        let root = self.b.unary(UnaryOp::Sqrt, var);
        let root = self.along(root, 1, x);
        self.b.div(d, root)
    }

    fn softmax(&mut self, x: Value, axis: usize) -> Value {
        let e = self.b.unary(UnaryOp::Exp, x);
        let sum = self.b.reduce(ReduceOp::Sum, e, vec![axis]);
        let sum = self.along(sum, axis, x);
        self.b.div(e, sum)
    }

    /// Three heads of two channels.
    fn attention(&mut self, x: Value) -> Value {
        let dims = self.b.ty(x).dims;
        let heads = vec![dims[0].clone(), Dim::fixed(3, "heads"), Dim::fixed(2, "d")];
        let y = self.linear(x);
        let (q, v) = (self.b.reshape(y, heads.clone()), self.b.reshape(x, heads));
        let scores = self.b.einsum(q, v, "nhd", "mhd", "nhm");
        let e = self.b.unary(UnaryOp::Exp, scores);
        let sum = self.b.reduce(ReduceOp::Sum, e, vec![2]);
        let ty = self.b.ty(e);
        let sum = self.b.arrange(sum, vec![Some(0), Some(1), None], ty.outer, ty.dims);
        let p = self.b.div(e, sum);
        let y = self.b.einsum(p, v, "nhm", "mhe", "nhe");
        self.b.reshape(y, dims)
    }

    /// Rows of an index, if x still has all tokens.
    fn choose(&mut self, x: Value) -> Value {
        if self.b.ty(x).dims[0].extent != Extent::Static(8) {
            return self.b.unary(UnaryOp::Tanh, x);
        }
        let index = self.indices[self.numbers.below(2)];
        self.b.gather(x, index, 0, 0)
    }

    /// Context and target rows joined, something done to them, one part taken out again.
    fn join_and_cut(&mut self, x: Value) -> Value {
        let [context, target] = self.indices.map(|i| self.b.ty(i).dims[0].clone());
        let find = |m: &Self, dim: &Dim| m.pool.iter().rev().copied().find(|v| m.b.ty(*v).dims[0] == *dim);
        let (Some(a), Some(b)) = (find(self, &context), find(self, &target)) else {
            return self.b.unary(UnaryOp::Cos, x);
        };
        let mut both = self.b.concat(&[a, b], 0);
        for _ in 0..self.numbers.below(3) {
            let next = [Self::attention, Self::linear, Self::normalize][self.numbers.below(3)];
            let y = next(self, both);
            both = self.b.add(both, y);
        }
        match self.numbers.below(2) {
            0 => self.b.slice(both, 0, vec![], context),
            _ => self.b.slice(both, 0, vec![context.extent], target),
        }
    }

    /// There and back through permutations and reshapes.
    fn views(&mut self, x: Value) -> Value {
        let dims = self.b.ty(x).dims;
        let y = self.b.permute(x, &[1, 0]);
        let y = self.b.unary(UnaryOp::Abs, y);
        let y = self.b.permute(y, &[1, 0]);
        let y = self.b.reshape(y, vec![dims[0].clone(), Dim::fixed(2, ""), Dim::fixed(3, "")]);
        let y = self.b.permute(y, &[0, 2, 1]);
        self.b.reshape(y, dims)
    }

    /// Positions added to all tokens, or to the chosen ones.
    fn positions(&mut self, x: Value) -> Value {
        let ty: Type = self.b.ty(x);
        let index = self.indices.into_iter().find(|i| self.b.ty(*i).dims[0] == ty.dims[0]);
        let pos = match index {
            _ if ty.dims[0].extent == Extent::Static(8) => self.b.lift(self.pos, ty.outer),
            Some(index) => self.b.gather(self.pos, index, 0, 0),
            None => return self.b.op(Op::Gelu, &[x]),
        };
        self.b.add(x, pos)
    }
}
