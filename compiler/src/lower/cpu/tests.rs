//! Every kernel against the interpreter, on segments of different counts and odd sizes, and for one and two threads.

use std::sync::Arc;

use super::CpuMachine;
use super::lanes::{CHOICE, Set};
use crate::ir::eval::{Env, eval};
use crate::ir::graph::*;
use crate::ir::infer::infer;
use crate::ir::op::{BinaryOp, DType, Op, ReduceOp, UnaryOp, Which};
use crate::lower::{LowerError, Machine, StepInputs};
use crate::program::{Entry, Program};

/// f32 against f64: some hundred terms of size 1, each rounded at 6e-8.
const F32: f64 = 2e-5;
/// bf16 keeps 8 bits: one rounding of a result that differs by a hair may go the other way.
const BF16: f64 = 1.0 / 128.0;

const CLIPS: usize = 3;
const TOKENS: usize = 13;

struct Lab {
    tables: Tables,
    graph: Graph,
    env: Env,
    state: u64,
}

/// The counts that the lab's only set has.
const N: Extent = Extent::Counted(CountId(0));
const M: Extent = Extent::Counted(CountId(1));
const NM: Extent = Extent::Counted(CountId(2));
const SET: Outer = Outer::Segments(SetId(0));

fn fixed(n: usize) -> Extent {
    Extent::Static(n)
}

impl Lab {
    fn new(seed: u64) -> Lab {
        Lab::sized(seed, TOKENS)
    }

    /// Two masks over `tokens` tokens, each clip with counts of its own.
    fn sized(seed: u64, tokens: usize) -> Lab {
        let mut lab = Lab { tables: Tables::default(), graph: Graph::default(), env: Env::default(), state: seed };
        for name in ["short", "long"] {
            let (target_extra, context_extra) = (vec![], vec![]);
            lab.tables.masks.push(MaskSpec { name: name.into(), tokens, target_extra, context_extra });
        }
        lab.tables.sets.push(SegmentSet { masks: vec![0, 1] });
        lab.tables.count(CountKind::Context(SetId(0)), tokens);
        lab.tables.count(CountKind::Target(SetId(0)), tokens);
        lab.tables.count(CountKind::Sum(CountId(0), CountId(1)), 2 * tokens);
        let mut data = SegmentData::default();
        for _ in 0..2 * CLIPS {
            let pick = |lab: &mut Lab| -> Vec<i32> {
                let n = 1 + lab.whole(tokens);
                let mut all: Vec<i32> = (0..tokens as i32).collect();
                for i in 0..n {
                    let j = i + lab.whole(tokens - i);
                    all.swap(i, j);
                }
                all.truncate(n);
                all.sort_unstable();
                all
            };
            let (context, target) = (pick(&mut lab), pick(&mut lab));
            data.context_count.push(context.len());
            data.target_count.push(target.len());
            data.context.push(context);
            data.target.push(target);
        }
        lab.env.segments = Segments { clips: CLIPS, sets: vec![data] };
        lab.env.round = true;
        lab
    }

