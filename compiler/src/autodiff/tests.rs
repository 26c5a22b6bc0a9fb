//! Every gradient rule against central finite differences, in f64 on the interpreter.
//!
//! A case is a text-IR body over the slots, masks and counts of [`HEADER`]; its output `y` becomes the number
//! sum(sin(1.7 y)), so that every element has a slope of its own. Two clips and two masks give four segments with
//! different counts.

use super::*;
use crate::ir::eval::{Env, eval};
use crate::ir::graph::{SegmentData, Segments};
use crate::ir::op::{ReduceOp, UnaryOp};
use crate::ir::parse_text::{BINARY, REDUCE, UNARY, parse_module};
use crate::ir::print::{binary_name, op_text, print_module, reduce_name, unary_name};
use crate::ir::verify::verify;

/// Differences of f64 at steps of 1e-5 err by about 1e-10 of the slope.
const STEP: f64 = 1e-5;
/// Room for slopes that vary much inside a step.
const TOLERANCE: f64 = 1e-6;

const HEADER: &str = r#"network 0 "n"
slot s0 "a" [3, 4] trained
slot s1 "b" [3, 4] trained
slot s2 "tokens" [6, 4] trained
slot s3 "v" [4] trained
slot s4 "u" [4] trained
slot s5 "w" [5, 4] trained
slot s6 "o" [5] trained
slot s7 "clip" [2, 4, 4, 2] trained
slot s8 "extra" [2, 6, 3] trained
input i0 label 10
mask m0 "m.0" tokens 6 context [] target [2]
mask m1 "m.1" tokens 6 context [] target [2]
set set0 [0, 1]
count c0 context set0 bound 6
count c1 target set0 bound 6
count c2 sum c0 c1 bound 12
count c3 plus c0 2 bound 8
"#;

/// Common beginnings: the slots, an index, rows of tokens by segment, and a number that differs from clip to clip.
const START: &str = r#"%0: f32 one [3, 4] = read {s0}
%1: f32 one [3, 4] = read {s1}
%2: f32 one [6, 4] = read {s2}
%3: f32 one [4] = read {s3}
%4: f32 one [4] = read {s4}
%5: f32 one [5, 4] = read {s5}
%6: f32 one [5] = read {s6}
%7: f32 one [2, 4, 4, 2] = read {s7}
%8: f32 one [2, 6, 3] = read {s8}
%10: i32 segments0 [c0] = index {set0, context}
%11: i32 segments0 [2, c1] = index {set0, target}
%12: f32 segments0 [c0, 4] = gather {axis=0, shared=0} %2, %10
%13: i32 segments0 [1, c1] = slice {axis=0, start=[1]} %11
%14: i32 segments0 [c1] = reshape %13
%15: f32 segments0 [c1, 4] = gather {axis=0, shared=0} %2, %14
%16: i32 clips [] = input {i0}
%17: f32 clips [] = cast %16
%18: f32 clips [3, 4] = arrange {from=[_, _]} %17
%19: f32 clips [3, 4] = arrange {from=[0, 1]} %0
%20: f32 clips [3, 4] = mul %19, %18
"#;

