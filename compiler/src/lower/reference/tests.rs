//! Every op against the interpreter, on small random blocks with segments of different counts.

use std::sync::Arc;

use super::ReferenceMachine;
use crate::ir::build::Builder;
use crate::ir::eval::{Env, eval};
use crate::ir::graph::{
    Count, CountId, CountKind, Dim, Extent, Graph, InputId, InputSpec, MaskSpec, Outer, Pace, ScalarId, ScalarSpec,
    SegmentData, SegmentSet, Segments, SetId, Slot, SlotId, SlotKind, Tables, Type, Value, VideoSpec,
};
use crate::ir::op::{BinaryOp, DType, Op, ReduceOp, UnaryOp, Which};
use crate::lower::{LowerError, Machine, StepInputs};
use crate::program::{Entry, Program};

/// f32 against f64 over a few dozen operations; the approximation of erf (4e-7) is inside. Relative to the largest
/// element of a result, or 1.
const F32: f64 = 3e-6;

const CLIPS: usize = 3;
const TOKENS: usize = 12;
/// Context tokens of each segment; what is left are targets, but for one.
const CONTEXT: [usize; 6] = [2, 5, 1, 7, 3, 3];

const SET: SetId = SetId(0);
const CONTEXT_COUNT: CountId = CountId(0);
const TARGET_COUNT: CountId = CountId(1);
const SUM_COUNT: CountId = CountId(2);

/// Numbers in -2..2 that f32 holds exactly, the same in every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 40) as f32) / (1u64 << 22) as f32 - 2.0
    }

    fn many(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.next()).collect()
    }
}

struct Test {
    tables: Tables,
    graph: Graph,
    /// Results are rounded to their element types.
    round: bool,
    /// Outputs wanted so far.
    outputs: Vec<(String, Value)>,
    positive: Vec<SlotId>,
}

impl Test {
    fn new() -> Test {
        let mask = MaskSpec { name: "mask".into(), tokens: TOKENS, target_extra: vec![], context_extra: vec![] };
        let count = |kind| Count { kind, bound: TOKENS };
        let video = VideoSpec {
            name: "clip".into(),
            frames: 4,
            pace: Pace::Every(1),
            size: 6,
            crop: None,
            aspect: None,
            flip: false,
        };
        let scalar = |name: &str| ScalarSpec { name: name.into(), schedule: None, previous: false };
        let tables = Tables {
            masks: vec![mask.clone(), mask],
            sets: vec![SegmentSet { masks: vec![0, 1] }],
            counts: vec![
                count(CountKind::Context(SET)),
                count(CountKind::Target(SET)),
                count(CountKind::Sum(CONTEXT_COUNT, TARGET_COUNT)),
            ],
            inputs: vec![InputSpec::Video(video), InputSpec::Label { classes: 5 }],
            scalars: vec![scalar("rate"), scalar("step")],
            ..Tables::default()
        };
        Test { tables, graph: Graph::default(), round: false, outputs: vec![], positive: vec![] }
    }

    fn slot(&mut self, shape: &[usize]) -> SlotId {
        self.tables.slots.push(Slot {
            key: format!("slot{}", self.tables.slots.len()),
            shape: shape.to_vec(),
            kind: SlotKind::Buffer,
        });
        SlotId(self.tables.slots.len() as u32 - 1)
    }

    fn build<T>(&mut self, f: impl FnOnce(&mut Builder) -> T) -> T {
        f(&mut Builder::new(&mut self.graph, &self.tables))
    }

    /// A random weight.
    fn one(&mut self, shape: &[usize]) -> Value {
        let slot = self.slot(shape);
        self.build(|b| b.read(slot))
    }

    /// A random weight without negative elements.
    fn positive(&mut self, shape: &[usize]) -> Value {
        let slot = self.slot(shape);
        self.positive.push(slot);
        self.build(|b| b.read(slot))
    }