    fn whole(&mut self, n: usize) -> usize {
        self.state = self.state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.state >> 33) as usize % n
    }

    fn random(&mut self, n: usize) -> Vec<f64> {
        (0..n).map(|_| f64::from(self.whole(2000) as f32 / 1000.0 - 1.0)).collect()
    }

    fn node(&mut self, op: Op, inputs: &[Value], ty: Type) -> Value {
        self.graph.add(op, inputs, vec![ty], None, &Arc::from("test"))
    }

    /// A node whose types follow from its inputs.
    fn op(&mut self, op: Op, inputs: &[Value]) -> Value {
        self.hinted(op, inputs, None)
    }

    /// A node whose type is partly its own choice.
    fn to(&mut self, op: Op, inputs: &[Value], outer: Outer, extents: &[Extent]) -> Value {
        self.hinted(op, inputs, Some(ty(DType::F32, outer, extents)))
    }

    fn hinted(&mut self, op: Op, inputs: &[Value], hint: Option<Type>) -> Value {
        let types: Vec<Type> = inputs.iter().map(|v| self.graph.ty(*v).clone()).collect();
        let types: Vec<&Type> = types.iter().collect();
        let results = infer(&self.tables, &op, &types, hint.as_ref()).unwrap_or_else(|e| panic!("{op:?}: {e}"));
        self.graph.add(op, inputs, results, None, &Arc::from("test"))
    }

    fn slot(&mut self, shape: &[usize]) -> SlotId {
        let key = format!("slot.{}", self.tables.slots.len());
        self.tables.slots.push(Slot { key, shape: shape.to_vec(), kind: SlotKind::Frozen });
        let content = self.random(shape.iter().product());
        self.env.slots.push(content);
        SlotId(self.tables.slots.len() as u32 - 1)
    }

    fn weight(&mut self, shape: &[usize]) -> Value {
        let slot = self.slot(shape);
        let extents: Vec<Extent> = shape.iter().map(|n| fixed(*n)).collect();
        self.node(Op::Read(slot), &[], ty(DType::F32, Outer::One, &extents))
    }

    fn clip(&mut self, shape: &[usize]) -> Value {
        let id = InputId(self.env.inputs.len() as u32);
        let content = self.random(CLIPS * shape.iter().product::<usize>());
        self.env.inputs.push(content);
        self.tables.inputs.push(InputSpec::Label { classes: 0 });
        let extents: Vec<Extent> = shape.iter().map(|n| fixed(*n)).collect();
        self.node(Op::Input(id), &[], ty(DType::F32, Outer::Clips, &extents))
    }

    fn index(&mut self, which: Which) -> Value {
        let n = if which == Which::Context { N } else { M };
        self.node(Op::Index { set: SetId(0), which }, &[], ty(DType::I32, SET, &[n]))
    }

    /// Random rows of the segments: [n, dims...].
    fn rows(&mut self, which: Which, dims: &[usize]) -> Value {
        let tokens = self.tables.masks[0].tokens;
        let x = self.clip(&[&[tokens], dims].concat());
        let index = self.index(which);
        self.op(Op::Gather { axis: 0, shared: 0 }, &[x, index])
    }

    fn constant(&mut self, value: f64) -> Value {
        self.node(Op::Constant(value), &[], Type::scalar(DType::F32))
    }

    fn show(&mut self, value: Value) {
        let name = format!("{} {:?}", self.graph.outputs.len(), self.graph.op(value));
        self.graph.outputs.push((name, value));
    }

    fn shown(&mut self, op: Op, inputs: &[Value]) -> Value {
        let value = self.op(op, inputs);
        self.show(value);
        value
    }

    /// All results and slots, bits equal for one and two threads and for a second run, values near the interpreter's.
    fn check(mut self, tolerance: f64) {
        let mut program = Program { tables: self.tables.clone(), ..Program::default() };
        program.entries[Entry::Grads as usize] = self.graph.clone();
        let program = Arc::new(program);
        let mut runs = vec![];
        for threads in [1, 2] {
            let mut machine = CpuMachine::new(program.clone(), threads, None).unwrap();
            let inputs: Vec<Vec<f32>> = self.env.inputs.iter().map(|x| narrow(x)).collect();
            for _ in 0..2 {
                for (i, content) in self.env.slots.iter().enumerate() {
                    machine.slot_mut(SlotId(i as u32)).copy_from_slice(&narrow(content));
                }
                let step = StepInputs { segments: &self.env.segments, inputs: &inputs, scalars: &self.env.scalars };
                let outputs = machine.run(Entry::Grads, &step).unwrap();
                let spilled = machine.memory.spilled().load(std::sync::atomic::Ordering::Relaxed);
                assert_eq!(spilled, 0, "a kernel takes more bytes on the side than `room` foretells");
                let slots: Vec<Vec<f32>> =
                    (0..self.env.slots.len()).map(|i| machine.slot(SlotId(i as u32)).to_vec()).collect();
                runs.push((outputs.into_iter().map(|o| (o.name, o.data)).collect::<Vec<_>>(), slots));
            }
        }
        for run in &runs[1..] {
            assert!(same_bits(&runs[0], run), "bits differ between runs or numbers of threads");
        }
        let expected = eval(&self.tables, &self.graph, &mut self.env).unwrap();
        let (outputs, slots) = &runs[0];
        for ((name, want), (_, have)) in expected.iter().zip(outputs) {
            near(name, &want.flat(), have, tolerance);
        }
        for (i, (want, have)) in self.env.slots.iter().zip(slots).enumerate() {
            near(&format!("slot {i}"), want, have, tolerance);
        }
    }
}

type Run = (Vec<(String, Vec<f32>)>, Vec<Vec<f32>>);

fn same_bits(a: &Run, b: &Run) -> bool {
    let bits = |x: &[f32]| x.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    a.0.iter().zip(&b.0).all(|(a, b)| bits(&a.1) == bits(&b.1)) && a.1.iter().zip(&b.1).all(|(a, b)| bits(a) == bits(b))
}

fn near(name: &str, want: &[f64], have: &[f32], tolerance: f64) {
    assert_eq!(want.len(), have.len(), "{name}");
    let size = want.iter().fold(1.0f64, |a, b| a.max(b.abs()));
    for (i, (want, have)) in want.iter().zip(have).enumerate() {
        let off = (want - f64::from(*have)).abs();
        assert!(off <= tolerance * size || (want.is_nan() && have.is_nan()), "{name} [{i}]: {have}, expected {want}");
    }
}

fn narrow(x: &[f64]) -> Vec<f32> {
    x.iter().map(|v| *v as f32).collect()
}