/// Bodies, each ending in `%99`.
const CASES: &[&str] = &[
    "%30: bool one [3, 4] = lt %0, %1\n%99: f32 one [3, 4] = select %30, %0, %1",
    "%99: f64 one [3, 4] = cast %0",
    "%30: f32 segments0 [4, c0, 3] = arrange {from=[1, _, 0]} %0\n%99: f32 segments0 [4, c0, 3] = exp %30",
    "%30: f32 segments0 [4, 3, 2] = arrange {from=[1, 0, _]} %20\n%99: f32 segments0 [4, 3, 2] = mul %30, %30",
    "%30: f32 one [2, 6] = reshape %0\n%99: f32 one [2, 6] = mul %30, %30",
    "%30: f32 segments0 [c0, 2, 2] = reshape %12\n%99: f32 segments0 [c0, 2, 2] = mul %30, %30",
    "%30: f32 segments0 [c2, 4] = concat {axis=0} %12, %15\n%99: f32 segments0 [c1, 4] = slice {axis=0, start=[c0]} %30",
    "%30: f32 one [1, 4] = slice {axis=0, start=[1]} %0\n%31: f32 one [2, 4] = slice {axis=0, start=[1]} %0\n%99: f32 one [3, 4] = concat {axis=0} %30, %31",
    "%30: f32 segments0 [c2, 4] = pad {axis=0, before=[c1]} %12\n%99: f32 segments0 [c2, 4] = cos %30",
    "%30: f32 one [3, 9] = pad {axis=1, before=[2, 1]} %0\n%99: f32 one [3, 9] = cos %30",
    "%30: f32 one [3, 2] = slice {axis=1, start=[2]} %1\n%99: f32 one [3, 10] = concat {axis=1} %0, %30, %1",
    "%99: f32 segments0 [c0, 4] = gather {axis=0, shared=0} %2, %10",
    "%99: f32 segments0 [2, c1, 3] = gather {axis=1, shared=1} %8, %11",
    "%99: f32 segments0 [2, c0, 3] = gather {axis=1, shared=0} %8, %10",
    "%30: i32 segments0 [] = strategy {set0}\n%99: f32 segments0 [4] = gather {axis=0, shared=0} %20, %30",
    "%99: f32 one [6, 4] = scatter_add {axis=0, shared=0} %12, %10",
    "%99: f32 clips [6, 4] = scatter_add {axis=0, shared=0} %12, %10",
    "%30: f32 segments0 [2, c1, 3] = gather {axis=1, shared=1} %8, %11\n%99: f32 segments0 [2, 7, 3] = scatter_add {axis=1, shared=1} %30, %11",
    "%99: f32 clips [3, 4] = fold {sum} %30",
    "%99: f32 clips [3, 4] = fold {mean} %30",
    "%99: f32 one [3, 4] = fold {sum} %20",
    "%99: f32 one [3, 4] = fold {mean} %20",
    "%99: f32 one [3, 4] = fold {mean} %30",
    "%99: f32 segments0 [c0, 5] = einsum {ab,cb->ac} %12, %5",
    "%99: f32 one [4, 4] = einsum {ab,ac->bc} %12, %12",
    "%99: f32 clips [4, 4] = einsum {ab,ac->cb} %12, %12",
    "%99: f32 clips [4, 3] = einsum {ab,cb->ba} %20, %5",
    "%99: f32 one [4] = einsum {ab,cb->b} %20, %5",
    "%31: f32 clips [c=4] = reduce {sum, axes=[0]} %20\n%99: f32 one [4, 5] = einsum {a,ba->ab} %31, %5",
    "%99: f32 segments0 [4] = einsum {ab,c->b} %12, %10r",
    "%99: f32 segments0 [c0, c1] = einsum {ab,cb->ac} %12, %15",
    "%99: f32 segments0 [4, c1] = einsum {ab,cb->bc} %20, %15",
    "%99: f32 segments0 [c0, 5] = linear %12, %5, %6",
    "%99: f32 clips [3, 5] = linear %20, %5",
    "%99: f32 one [5] = linear %3, %5, %6",
    "%99: f32 segments0 [c0, 4] = layer_norm {eps=0.01} %12, %3, %4",
    "%99: f32 clips [3, 4] = layer_norm {eps=0.01} %20, %3, %4",
    "%99: f32 one [4] = layer_norm {eps=0.01} %3",
    "%99: f32 segments0 [c0, 4] = softmax %12",
    "%31: f32 segments0 [4, c0] = arrange {from=[1, 0]} %12\n%99: f32 segments0 [4, c0] = softmax %31",
    "%31: f32 segments0 [c0, 2, 2] = reshape %12\n%32: f32 segments0 [c1, 2, 2] = reshape %15\n%33: f32 segments0 [c1, 2, 2] = sin %32\n%34: f32 segments0 [c1, 2, 1] = slice {axis=2, start=[1]} %33\n%99: f32 segments0 [c0, 2, 1] = attention {scale=0.7} %31, %32, %34",
    "%31: f32 one [3, 2, 2] = reshape %0\n%99: f32 one [3, 2, 2] = attention {scale=0.7} %31, %31, %31",
    "%99: f32 segments0 [c0, 4] = gelu %12",
    "%31: f32 clips [2, 4, 4, 2] = arrange {from=[0, 1, 2, 3]} %7\n%99: f32 clips [8, 8] = patches {tube=1, dy=2, dx=2} %31",
    "%31: f32 clips [2, 4, 4, 2] = arrange {from=[0, 1, 2, 3]} %7\n%99: f32 segments0 [c0, 8] = patches {tube=1, dy=2, dx=2} %31, %10",
    "%99: f32 one [4, 16] = patches {tube=2, dy=2, dx=2} %7",
];