    /// A random value of segments: [context or target, rest..].
    fn rows(&mut self, which: Which, rest: &[usize]) -> Value {
        let mut shape = vec![TOKENS];
        shape.extend(rest);
        let x = self.one(&shape);
        self.build(|b| {
            let index = b.op(Op::Index { set: SET, which }, &[]);
            b.gather(x, index, 0, 0)
        })
    }

    fn out(&mut self, name: &str, v: Value) {
        self.outputs.push((name.into(), v));
    }

    /// All ports of a value's node.
    fn out_all(&mut self, name: &str, v: Value) {
        for port in 0..self.graph.nodes[v.node].types.len() {
            self.out(&format!("{name}.{port}"), Value { node: v.node, port: port as u8 });
        }
    }

    fn segments() -> Segments {
        let mut data = SegmentData::default();
        for (s, n) in CONTEXT.iter().enumerate() {
            // Every third token from somewhere, the context first; one token is in neither.
            let order: Vec<i32> = (0..TOKENS).map(|i| ((i * 5 + s * 7) % TOKENS) as i32).collect();
            let sorted = |part: &[i32]| {
                let mut part = part.to_vec();
                part.sort_unstable();
                part
            };
            data.context.push(sorted(&order[..*n]));
            data.target.push(sorted(&order[*n..TOKENS - 1]));
            data.context_count.push(*n);
            data.target_count.push(TOKENS - 1 - n);
        }
        Segments { clips: CLIPS, sets: vec![data] }
    }

    /// Runs both and compares outputs and slots.
    fn check(mut self) {
        self.graph.outputs = std::mem::take(&mut self.outputs);
        let mut numbers = Numbers(7);
        let mut slots: Vec<Vec<f32>> =
            self.tables.slots.iter().map(|s| numbers.many(s.shape.iter().product())).collect();
        for s in &self.positive {
            slots[s.0 as usize].iter_mut().for_each(|x| *x = x.abs() + 0.125);
        }
        let inputs = vec![numbers.many(CLIPS * 4 * 6 * 6 * 3), (0..CLIPS).map(|c| ((c * 3) % 5) as f32).collect()];
        let scalars = [0.3125, 7.0];
        let segments = Test::segments();
        let wide = |v: &[Vec<f32>]| v.iter().map(|v| v.iter().map(|x| f64::from(*x)).collect()).collect();
        let mut env = Env {
            segments: segments.clone(),
            inputs: wide(&inputs),
            scalars: scalars.to_vec(),
            slots: wide(&slots),
            round: self.round,
            ..Env::default()
        };
        let expected = eval(&self.tables, &self.graph, &mut env).unwrap();

        let mut program = Program { tables: self.tables, ..Program::default() };
        program.entries[Entry::Grads as usize] = self.graph;
        let mut machine = ReferenceMachine::new(Arc::new(program)).unwrap();
        for (i, s) in slots.iter().enumerate() {
            machine.slot_mut(SlotId(i as u32)).copy_from_slice(s);
        }
        let step = StepInputs { segments: &segments, inputs: &inputs, scalars: &scalars };
        // Twice: nothing of a run may linger. Slots are set back in between.
        machine.run(Entry::Grads, &step).unwrap();
        for (i, s) in slots.iter().enumerate() {
            machine.slot_mut(SlotId(i as u32)).copy_from_slice(s);
        }
        let found = machine.run(Entry::Grads, &step).unwrap();
        assert_eq!(found.len(), expected.len());
        for (output, (name, tensor)) in found.iter().zip(&expected) {
            assert_eq!(output.name, *name);
            near(name, &output.data, &tensor.flat(), F32);
        }
        for (i, s) in env.slots.iter().enumerate() {
            near(&format!("slot {i}"), machine.slot(SlotId(i as u32)), s, F32);
        }
    }
}