fn ty(dtype: DType, outer: Outer, extents: &[Extent]) -> Type {
    Type::new(dtype, outer, extents.iter().map(|e| Dim::new(*e, "d")).collect())
}

#[test]
fn elementwise() {
    let mut lab = Lab::new(1);
    let x = lab.rows(Which::Context, &[5]);
    let w = lab.weight(&[5]);
    let row = lab.to(Op::Arrange { from: vec![None, Some(0)] }, &[w], SET, &[N, fixed(5)]);
    let two = lab.constant(2.5);
    let two = lab.to(Op::Arrange { from: vec![None, None] }, &[two], SET, &[N, fixed(5)]);
    use BinaryOp::*;
    use UnaryOp::*;
    for op in [Neg, Exp, Abs, Sin, Cos, Tanh, Erf, Floor, Ceil, Round, Sign] {
        lab.shown(Op::Unary(op), &[x]);
    }
    let positive = lab.op(Op::Binary(Add), &[x, two]);
    lab.shown(Op::Unary(Log), &[positive]);
    lab.shown(Op::Unary(Sqrt), &[positive]);
    for op in [Add, Sub, Mul, Div, Rem, Min, Max, Lt, Le, Gt, Ge, Eq, Ne] {
        lab.shown(Op::Binary(op), &[x, two]);
        lab.shown(Op::Binary(op), &[row, positive]);
    }
    lab.shown(Op::Binary(Pow), &[positive, x]);
    let (a, b) = (lab.op(Op::Binary(Lt), &[x, row]), lab.op(Op::Binary(Gt), &[x, row]));
    lab.shown(Op::Binary(Or), &[a, b]);
    lab.shown(Op::Binary(And), &[a, b]);
    lab.shown(Op::Unary(Not), &[a]);
    lab.shown(Op::Select, &[a, x, row]);
    lab.shown(Op::Stop, &[x]);
    lab.hinted(Op::Cast, &[positive], Some(ty(DType::I32, SET, &[N, fixed(5)])));
    lab.check(F32);
}

#[test]
fn whole_numbers_divide_downwards() {
    let mut lab = Lab::new(16);
    let index = lab.index(Which::Target);
    let three = lab.node(Op::Constant(-3.0), &[], Type::scalar(DType::I32));
    let by = lab.hinted(Op::Arrange { from: vec![None] }, &[three], Some(ty(DType::I32, SET, &[M])));
    lab.shown(Op::Binary(BinaryOp::Div), &[index, by]);
    lab.shown(Op::Binary(BinaryOp::Rem), &[index, by]);
    let seven = lab.node(Op::Constant(7.0), &[], Type::scalar(DType::I32));
    lab.shown(Op::Binary(BinaryOp::Div), &[seven, three]);
    lab.check(0.0);
}

#[test]
fn what_memory_cannot_hold_is_the_users_to_mend() {
    let mut lab = Lab::new(17);
    let key = "too.large".into();
    lab.tables.slots.push(Slot { key, shape: vec![1 << 22, 1 << 22], kind: SlotKind::Frozen });
    let program = Program { tables: lab.tables, ..Program::default() };
    let Err(LowerError::User(text)) = CpuMachine::new(Arc::new(program), 1, None) else { panic!("64 TiB were found") };
    assert!(text.contains("not enough memory: weights and optimiser state need 65536.00 GiB"), "{text}");
}

#[test]
fn an_index_beyond_its_rows_is_an_error() {
    let mut lab = Lab::new(18);
    let (x, index) = (lab.weight(&[2, 3]), lab.index(Which::Target));
    lab.shown(Op::Gather { axis: 0, shared: 0 }, &[x, index]);
    lab.env.segments.sets[0].target[0][0] = 5;
    let mut program = Program { tables: lab.tables.clone(), ..Program::default() };
    program.entries[Entry::Grads as usize] = lab.graph.clone();
    let mut machine = CpuMachine::new(Arc::new(program), 1, None).unwrap();
    let step = StepInputs { segments: &lab.env.segments, inputs: &[], scalars: &[] };
    let text = "expected an index below 2, found 5; labels count from 0".to_string();
    assert_eq!(machine.run(Entry::Grads, &step).map(|_| ()), Err(LowerError::User(text)));
}