/// A body with what some cases share in front: `%30` is a static value a segment, `%10r` a vector.
fn text(body: &str) -> String {
    let mut text = format!("{HEADER}{START}");
    if body.contains("fold") && body.contains("%30") {
        text += "%29: f32 segments0 [3, 4] = arrange {from=[0, 1]} %20\n%28: i32 segments0 [] = strategy {set0}\n\
                 %27: f32 segments0 [] = cast %28\n%26: f32 segments0 [3, 4] = arrange {from=[_, _]} %27\n\
                 %25: f32 segments0 [3, 4] = add %29, %26\n%30: f32 segments0 [3, 4] = mul %25, %29\n";
    }
    if body.contains("%10r") {
        text += "%29: f32 segments0 [4, c1] = arrange {from=[1, 0]} %15\n%28: f32 segments0 [c1] = reduce {sum, axes=[0]} %29\n";
    }
    format!("{text}{}\noutput \"y\" = %99\n", body.replace("%10r", "%28"))
}

fn segments() -> Segments {
    let context = vec![vec![0, 2, 5], vec![1], vec![3, 4], vec![0, 1]];
    let target = vec![vec![1, 3, 0, 4], vec![0, 2, 3, 3, 4, 5], vec![5, 5], vec![2, 1]];
    let context_count = vec![3, 1, 2, 2];
    Segments { clips: 2, sets: vec![SegmentData { context, target, context_count, target_count: vec![2, 3, 1, 1] }] }
}

/// Slots hold numbers between 0.4 and 1.6, where all functions are smooth.
fn env(tables: &Tables) -> Env {
    let stream = |key: &str| crate::ir::philox::Stream::new(5, 1, None, key, 0);
    let content = |s: &crate::ir::graph::Slot| {
        (0..s.shape.iter().product::<usize>() as u32).map(|i| 0.4 + 1.2 * stream(&s.key).uniform(i)).collect()
    };
    let slots = tables.slots.iter().map(content).collect();
    Env { segments: segments(), inputs: vec![vec![1.5, -0.5]], slots, ..Env::default() }
}

/// Adds the loss of a case to its graph.
fn loss(tables: &Tables, graph: &mut Graph) -> Value {
    let y = graph.output("y").unwrap();
    let mut b = Builder::new(graph, tables);
    let y = b.scale(y, 1.7);
    let y = b.unary(UnaryOp::Sin, y);
    let axes = (0..b.ty(y).dims.len()).collect();
    let sum = b.reduce(ReduceOp::Sum, y, axes);
    b.fold(sum, Outer::One, false)
}

fn check(text: &str) {
    let (tables, mut graph) = parse_module(text).unwrap();
    verify(&tables, &graph).unwrap();
    let loss = loss(&tables, &mut graph);
    graph.outputs = vec![("loss".into(), loss)];
    let forward = graph.clone();
    let wrt: Vec<SlotId> = (0..tables.slots.len() as u32).map(SlotId).collect();
    let found = gradients(&tables, &mut graph, loss, &wrt).unwrap();
    for (s, g) in &found {
        graph.outputs.extend(g.map(|g| (format!("{}", s.0), g)));
    }
    verify(&tables, &graph).unwrap_or_else(|e| panic!("{e}\n{}", print_module(&tables, &graph)));
    let mut env = env(&tables);
    let results = eval(&tables, &graph, &mut env).unwrap();
    let mut at = |slot: usize, i: usize, by: f64| {
        let kept = env.slots[slot][i];
        env.slots[slot][i] = kept + by;
        let y = eval(&tables, &forward, &mut env).unwrap()[0].1.blocks[0][0];
        env.slots[slot][i] = kept;
        y
    };
    let mut reached = 0;
    for (s, slot) in tables.slots.iter().enumerate() {
        let gradient = results.iter().find(|(name, _)| *name == s.to_string()).map(|(_, g)| g.flat());
        for i in 0..slot.shape.iter().product() {
            let expected = (at(s, i, STEP) - at(s, i, -STEP)) / (2.0 * STEP);
            let found = gradient.as_ref().map_or(0.0, |g| g[i]);
            let error = (found - expected).abs() / expected.abs().max(1.0);
            assert!(error < TOLERANCE, "{}[{i}]: found {found}, expected {expected}\n{text}", slot.key);
            reached += usize::from(expected.abs() > TOLERANCE);
        }
    }
    assert!(reached > 0, "nothing depends on any slot\n{text}");
}

#[test]
fn rules_agree_with_finite_differences() {
    CASES.iter().for_each(|body| check(&text(body)));
}