fn near(name: &str, found: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{name}");
    let size = expected.iter().filter(|x| x.is_finite()).fold(1.0f64, |m, x| m.max(x.abs()));
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        let f = f64::from(*f);
        assert!(
            f == *e || (f.is_nan() && e.is_nan()) || (f - e).abs() <= tolerance * size,
            "{name}[{i}]: found {f}, expected {e}"
        );
    }
}

fn dim(n: usize) -> Dim {
    Dim::fixed(n, "")
}

fn counted(c: CountId) -> Dim {
    Dim::new(Extent::Counted(c), "")
}

#[test]
fn leaves() {
    let mut t = Test::new();
    let values = t.build(|b| {
        let iota = Type::new(DType::I32, Outer::One, vec![dim(5)]);
        let ragged = Type::new(DType::I32, Outer::Segments(SET), vec![counted(SUM_COUNT)]);
        vec![
            b.input(InputId(0)),
            b.input(InputId(1)),
            b.scalar(ScalarId(0), DType::F64),
            b.number(2.5, DType::F32),
            b.op_as(Op::Iota, &[], &iota),
            b.op_as(Op::Iota, &[], &ragged),
            b.op(Op::Index { set: SET, which: Which::Context }, &[]),
            b.op(Op::Index { set: SET, which: Which::Target }, &[]),
            b.op(Op::Strategy(SET), &[]),
            b.op(Op::Size(vec![Extent::Static(3), Extent::Counted(TARGET_COUNT)]), &[]),
        ]
    });
    for (i, v) in values.into_iter().enumerate() {
        t.out(&format!("leaf {i}"), v);
    }
    t.check();
}

#[test]
fn unary_functions() {
    let mut t = Test::new();
    let x = t.rows(Which::Context, &[3]);
    let y = t.positive(&[4, 3]);
    let mut list = vec![];
    t.build(|b| {
        for op in [
            UnaryOp::Neg,
            UnaryOp::Exp,
            UnaryOp::Abs,
            UnaryOp::Sin,
            UnaryOp::Cos,
            UnaryOp::Tanh,
            UnaryOp::Erf,
            UnaryOp::Floor,
            UnaryOp::Ceil,
            UnaryOp::Round,
            UnaryOp::Sign,
        ] {
            list.push((format!("{op:?}"), b.unary(op, x)));
        }
        for op in [UnaryOp::Log, UnaryOp::Sqrt] {
            list.push((format!("{op:?}"), b.unary(op, y)));
        }
        // Ties and signs.
        let whole = b.unary(UnaryOp::Floor, x);
        let half = b.offset(whole, 0.5);
        list.push(("tie".into(), b.unary(UnaryOp::Round, half)));
        let zero = b.constant(0.0, &b.ty(x));
        list.push(("sign of zero".into(), b.unary(UnaryOp::Sign, zero)));
        let less = b.binary(BinaryOp::Lt, x, zero);
        list.push(("not".into(), b.unary(UnaryOp::Not, less)));
    });
    list.into_iter().for_each(|(name, v)| t.out(&name, v));
    t.check();
}