#[test]
fn a_clip_without_tokens_is_an_error() {
    let mut lab = Lab::new(19);
    let x = lab.rows(Which::Target, &[3]);
    lab.shown(Op::Gelu, &[x]);
    let mut program = Program { tables: lab.tables.clone(), ..Program::default() };
    program.entries[Entry::Grads as usize] = lab.graph.clone();
    let mut machine = CpuMachine::new(Arc::new(program), 1, None).unwrap();
    let inputs: Vec<Vec<f32>> = lab.env.inputs.iter().map(|x| narrow(x)).collect();
    let empty = &mut lab.env.segments.sets[0];
    (empty.target[CLIPS + 1], empty.target_count[CLIPS + 1]) = (vec![], 0);
    let step = StepInputs { segments: &lab.env.segments, inputs: &inputs, scalars: &[] };
    let text = "mask `long` leaves clip 1 of the batch no tokens".to_string();
    assert_eq!(machine.run(Entry::Grads, &step).map(|_| ()), Err(LowerError::User(text)));
}

#[test]
fn elementwise_work_of_many_tasks() {
    let mut lab = Lab::sized(2, 2000);
    let (x, y) = (lab.clip(&[2000, 23]), lab.rows(Which::Context, &[23]));
    let two = lab.constant(2.5);
    let flat = lab.to(Op::Arrange { from: vec![None, None] }, &[two], Outer::Clips, &[fixed(2000), fixed(23)]);
    lab.shown(Op::Binary(BinaryOp::Mul), &[x, flat]);
    lab.shown(Op::Unary(UnaryOp::Exp), &[y]);
    let turned = lab.to(Op::Arrange { from: vec![Some(1), Some(0)] }, &[y], SET, &[fixed(23), N]);
    lab.shown(Op::Binary(BinaryOp::Add), &[turned, turned]);
    lab.check(F32);
}

/// Kernels whose result lies over an input that ends there, each input in turn and all at once; 2,000 tokens are several
/// tasks.
#[test]
fn results_over_their_inputs() {
    let eps = 1e-5;
    for tokens in [9, 2000] {
        let mut lab = Lab::sized(30, tokens);
        let x = lab.rows(Which::Context, &[23]);
        let (w, b) = (lab.weight(&[23]), lab.weight(&[23]));
        let half = lab.constant(0.5);
        let half = lab.to(Op::Arrange { from: vec![None, None] }, &[half], SET, &[N, fixed(23)]);
        let row = lab.to(Op::Arrange { from: vec![None, Some(0)] }, &[w], SET, &[N, fixed(23)]);
        // Inputs named `fresh` are read by one step alone.
        let fresh = |lab: &mut Lab| lab.op(Op::Binary(BinaryOp::Mul), &[x, half]);
        let over = |lab: &mut Lab, op: Op, inputs: &[Option<Value>], twice: bool| {
            let first = fresh(lab);
            let new = |lab: &mut Lab| if twice { first } else { fresh(lab) };
            let inputs: Vec<Value> = inputs.iter().map(|v| v.unwrap_or_else(|| new(lab))).collect();
            let y = lab.op(op, &inputs);
            lab.show(y);
        };
        for op in [Op::Unary(UnaryOp::Neg), Op::Unary(UnaryOp::Exp), Op::Gelu, Op::Softmax, Op::LayerNorm { eps }] {
            over(&mut lab, op, &[None], false);
        }
        over(&mut lab, Op::LayerNorm { eps }, &[None, Some(w), Some(b)], false);
        over(&mut lab, Op::LayerNormGrad { eps }, &[None, Some(x), Some(w)], false);
        over(&mut lab, Op::LayerNormGrad { eps }, &[Some(x), None, Some(w)], false);
        for op in [Op::Binary(BinaryOp::Sub), Op::GeluGrad, Op::SoftmaxGrad, Op::LayerNormGrad { eps }] {
            over(&mut lab, op.clone(), &[None, Some(x)], false);
            over(&mut lab, op.clone(), &[Some(x), None], false);
            over(&mut lab, op.clone(), &[None, None], false);
            over(&mut lab, op, &[None, None], true);
        }
        for other in [half, row] {
            over(&mut lab, Op::Binary(BinaryOp::Sub), &[None, Some(other)], false);
            over(&mut lab, Op::Binary(BinaryOp::Sub), &[Some(other), None], false);
        }
        let flags = lab.op(Op::Binary(BinaryOp::Lt), &[x, row]);
        over(&mut lab, Op::Select, &[Some(flags), None, Some(row)], false);
        over(&mut lab, Op::Select, &[Some(flags), Some(x), None], false);
        lab.check(if tokens > 100 { 4.0 * F32 } else { F32 });
    }
}

#[test]
fn numbers_are_computed_in_f64() {
    let mut lab = Lab::new(3);
    let (a, b) = (lab.constant(0.999), lab.constant(1.0));
    let (a, b) = (
        lab.hinted(Op::Cast, &[a], Some(Type::scalar(DType::F64))),
        lab.hinted(Op::Cast, &[b], Some(Type::scalar(DType::F64))),
    );
    lab.shown(Op::Binary(BinaryOp::Sub), &[b, a]);
    let big = lab.constant(1e6);
    let big = lab.hinted(Op::Cast, &[big], Some(Type::scalar(DType::F64)));
    let small = lab.op(Op::Binary(BinaryOp::Sub), &[b, a]);
    lab.shown(Op::Binary(BinaryOp::Mul), &[small, big]);
    lab.env.round = false;
    lab.check(1e-7);
}