#[test]
fn elementwise_rules_agree_with_finite_differences() {
    for op in UNARY.into_iter().filter(|u| rules::passes(&Op::Unary(*u))) {
        check(&text(&format!("%99: f32 clips [3, 4] = {} %19", unary_name(op))));
    }
    for op in BINARY.into_iter().filter(|b| rules::passes(&Op::Binary(*b))) {
        check(&text(&format!("%99: f32 one [3, 4] = {} %0, %1", binary_name(op))));
        check(&text(&format!("%30: f32 one [3, 4] = exp %0\n%99: f32 one [3, 4] = {} %30, %0", binary_name(op))));
    }
}

#[test]
fn reductions_agree_with_finite_differences() {
    for op in REDUCE.into_iter().filter(|op| rules::passes(&Op::Reduce { op: *op, axes: vec![] })) {
        let name = reduce_name(op);
        check(&text(&format!("%99: f32 segments0 [4] = reduce {{{name}, axes=[0]}} %12")));
        check(&text(&format!("%99: f32 segments0 [] = reduce {{{name}, axes=[0, 1]}} %12")));
        check(&text(&format!("%99: f32 one [6] = reduce {{{name}, axes=[0, 2]}} %8")));
        check(&text(&format!("%99: f32 clips [3] = reduce {{{name}, axes=[1]}} %20")));
    }
}

/// What the gradient tests do about an op.
#[derive(PartialEq, Debug)]
enum Kind {
    /// A case must contain it.
    Tested,
    /// It has no gradient: the walk ends there.
    Ends,
    /// It is the gradient of something, and has none itself.
    Backward,
}

/// The list of all ops, and a match that a new op breaks.
macro_rules! all_ops {
    ($($pattern:pat => $name:literal $kind:ident,)*) => {
        const ALL: &[(&str, Kind)] = &[$(($name, Kind::$kind)),*];
        fn kind(op: &Op) -> Kind { match op { $($pattern => Kind::$kind,)* } }
    };
}
all_ops! {
    Op::Read(_) => "read" Ends,
    Op::Input(_) => "input" Ends,
    Op::Scalar(_) => "scalar" Ends,
    Op::Constant(_) => "constant" Ends,
    Op::Iota => "iota" Ends,
    Op::Index { .. } => "index" Ends,
    Op::Strategy(_) => "strategy" Ends,
    Op::Size(_) => "size" Ends,
    Op::Draw { .. } => "draw" Ends,
    Op::Unary(_) => "exp" Tested,
    Op::Binary(_) => "mul" Tested,
    Op::Select => "select" Tested,
    Op::Cast => "cast" Tested,
    Op::Stop => "stop" Ends,
    Op::Arrange { .. } => "arrange" Tested,
    Op::Reshape => "reshape" Tested,
    Op::Slice { .. } => "slice" Tested,
    Op::Pad { .. } => "pad" Tested,
    Op::Concat { .. } => "concat" Tested,
    Op::Gather { .. } => "gather" Tested,
    Op::ScatterAdd { .. } => "scatter_add" Tested,
    Op::OneHot => "one_hot" Ends,
    Op::Reduce { .. } => "reduce" Tested,
    Op::Argmax { .. } => "argmax" Ends,
    Op::Fold { .. } => "fold" Tested,
    Op::Einsum { .. } => "einsum" Tested,
    Op::Accumulate(_) => "accumulate" Ends,
    Op::Store(_) => "store" Ends,
    Op::Adamw { .. } => "adamw" Ends,
    Op::Sgd { .. } => "sgd" Ends,
    Op::Ema(_) => "ema" Ends,
    Op::Linear => "linear" Tested,
    Op::LayerNorm { .. } => "layer_norm" Tested,
    Op::LayerNormGrad { .. } => "layer_norm_grad" Backward,
    Op::Softmax => "softmax" Tested,
    Op::SoftmaxGrad => "softmax_grad" Backward,
    Op::Attention { .. } => "attention" Tested,
    Op::AttentionGrad { .. } => "attention_grad" Backward,
    Op::Gelu => "gelu" Tested,
    Op::GeluGrad => "gelu_grad" Backward,
    Op::Patches { .. } => "patches" Tested,
}