#[test]
fn binary_functions() {
    let mut t = Test::new();
    let (x, y, w) = (t.one(&[4, 5]), t.one(&[4, 5]), t.positive(&[4, 5]));
    let mut list = vec![];
    t.build(|b| {
        for op in [
            BinaryOp::Add,
            BinaryOp::Sub,
            BinaryOp::Mul,
            BinaryOp::Min,
            BinaryOp::Max,
            BinaryOp::Eq,
            BinaryOp::Ne,
            BinaryOp::Lt,
            BinaryOp::Le,
            BinaryOp::Gt,
            BinaryOp::Ge,
        ] {
            list.push((format!("{op:?}"), b.binary(op, x, y)));
            list.push((format!("{op:?} of itself"), b.binary(op, x, x)));
        }
        for op in [BinaryOp::Div, BinaryOp::Rem] {
            list.push((format!("{op:?}"), b.binary(op, x, w)));
        }
        list.push(("pow".into(), b.binary(BinaryOp::Pow, w, x)));
        // Negative bases need whole exponents.
        let whole = b.unary(UnaryOp::Floor, y);
        list.push(("whole pow".into(), b.binary(BinaryOp::Pow, x, whole)));
        for e in [2.0, 3.0, 0.5, -1.0, 1.5, 0.0] {
            let e = b.constant(e, &b.ty(w));
            list.push(("constant pow".into(), b.binary(BinaryOp::Pow, w, e)));
        }
        let (p, q) = (b.binary(BinaryOp::Lt, x, y), b.binary(BinaryOp::Lt, x, w));
        list.push(("and".into(), b.binary(BinaryOp::And, p, q)));
        list.push(("or".into(), b.binary(BinaryOp::Or, p, q)));
        // Whole numbers divide downwards.
        let (i, j) = (b.scale(x, 7.0), b.scale(w, 3.0));
        let j = b.offset(j, 1.0);
        let (i, j) = (b.cast(i, DType::I32), b.cast(j, DType::I32));
        list.push(("whole quotient".into(), b.binary(BinaryOp::Div, i, j)));
        list.push(("whole rest".into(), b.binary(BinaryOp::Rem, i, j)));
        let inf = b.constant(f64::INFINITY, &b.ty(x));
        let neg = b.neg(inf);
        list.push(("select".into(), b.select(p, x, y)));
        list.push(("select infinity".into(), b.select(p, inf, y)));
        list.push(("select less than all".into(), b.select(p, x, neg)));
        list.push(("max with infinity".into(), b.binary(BinaryOp::Max, x, neg)));
        let flag = b.cast(x, DType::Bool);
        list.push(("to bool".into(), flag));
        list.push(("stop".into(), b.stop(x)));
    });
    list.into_iter().for_each(|(name, v)| t.out(&name, v));
    t.check();
}

#[test]
fn bf16_results_are_rounded() {
    let mut t = Test::new();
    let x = t.one(&[40]);
    let y = t.build(|b| b.cast(x, DType::Bf16));
    let z = t.build(|b| b.binary(BinaryOp::Mul, y, y));
    t.out("cast", y);
    t.out("product", z);
    t.round = true;
    let bits = |x: f32| x.to_bits() & 0xffff;
    let (graph, tables) = (t.graph.clone(), t.tables.clone());
    let (outputs, machine) = (t.outputs.clone(), Program { tables, ..Program::default() });
    t.check();
    let mut program = machine;
    program.entries[Entry::Grads as usize] = Graph { outputs, ..graph };
    let mut machine = ReferenceMachine::new(Arc::new(program)).unwrap();
    machine.slot_mut(SlotId(0)).copy_from_slice(&Numbers(3).many(40));
    let segments = Test::segments();
    let step = StepInputs { segments: &segments, inputs: &[], scalars: &[] };
    for output in machine.run(Entry::Grads, &step).unwrap() {
        assert!(output.data.iter().all(|x| bits(*x) == 0), "{}: more than 8 bits", output.name);
    }
}