#[test]
fn views_and_joins() {
    let mut lab = Lab::new(4);
    let x = lab.rows(Which::Context, &[3, 2, 4]);
    let y = lab.rows(Which::Target, &[3, 2, 4]);
    let axes = [fixed(4), N, fixed(2), fixed(3)];
    let turned = lab.to(Op::Arrange { from: vec![Some(3), Some(0), Some(2), Some(1)] }, &[x], SET, &axes);
    lab.show(turned);
    let part = lab.to(Op::Slice { axis: 1, start: vec![fixed(1)] }, &[x], SET, &[N, fixed(1), fixed(2), fixed(4)]);
    lab.show(part);
    let flat = lab.to(Op::Reshape, &[part], SET, &[N, fixed(8)]);
    lab.show(flat);
    lab.shown(Op::Gelu, &[flat]);
    let axes = [N, fixed(2), fixed(3), fixed(4)];
    let turned = lab.to(Op::Arrange { from: vec![Some(0), Some(2), Some(1), Some(3)] }, &[x], SET, &axes);
    let merged = lab.to(Op::Reshape, &[turned], SET, &[N, fixed(24)]);
    lab.show(merged);
    lab.shown(Op::Gelu, &[merged]);
    let both = lab.shown(Op::Concat { axis: 0 }, &[x, y]);
    let back = lab.to(Op::Slice { axis: 0, start: vec![N] }, &[both], SET, &[M, fixed(3), fixed(2), fixed(4)]);
    lab.show(back);
    lab.shown(Op::Gelu, &[back]);
    let padded = lab.to(Op::Pad { axis: 0, before: vec![N] }, &[y], SET, &[NM, fixed(3), fixed(2), fixed(4)]);
    lab.show(padded);
    let padded = lab.to(Op::Pad { axis: 2, before: vec![fixed(1)] }, &[y], SET, &[M, fixed(3), fixed(5), fixed(4)]);
    lab.show(padded);
    lab.shown(Op::Concat { axis: 2 }, &[turned, turned]);
    let clip = lab.clip(&[4, 3]);
    let lifted = lab.to(Op::Arrange { from: vec![Some(1), None, Some(0)] }, &[clip], SET, &[fixed(3), N, fixed(4)]);
    lab.show(lifted);
    let w = lab.weight(&[6, 5]);
    let cut = lab.to(Op::Slice { axis: 0, start: vec![fixed(2)] }, &[w], Outer::One, &[fixed(3), fixed(5)]);
    lab.show(cut);
    lab.shown(Op::Gelu, &[cut]);
    lab.check(F32);
}

#[test]
fn leaves_and_rows() {
    let mut lab = Lab::new(5);
    let index = lab.index(Which::Target);
    lab.show(index);
    let iota = lab.node(Op::Iota, &[], ty(DType::I32, SET, &[N]));
    lab.show(iota);
    let strategy = lab.node(Op::Strategy(SetId(0)), &[], ty(DType::I32, SET, &[]));
    lab.show(strategy);
    let size = lab.node(Op::Size(vec![N, fixed(3)]), &[], ty(DType::F32, SET, &[]));
    lab.show(size);
    let size = lab.node(Op::Size(vec![fixed(3), fixed(7)]), &[], Type::scalar(DType::F32));
    lab.show(size);
    let table = lab.weight(&[TOKENS, 3]);
    let rows = lab.shown(Op::Gather { axis: 0, shared: 0 }, &[table, index]);
    let wide = lab.weight(&[4, TOKENS, 3]);
    let picked = lab.shown(Op::Gather { axis: 1, shared: 0 }, &[wide, index]);
    let spread = lab.to(Op::ScatterAdd { axis: 0, shared: 0 }, &[rows, index], Outer::One, &[fixed(TOKENS), fixed(3)]);
    lab.show(spread);
    let axes = [fixed(4), fixed(TOKENS), fixed(3)];
    let spread = lab.to(Op::ScatterAdd { axis: 1, shared: 0 }, &[picked, index], Outer::Clips, &axes);
    lab.show(spread);
    // Each of 4 rows picks from its own 3: shared leading dims.
    let x = lab.clip(&[4, 3, 5]);
    let flags = lab.op(Op::Argmax { axis: 1 }, &[x]);
    lab.show(flags);
    let own = lab.shown(Op::Gather { axis: 1, shared: 1 }, &[x, flags]);
    let spread =
        lab.to(Op::ScatterAdd { axis: 1, shared: 1 }, &[own, flags], Outer::Clips, &[fixed(4), fixed(3), fixed(5)]);
    lab.show(spread);
    let hot = lab.hinted(Op::OneHot, &[index], Some(ty(DType::F32, SET, &[M, fixed(TOKENS)])));
    lab.show(hot);
    lab.check(F32);
}