#[test]
fn every_op_is_tested() {
    let mut seen = std::collections::BTreeSet::new();
    let bodies = CASES.iter().map(|c| text(c)).chain([text("%99: f32 segments0 [4] = reduce {max, axes=[0]} %12")]);
    for body in bodies {
        let (_, graph) = parse_module(&body).unwrap();
        for n in graph.nodes.node_weights() {
            // Some functions and reductions end the walk, others do not.
            assert!(kind(&n.op) != Kind::Ends || !rules::passes(&n.op), "{:?}", n.op);
            seen.insert(op_text(&n.op).0);
        }
    }
    for (name, kind) in ALL {
        assert!(*kind != Kind::Tested || seen.contains(name), "no case contains `{name}`");
    }
}

#[test]
fn second_derivatives_are_an_error() {
    for name in ["gelu_grad", "softmax_grad"] {
        let (tables, mut graph) = parse_module(&text(&format!("%99: f32 one [3, 4] = {name} %0, %1"))).unwrap();
        let loss = loss(&tables, &mut graph);
        let error = gradients(&tables, &mut graph, loss, &[SlotId(0)]).unwrap_err();
        assert!(error.contains("no second derivative"), "{error}");
    }
}

#[test]
fn stop_holds_its_input_fixed() {
    let (tables, mut graph) = parse_module(&text(
        "%30: f32 one [4] = stop %3\n%31: f32 one [4] = mul %3, %30\n%99: f32 one [] = reduce {sum, axes=[0]} %31",
    ))
    .unwrap();
    let loss = graph.output("y").unwrap();
    let found = gradients(&tables, &mut graph, loss, &[SlotId(3), SlotId(0)]).unwrap();
    assert_eq!(found[1], (SlotId(0), None));
    graph.outputs = vec![("g".into(), found[0].1.unwrap())];
    let mut env = env(&tables);
    let g = eval(&tables, &graph, &mut env).unwrap()[0].1.flat();
    assert_eq!(g, env.slots[3]);
}

/// The gradient of three thirds is one concatenation, without zeros.
#[test]
fn slices_that_tile_are_joined() {
    let body = "%30: f32 one [1, 4] = slice {axis=0, start=[]} %0\n%31: f32 one [1, 4] = slice {axis=0, start=[1]} %0\n\
                %32: f32 one [1, 4] = slice {axis=0, start=[1, 1]} %0\n%33: f32 one [1, 4] = mul %30, %31\n\
                %99: f32 one [1, 4] = mul %33, %32";
    check(&text(body));
    let (tables, mut graph) = parse_module(&text(body)).unwrap();
    let loss = loss(&tables, &mut graph);
    let g = gradients(&tables, &mut graph, loss, &[SlotId(0)]).unwrap()[0].1.unwrap();
    assert_eq!(*graph.op(g), Op::Concat { axis: 0 });
    let pads = graph.nodes.node_weights().filter(|n| matches!(n.op, Op::Pad { .. })).count();
    assert_eq!(pads, 0);
}

/// Equal elements share the gradient of a maximum, in pairs and in reductions.
#[test]
fn ties_share() {
    let two = "%30: f32 one [4] = max %3, %3\n%99: f32 one [] = reduce {sum, axes=[0]} %30";
    let many = "%30: f32 one [4] = stop %3\n%31: f32 one [4] = sub %3, %30\n\
                %99: f32 one [] = reduce {max, axes=[0]} %31";
    for (body, slot, expected) in [(two, 3, 1.0), (many, 3, 0.25)] {
        let (tables, mut graph) = parse_module(&text(body)).unwrap();
        let loss = graph.output("y").unwrap();
        let g = gradients(&tables, &mut graph, loss, &[SlotId(slot)]).unwrap()[0].1.unwrap();
        graph.outputs = vec![("g".into(), g)];
        let g = eval(&tables, &graph, &mut env(&tables)).unwrap()[0].1.flat();
        assert!(g.iter().all(|g| (g - expected).abs() < TOLERANCE), "{g:?}");
    }
}

/// A bf16 weight's gradient is f32: it is not rounded on its way to the slot.
#[test]
fn weights_of_a_bf16_run_have_f32_gradients() {
    let body = "%30: bf16 one [5, 4] = cast %5\n%31: bf16 clips [3, 4] = cast %20\n%32: bf16 clips [3, 5] = linear %31, %30\n\
                %99: f32 clips [3, 5] = cast %32";
    check(&text(body));
    let (tables, mut graph) = parse_module(&text(body)).unwrap();
    let loss = loss(&tables, &mut graph);
    let g = gradients(&tables, &mut graph, loss, &[SlotId(5)]).unwrap()[0].1.unwrap();
    assert!(matches!(graph.op(g), Op::Einsum { .. }) && graph.ty(g).dtype == DType::F32, "{:?}", graph.op(g));
}