#[test]
fn views_and_joins() {
    let mut t = Test::new();
    let x = t.one(&[2, 3, 4]);
    let rows = t.rows(Which::Context, &[2, 3]);
    let more = t.rows(Which::Target, &[2, 3]);
    let clip = t.build(|b| b.input(InputId(0)));
    let mut list = vec![];
    t.build(|b| {
        let repeat = |b: &mut Builder, x, from: &[Option<usize>], outer, dims: &[usize]| {
            b.arrange(x, from.to_vec(), outer, dims.iter().map(|n| dim(*n)).collect())
        };
        let spread = repeat(b, x, &[Some(2), None, Some(0), Some(1)], Outer::Segments(SET), &[4, 2, 2, 3]);
        list.push(("spread", spread));
        list.push(("spread twice", b.mul(spread, spread)));
        let other = repeat(b, x, &[None, Some(0), Some(1), None, Some(2)], Outer::One, &[2, 2, 3, 1, 4]);
        list.push(("reshape", b.reshape(other, vec![dim(8), dim(6)])));
        let turned = b.permute(rows, &[2, 0, 1]);
        list.push(("permute", turned));
        list.push(("slice", b.slice(turned, 2, vec![Extent::Static(1)], dim(1))));
        list.push(("slice in front", b.slice(x, 1, vec![], dim(2))));
        let joined = b.concat(&[rows, more], 0);
        list.push(("concat", joined));
        list.push(("concat three", b.concat(&[x, x, x], 1)));
        let start = vec![Extent::Counted(CONTEXT_COUNT)];
        list.push(("ragged slice", b.slice(joined, 0, start.clone(), counted(TARGET_COUNT))));
        list.push(("ragged pad", b.pad(more, 0, start, counted(SUM_COUNT))));
        list.push(("pad behind", b.pad(rows, 0, vec![], counted(SUM_COUNT))));
        list.push(("pad", b.pad(x, 2, vec![Extent::Static(2)], dim(7))));
        // Seven dims, turned and repeated.
        let cut = b.reshape(clip, [2, 2, 2, 3, 3, 2, 3].map(dim).to_vec());
        let cut = b.permute(cut, &[0, 2, 4, 6, 1, 3, 5]);
        list.push(("seven dims", cut));
        let twice = b.permute(cut, &[6, 5, 4, 3, 2, 1, 0]);
        list.push(("seven dims again", b.unary(UnaryOp::Neg, twice)));
        let from = [Some(6), None, Some(5), Some(4), Some(3), None, Some(2), Some(1), Some(0)];
        let wide = repeat(b, cut, &from, Outer::Clips, &[2, 2, 3, 2, 3, 2, 3, 2, 2]);
        let wide = b.reshape(wide, vec![dim(2 * 2 * 3 * 2 * 3 * 2 * 3 * 2 * 2)]);
        list.push(("nine dims", wide));
    });
    list.into_iter().for_each(|(name, v)| t.out(name, v));
    t.check();
}

#[test]
fn gather_and_scatter() {
    let mut t = Test::new();
    let x = t.one(&[3, TOKENS, 2]);
    let target = t.rows(Which::Target, &[2]);
    let g = t.rows(Which::Context, &[3, 2]);
    let pick = t.one(&[4, 5, 2]);
    let many = t.one(&[20, 6]);
    let mut list = vec![];
    t.build(|b| {
        let context = b.op(Op::Index { set: SET, which: Which::Context }, &[]);
        list.push(("rows in the middle", b.gather(x, context, 1, 0)));
        let g = b.permute(g, &[1, 0, 2]);
        let ty = b.ty(x);
        list.push(("scatter into one", b.scatter_add(g, context, 1, 0, &ty)));
        let clips = Type { outer: Outer::Clips, ..ty };
        list.push(("scatter into clips", b.scatter_add(g, context, 1, 0, &clips)));
        let segments = Type::new(DType::F32, Outer::Segments(SET), vec![dim(TOKENS), dim(2)]);
        let index = b.op(Op::Index { set: SET, which: Which::Target }, &[]);
        list.push(("scatter into segments", b.scatter_add(target, index, 0, 0, &segments)));
        let label = b.input(InputId(1));
        list.push(("a number as index", b.gather(many, label, 1, 0)));
        list.push(("one hot", b.op_as(Op::OneHot, &[label], &Type::new(DType::F32, Outer::Clips, vec![dim(5)]))));
        // Shared dims: few, and more than are worth products of their own.
        let best = b.op(Op::Argmax { axis: 1 }, &[pick]);
        let best = b.slice(best, 1, vec![], dim(1));
        list.push(("shared", b.gather(pick, best, 1, 1)));
        let top = b.op(Op::Argmax { axis: 1 }, &[many]);
        list.push(("argmax", top));
        let found = b.gather(many, top, 1, 1);
        list.push(("shared without rest", found));
        let ty = b.ty(many);
        list.push(("scatter shared", b.scatter_add(found, top, 1, 1, &ty)));
    });
    list.into_iter().for_each(|(name, v)| t.out(name, v));
    t.check();
}