#[test]
fn patches_of_a_clip() {
    // 4 x 6 x 8 pixels in tubelets of 2 x 2 x 2: 24 tokens, of which masks choose.
    let mut lab = Lab::sized(6, 24);
    let clip = lab.clip(&[4, 6, 8, 3]);
    let index = lab.index(Which::Context);
    let op = Op::Patches { tube: 2, dy: 2, dx: 2 };
    lab.shown(op.clone(), &[clip]);
    lab.shown(op, &[clip, index]);
    lab.check(0.0);
}

#[test]
fn reductions() {
    let mut lab = Lab::new(7);
    let x = lab.rows(Which::Context, &[3, 70]);
    let y = lab.clip(&[300, 70]);
    use ReduceOp::*;
    for op in [Sum, Mean, Max, Min] {
        for axes in [vec![0], vec![1], vec![2], vec![0, 2], vec![1, 2], vec![0, 1], vec![0, 1, 2]] {
            lab.shown(Op::Reduce { op, axes }, &[x]);
        }
        lab.shown(Op::Reduce { op, axes: vec![0] }, &[y]);
    }
    let zero = lab.constant(0.0);
    let zero = lab.to(Op::Arrange { from: vec![None, None, None] }, &[zero], SET, &[N, fixed(3), fixed(70)]);
    let flags = lab.op(Op::Binary(BinaryOp::Gt), &[x, zero]);
    for op in [Any, All, Count] {
        lab.shown(Op::Reduce { op, axes: vec![0, 1] }, &[flags]);
    }
    let means = lab.op(Op::Reduce { op: Mean, axes: vec![0, 1, 2] }, &[x]);
    for mean in [true, false] {
        let clips = lab.to(Op::Fold { mean }, &[means], Outer::Clips, &[]);
        lab.show(clips);
        let one = lab.to(Op::Fold { mean }, &[clips], Outer::One, &[]);
        lab.show(one);
        let columns = lab.op(Op::Reduce { op: Sum, axes: vec![0] }, &[x]);
        let one = lab.to(Op::Fold { mean }, &[columns], Outer::One, &[fixed(3), fixed(70)]);
        lab.show(one);
    }
    lab.shown(Op::Argmax { axis: 1 }, &[x]);
    lab.shown(Op::Argmax { axis: 0 }, &[x]);
    let w = lab.weight(&[200, 131]);
    lab.shown(Op::Reduce { op: Sum, axes: vec![0, 1] }, &[w]);
    lab.check(F32);
}

#[test]
fn linear_and_its_gradients() {
    // 1,000 tokens: rows of several tiles and sums that are cut.
    for (tokens, i, o) in [(11, 3, 5), (1000, 37, 65)] {
        let mut lab = Lab::sized(8, tokens);
        let x = lab.rows(Which::Context, &[i]);
        let g = lab.rows(Which::Context, &[o]);
        let (w, b) = (lab.weight(&[o, i]), lab.weight(&[o]));
        lab.shown(Op::Linear, &[x, w]);
        lab.shown(Op::Linear, &[x, w, b]);
        lab.shown(Op::Linear, &[w, w]);
        let einsum = |a: &[u8], b: &[u8], out: &[u8]| Op::Einsum { a: a.into(), b: b.into(), out: out.into() };
        let dx = lab.to(einsum(b"no", b"oi", b"ni"), &[g, w], SET, &[N, fixed(i)]);
        lab.show(dx);
        let dw = lab.to(einsum(b"no", b"ni", b"oi"), &[g, x], Outer::One, &[fixed(o), fixed(i)]);
        lab.show(dw);
        let dw = lab.to(einsum(b"no", b"ni", b"io"), &[g, x], Outer::One, &[fixed(i), fixed(o)]);
        lab.show(dw);
        let by_clip = lab.to(einsum(b"no", b"ni", b"io"), &[g, x], Outer::Clips, &[fixed(i), fixed(o)]);
        lab.show(by_clip);
        lab.check(if tokens > 100 { 4.0 * F32 } else { F32 });
    }
}