#[test]
fn reductions() {
    let mut t = Test::new();
    let x = t.rows(Which::Target, &[2, 3]);
    let mut list = vec![];
    t.build(|b| {
        for op in [ReduceOp::Sum, ReduceOp::Mean, ReduceOp::Max, ReduceOp::Min] {
            for axes in [vec![0], vec![1], vec![0, 2], vec![1, 2], vec![0, 1, 2]] {
                list.push((format!("{op:?} {axes:?}"), b.reduce(op, x, axes)));
            }
        }
        let zero = b.constant(0.0, &b.ty(x));
        let flags = b.binary(BinaryOp::Lt, x, zero);
        for op in [ReduceOp::Any, ReduceOp::All, ReduceOp::Count] {
            list.push((format!("{op:?}"), b.reduce(op, flags, vec![0, 1])));
        }
        let sum = b.reduce(ReduceOp::Sum, x, vec![0]);
        let clips = b.fold(sum, Outer::Clips, false);
        list.push(("fold".into(), clips));
        list.push(("fold to one".into(), b.fold(clips, Outer::One, true)));
        list.push(("mean of all".into(), b.fold(sum, Outer::One, true)));
        list.push(("argmax".into(), b.op(Op::Argmax { axis: 0 }, &[x])));
    });
    list.into_iter().for_each(|(name, v)| t.out(&name, v));
    t.check();
}

#[test]
fn contractions() {
    let mut t = Test::new();
    let (x, g) = (t.rows(Which::Context, &[2, 6]), t.rows(Which::Context, &[2, 4]));
    let (y, w, bias) = (t.rows(Which::Target, &[2, 6]), t.one(&[4, 6]), t.one(&[4]));
    let mut list = vec![];
    t.build(|b| {
        list.push(("linear", b.linear(x, w, Some(bias))));
        list.push(("linear without bias", b.linear(x, w, None)));
        list.push(("dot", b.einsum(x, w, "nhi", "oi", "nho")));
        list.push(("scores", b.einsum(x, y, "nhd", "mhd", "hnm")));
        list.push(("no sum", b.einsum(x, bias, "nhd", "o", "onhd")));
        list.push(("both sums", b.einsum(x, w, "nhd", "oi", "hn")));
        list.push(("elementwise", b.einsum(x, x, "nhd", "nhd", "dnh")));
        let labels = [b"nho".to_vec(), b"nhi".to_vec(), b"oi".to_vec()];
        list.push(("weight gradient", b.einsum_to(g, x, labels.clone(), Outer::One, DType::F32)));
        list.push(("of a clip", b.einsum_to(g, x, labels, Outer::Clips, DType::F32)));
    });
    list.into_iter().for_each(|(name, v)| t.out(name, v));
    t.check();
}

#[test]
fn large_products_of_a_batch() {
    let mut t = Test::new();
    let (x, y) = (t.one(&[3, 9, 11]), t.one(&[3, 8, 11]));
    let z = t.build(|b| b.einsum(x, y, "bmk", "bnk", "nbm"));
    t.out("product", z);
    t.check();
}