#[test]
fn einsums_of_any_labels() {
    let mut lab = Lab::new(9);
    let q = lab.rows(Which::Context, &[3, 4]);
    let k = lab.rows(Which::Target, &[3, 4]);
    let einsum = |a: &str, b: &str, out: &str| Op::Einsum {
        a: a.as_bytes().into(),
        b: b.as_bytes().into(),
        out: out.as_bytes().into(),
    };
    let (h, d) = (fixed(3), fixed(4));
    let s = lab.to(einsum("nhd", "mhd", "hnm"), &[q, k], SET, &[h, N, M]);
    lab.show(s);
    for (op, inputs, dims) in [
        (einsum("nhd", "mhd", "nhm"), [q, k], vec![N, h, M]),
        (einsum("hnm", "mhd", "nhd"), [s, k], vec![N, h, d]),
        (einsum("hnm", "nhd", "mhd"), [s, q], vec![M, h, d]),
        (einsum("nhd", "mhd", "n"), [q, k], vec![N]),
        (einsum("nhd", "mhd", "dm"), [q, k], vec![d, M]),
        (einsum("nhd", "mae", "ha"), [q, k], vec![h, h]),
        (einsum("nhd", "nhd", "nhd"), [q, q], vec![N, h, d]),
        (einsum("nhd", "nhd", "hn"), [q, q], vec![h, N]),
    ] {
        let y = lab.to(op, &inputs, SET, &dims);
        lab.show(y);
    }
    for outer in [Outer::Clips, Outer::One] {
        let y = lab.to(einsum("nhd", "mhe", "de"), &[q, k], outer, &[d, d]);
        lab.show(y);
        let y = lab.to(einsum("nhd", "mhe", "hde"), &[q, k], outer, &[h, d, d]);
        lab.show(y);
    }
    let w = lab.weight(&[5, 3, 4]);
    let y = lab.to(einsum("nhd", "ohd", "no"), &[q, w], SET, &[N, fixed(5)]);
    lab.show(y);
    let y = lab.to(einsum("nhd", "ohd", "on"), &[q, w], SET, &[fixed(5), N]);
    lab.show(y);
    let c = lab.clip(&[4, 6]);
    let y = lab.to(einsum("nhd", "de", "hne"), &[q, c], SET, &[h, N, fixed(6)]);
    lab.show(y);
    lab.check(F32);
}

#[test]
fn attention_and_its_gradient() {
    for (tokens, heads, d) in [(13, 2, 5), (300, 1, 8)] {
        let mut lab = Lab::sized(10, tokens);
        let packed = lab.rows(Which::Context, &[3, heads, d]);
        let part = |lab: &mut Lab, i: usize| {
            let dims = [N, fixed(1), fixed(heads), fixed(d)];
            let part = lab.to(Op::Slice { axis: 1, start: vec![fixed(i)] }, &[packed], SET, &dims);
            lab.to(Op::Reshape, &[part], SET, &[N, fixed(heads), fixed(d)])
        };
        let (q, k, v) = (part(&mut lab, 0), part(&mut lab, 1), part(&mut lab, 2));
        let scale = 1.3;
        let out = lab.shown(Op::Attention { scale }, &[q, k, v]);
        let g = lab.rows(Which::Context, &[heads, d]);
        let grad = lab.op(Op::AttentionGrad { scale }, &[q, k, v, out, g]);
        // Context looks at target, with values of another width.
        let (far, wide) = (lab.rows(Which::Target, &[heads, d]), lab.rows(Which::Target, &[heads, d + 2]));
        let out = lab.shown(Op::Attention { scale }, &[q, far, wide]);
        let g = lab.rows(Which::Context, &[heads, d + 2]);
        let cross = lab.op(Op::AttentionGrad { scale }, &[q, far, wide, out, g]);
        for port in 0..3 {
            lab.show(Value { node: grad.node, port });
            lab.show(Value { node: cross.node, port });
        }
        lab.check(F32);
    }
}

#[test]
fn norms_and_activations() {
    for d in [1, 7, 96] {
        let mut lab = Lab::sized(11, 300);
        let (x, g) = (lab.rows(Which::Context, &[d]), lab.rows(Which::Context, &[d]));
        let (w, b) = (lab.weight(&[d]), lab.weight(&[d]));
        let eps = 1e-2;
        lab.shown(Op::LayerNorm { eps }, &[x]);
        lab.shown(Op::LayerNorm { eps }, &[x, w, b]);
        lab.shown(Op::LayerNormGrad { eps }, &[x, g]);
        let grad = lab.op(Op::LayerNormGrad { eps }, &[x, g, w]);
        (0..3).for_each(|port| lab.show(Value { node: grad.node, port }));
        let y = lab.shown(Op::Softmax, &[x]);
        lab.shown(Op::SoftmaxGrad, &[y, g]);
        lab.shown(Op::Gelu, &[x]);
        lab.shown(Op::GeluGrad, &[x, g]);
        lab.check(F32);
    }
}

#[test]
fn softmax_over_counted_rows() {
    let mut lab = Lab::new(12);
    let (q, k) = (lab.rows(Which::Context, &[4]), lab.rows(Which::Target, &[4]));
    let einsum = Op::Einsum { a: b"nd".into(), b: b"md".into(), out: b"nm".into() };
    let s = lab.to(einsum, &[q, k], SET, &[N, M]);
    let y = lab.shown(Op::Softmax, &[s]);
    lab.shown(Op::SoftmaxGrad, &[y, s]);
    lab.check(F32);
}