#[test]
fn idioms() {
    let mut t = Test::new();
    let (x, g) = (t.rows(Which::Context, &[8]), t.rows(Which::Context, &[8]));
    let (w, bias) = (t.one(&[8]), t.one(&[8]));
    let (q, k) = (t.rows(Which::Context, &[2, 4]), t.rows(Which::Target, &[2, 4]));
    let (v, dout) = (t.rows(Which::Target, &[2, 3]), t.rows(Which::Context, &[2, 3]));
    let (eps, scale) = (1e-6, 0.5);
    let mut list = vec![];
    t.build(|b| {
        list.push(("layer norm", b.op(Op::LayerNorm { eps }, &[x, w, bias])));
        list.push(("plain layer norm", b.op(Op::LayerNorm { eps }, &[x])));
        list.push(("layer norm gradient", b.op(Op::LayerNormGrad { eps }, &[x, g, w])));
        list.push(("plain layer norm gradient", b.op(Op::LayerNormGrad { eps }, &[x, g])));
        let y = b.op(Op::Softmax, &[x]);
        list.push(("softmax", y));
        list.push(("softmax gradient", b.op(Op::SoftmaxGrad, &[y, g])));
        let out = b.op(Op::Attention { scale }, &[q, k, v]);
        list.push(("attention", out));
        list.push(("attention gradient", b.op(Op::AttentionGrad { scale }, &[q, k, v, out, dout])));
        list.push(("gelu", b.op(Op::Gelu, &[x])));
        list.push(("gelu gradient", b.op(Op::GeluGrad, &[x, g])));
        let clip = b.input(InputId(0));
        let patches = Op::Patches { tube: 2, dy: 3, dx: 2 };
        list.push(("patches", b.op(patches.clone(), &[clip])));
        let index = b.op(Op::Index { set: SET, which: Which::Target }, &[]);
        list.push(("patches of tokens", b.op(patches, &[clip, index])));
    });
    list.into_iter().for_each(|(name, v)| t.out_all(name, v));
    t.check();
}

#[test]
fn updates() {
    let mut t = Test::new();
    let [w, m, v, plain, velocity, sum, stored, average] = [0; 8].map(|_| t.slot(&[3, 4]));
    t.positive.push(v);
    let (g, x) = (t.one(&[3, 4]), t.one(&[3, 4]));
    let list = t.build(|b| {
        let [clip, decay, b1, b2, eps] = [0.5, 0.1, 0.9, 0.999, 1e-8].map(|x| b.number(x, DType::F64));
        let (lr, step) = (b.scalar(ScalarId(0), DType::F64), b.scalar(ScalarId(1), DType::F64));
        let new = b.op(Op::Adamw { weight: w, first: m, second: v }, &[g, clip, lr, decay, step, b1, b2, eps]);
        let accumulated = b.op(Op::Accumulate(sum), &[g]);
        vec![
            ("adamw", new),
            ("sgd", b.op(Op::Sgd { weight: plain, velocity: Some(velocity) }, &[g, clip, lr, decay, b1])),
            ("accumulate", accumulated),
            ("accumulate again", b.op(Op::Accumulate(sum), &[x])),
            ("store", b.op(Op::Store(stored), &[x])),
            ("ema", b.op(Op::Ema(average), &[new, b2])),
            ("old weight", b.read(w)),
        ]
    });
    list.into_iter().for_each(|(name, v)| t.out(name, v));
    t.check();
}

#[test]
fn a_segment_without_tokens_is_the_users_to_mend() {
    let mut t = Test::new();
    let x = t.rows(Which::Context, &[2]);
    t.graph.outputs = vec![("x".into(), x)];
    let mut program = Program { tables: t.tables, ..Program::default() };
    program.entries[Entry::Grads as usize] = t.graph;
    let mut machine = ReferenceMachine::new(Arc::new(program)).unwrap();
    let mut segments = Test::segments();
    segments.sets[0].context[2].clear();
    segments.sets[0].context_count[2] = 0;
    let step = StepInputs { segments: &segments, inputs: &[], scalars: &[] };
    let error = machine.run(Entry::Grads, &step).unwrap_err();
    assert!(matches!(&error, LowerError::User(m) if m.contains("without tokens")), "{error:?}");
}