#[test]
fn updates_of_slots() {
    let mut lab = Lab::new(13);
    let number = |lab: &mut Lab, v: f64| lab.constant(v);
    for velocity in [true, false] {
        let (g, slot) = (lab.weight(&[40, 7]), lab.slot(&[40, 7]));
        let velocity = velocity.then(|| lab.slot(&[40, 7]));
        let rest = [0.5, 1e-2, 0.1, 0.9].map(|v| number(&mut lab, v));
        lab.shown(Op::Sgd { weight: slot, velocity }, &[&[g], rest.as_slice()].concat());
    }
    let g = lab.weight(&[40, 7]);
    let (weight, first, second) = (lab.slot(&[40, 7]), lab.slot(&[40, 7]), lab.slot(&[40, 7]));
    lab.env.slots[second.0 as usize].iter_mut().for_each(|v| *v = v.abs());
    let rest = [0.5, 1e-3, 0.1, 3.0, 0.9, 0.999, 1e-8].map(|v| number(&mut lab, v));
    let w = lab.op(Op::Adamw { weight, first, second }, &[&[g], rest.as_slice()].concat());
    let average = lab.slot(&[40, 7]);
    let m = number(&mut lab, 0.998);
    lab.shown(Op::Ema(average), &[w, m]);
    let (sum, store) = (lab.slot(&[40, 7]), lab.slot(&[40, 7]));
    let before = lab.node(Op::Read(store), &[], ty(DType::F32, Outer::One, &[fixed(40), fixed(7)]));
    lab.shown(Op::Accumulate(sum), &[g]);
    lab.shown(Op::Accumulate(sum), &[w]);
    lab.shown(Op::Store(store), &[g]);
    // Reads see what was there when the run began.
    lab.shown(Op::Unary(UnaryOp::Neg), &[before]);
    lab.check(F32);
}

#[test]
fn bf16_is_rounded_after_every_op() {
    let mut lab = Lab::new(14);
    let x = lab.rows(Which::Context, &[6]);
    let narrow = lab.hinted(Op::Cast, &[x], Some(ty(DType::Bf16, SET, &[N, fixed(6)])));
    lab.show(narrow);
    let y = lab.shown(Op::Binary(BinaryOp::Mul), &[narrow, narrow]);
    let w = lab.weight(&[5, 6]);
    let w = lab.hinted(Op::Cast, &[w], Some(ty(DType::Bf16, Outer::One, &[fixed(5), fixed(6)])));
    lab.shown(Op::Linear, &[y, w]);
    let wide = lab.hinted(Op::Cast, &[y], Some(ty(DType::F32, SET, &[N, fixed(6)])));
    lab.shown(Op::Gelu, &[wide]);
    lab.check(BF16);
}

#[test]
fn other_counts_need_no_new_machine() {
    let mut lab = Lab::sized(15, 50);
    let x = lab.rows(Which::Context, &[8]);
    let w = lab.weight(&[8, 8]);
    let y = lab.op(Op::Linear, &[x, w]);
    lab.shown(Op::Gelu, &[y]);
    let mut program = Program { tables: lab.tables.clone(), ..Program::default() };
    program.entries[Entry::Grads as usize] = lab.graph.clone();
    let mut machine = CpuMachine::new(Arc::new(program), 2, None).unwrap();
    machine.slot_mut(SlotId(0)).copy_from_slice(&narrow(&lab.env.slots[0]));
    for seed in 0..4 {
        let other = Lab::sized(100 + seed, 50);
        lab.env.segments = other.env.segments.clone();
        let inputs: Vec<Vec<f32>> = lab.env.inputs.iter().map(|x| narrow(x)).collect();
        let step = StepInputs { segments: &lab.env.segments, inputs: &inputs, scalars: &[] };
        let have = machine.run(Entry::Grads, &step).unwrap();
        let want = eval(&lab.tables, &lab.graph, &mut lab.env).unwrap();
        near("gelu", &want[0].1.flat(), &have[0].data, F32);
    }
}

/// The other tests of this file, in a process of their own, with every set that is not the best.
#[test]
fn every_kernel_with_every_instruction_set() {
    if std::env::var_os(CHOICE).is_some() {
        return; // this is such a process
    }
    let best = Set::best();
    for set in Set::available().into_iter().filter(|set| *set != best) {
        let tests = std::process::Command::new(std::env::current_exe().expect("this program's path"))
            .args(["lower::cpu::", "--test-threads=2"])
            .env(CHOICE, format!("{set:?}"))
            .output()
            .expect("this program started again");
        assert!(tests.status.success(), "{set:?}:\n{}", String::from_utf8_lossy(&tests.stdout));
    }
}
