//! The IR as stable text, one node a line; `parse_text` reads it back.
//!
//! ```text
//! slot s0 "encoder.fc.weight" [8, 4] trained 0 decay
//! count c0 context set0 bound 64
//! %0: f32 one [8, 4] = read {s0}
//! %7: f32 segments0 [context=c0, dim=8] = linear %3, %0, %1   # encoder.fc
//! output "loss" = %12
//! ```
//!
//! Types stand before the `=`, one for each port, joined by `|`; port 1 of `%7` is `%7.1`. Attributes stand in braces.
//! What follows `#` is the node's place. Spans are not printed. Nodes are numbered in [`Graph::order`], labels of
//! contractions are renamed in order of appearance, and numbers are the shortest decimals that read back exactly.

use std::collections::BTreeMap;
use std::fmt::Write;

use petgraph::stable_graph::NodeIndex;

use super::graph::{CountKind, Extent, Graph, InputSpec, Outer, SlotKind, Tables, Type, Value, VideoSpec};
use super::op::{BinaryOp, Dist, Op, ReduceOp, UnaryOp, Which};

/// Tables and graph.
pub fn print_module(tables: &Tables, graph: &Graph) -> String {
    print_tables(tables) + &print(graph)
}

/// Nodes and outputs of a graph.
pub fn print(graph: &Graph) -> String {
    let order = graph.order();
    let numbers: BTreeMap<NodeIndex, usize> = order.iter().enumerate().map(|(i, n)| (*n, i)).collect();
    let mut text = String::new();
    for n in order {
        text += &node_line(graph, n, &|m| numbers[&m]);
        text.push('\n');
    }
    for (name, v) in &graph.outputs {
        let _ = writeln!(text, "output {} = {}", quoted(name), value(*v, &|m| numbers[&m]));
    }
    text
}

/// One node, numbered by its place in the graph's memory: for messages.
pub fn show_node(graph: &Graph, node: NodeIndex) -> String {
    node_line(graph, node, &|n| n.index())
}

fn node_line(graph: &Graph, node: NodeIndex, number: &dyn Fn(NodeIndex) -> usize) -> String {
    let n = &graph.nodes[node];
    let types: Vec<String> = n.types.iter().map(show_type).collect();
    let (name, attributes) = op_text(&n.op);
    let mut line = format!("%{}: {} = {name}", number(node), types.join(" | "));
    if !attributes.is_empty() {
        let _ = write!(line, " {{{}}}", attributes.join(", "));
    }
    let inputs: Vec<String> = graph.inputs(node).into_iter().map(|v| value(v, number)).collect();
    if !inputs.is_empty() {
        let _ = write!(line, " {}", inputs.join(", "));
    }
    if !n.place.is_empty() {
        let _ = write!(line, "   # {}", n.place.replace('\n', " "));
    }
    line
}

fn value(v: Value, number: &dyn Fn(NodeIndex) -> usize) -> String {
    if v.port == 0 { format!("%{}", number(v.node)) } else { format!("%{}.{}", number(v.node), v.port) }
}

/// `f32 segments0 [context=c0, dim=48]`.
pub fn show_type(t: &Type) -> String {
    let dims: Vec<String> = t
        .dims
        .iter()
        .map(|d| match &*d.name {
            "" => show_extent(d.extent),
            name => {
                let plain = |c: char| if c.is_alphanumeric() || "_.-'".contains(c) { c } else { '_' };
                format!("{}={}", name.chars().map(plain).collect::<String>(), show_extent(d.extent))
            }
        })
        .collect();
    format!("{} {} [{}]", t.dtype.name(), show_outer(t.outer), dims.join(", "))
}

/// `one`, `clips`, `segments0`.
pub fn show_outer(outer: Outer) -> String {
    match outer {
        Outer::One => "one".into(),
        Outer::Clips => "clips".into(),
        Outer::Segments(s) => format!("segments{}", s.0),
    }
}

/// A number, or `c` and the number of a count.
pub fn show_extent(extent: Extent) -> String {
    match extent {
        Extent::Static(n) => n.to_string(),
        Extent::Counted(c) => format!("c{}", c.0),
    }
}

/// Tables as header lines.
pub fn print_tables(tables: &Tables) -> String {
    let mut text = String::new();
    let mut line = |s: String| {
        text += &s;
        text.push('\n');
    };
    for (i, n) in tables.networks.iter().enumerate() {
        line(format!("network {i} {}", quoted(n)));
    }
    for (i, s) in tables.scalars.iter().enumerate() {
        let schedule = s.schedule.map_or(String::new(), |n| format!(" schedule {n}"));
        let previous = if s.previous { " previous" } else { "" };
        line(format!("scalar n{i} {}{schedule}{previous}", quoted(&s.name)));
    }
    for (i, s) in tables.slots.iter().enumerate() {
        let kind = match &s.kind {
            SlotKind::Trained { network, decay } => {
                format!("trained {network}{}", if *decay { " decay" } else { "" })
            }
            SlotKind::Average { of, momentum } => format!("average s{} n{}", of.0, momentum.0),
            SlotKind::Frozen => "frozen".into(),
            SlotKind::Unused => "unused".into(),
            SlotKind::Buffer => "buffer".into(),
            SlotKind::Moment { of, name } => format!("moment s{} {}", of.0, quoted(name)),
            SlotKind::Gradient { of } => format!("gradient s{}", of.0),
        };
        line(format!("slot s{i} {} {} {kind}", quoted(&s.key), list(&s.shape)));
    }
    for (i, spec) in tables.inputs.iter().enumerate() {
        line(match spec {
            InputSpec::Video(v) => format!("input i{i} video {}", video(v)),
            InputSpec::Image(v) => format!("input i{i} image {}", video(v)),
            InputSpec::Label { classes } => format!("input i{i} label {classes}"),
        });
    }
    for (i, m) in tables.masks.iter().enumerate() {
        let (context, target) = (list(&m.context_extra), list(&m.target_extra));
        line(format!("mask m{i} {} tokens {} context {context} target {target}", quoted(&m.name), m.tokens));
    }
    for (i, s) in tables.sets.iter().enumerate() {
        line(format!("set set{i} {}", list(&s.masks)));
    }
    for (i, c) in tables.counts.iter().enumerate() {
        let kind = match &c.kind {
            CountKind::Context(s) => format!("context set{}", s.0),
            CountKind::Target(s) => format!("target set{}", s.0),
            CountKind::Sum(a, b) => format!("sum c{} c{}", a.0, b.0),
            CountKind::Plus(a, n) => format!("plus c{} {n}", a.0),
        };
        line(format!("count c{i} {kind} bound {}", c.bound));
    }
    text
}

fn video(v: &VideoSpec) -> String {
    let mut s = format!("{} frames {} {} size {}", quoted(&v.name), v.frames, v.pace, v.size);
    for (name, range) in [("crop", v.crop), ("aspect", v.aspect)] {
        if let Some((lo, hi)) = range {
            let _ = write!(s, " {name} {lo:?} {hi:?}");
        }
    }
    if v.flip {
        s += " flip";
    }
    s
}

/// A JSON string.
fn quoted(s: &str) -> String {
    serde_json::Value::from(s).to_string()
}

fn list<T: ToString>(items: &[T]) -> String {
    format!("[{}]", items.iter().map(T::to_string).collect::<Vec<_>>().join(", "))
}

fn extents(items: &[Extent]) -> String {
    list(&items.iter().map(|e| show_extent(*e)).collect::<Vec<_>>())
}

/// Name and attributes of an op, in the order in which `parse_text` expects them.
pub fn op_text(op: &Op) -> (&'static str, Vec<String>) {
    let axis = |a: &usize| format!("axis={a}");
    match op {
        Op::Read(s) => ("read", vec![format!("s{}", s.0)]),
        Op::Input(i) => ("input", vec![format!("i{}", i.0)]),
        Op::Scalar(n) => ("scalar", vec![format!("n{}", n.0)]),
        Op::Constant(v) => ("constant", vec![format!("{v:?}")]),
        Op::Iota => ("iota", vec![]),
        Op::Index { set, which } => ("index", vec![format!("set{}", set.0), which_name(*which).into()]),
        Op::Strategy(set) => ("strategy", vec![format!("set{}", set.0)]),
        Op::Size(e) => ("size", vec![extents(e)]),
        Op::Draw { dist, site } => ("draw", vec![dist_name(*dist).into(), format!("site={}", quoted(site))]),
        Op::Unary(u) => (unary_name(*u), vec![]),
        Op::Binary(b) => (binary_name(*b), vec![]),
        Op::Select => ("select", vec![]),
        Op::Cast => ("cast", vec![]),
        Op::Stop => ("stop", vec![]),
        Op::Arrange { from } => {
            let from: Vec<String> = from.iter().map(|f| f.map_or("_".into(), |i| i.to_string())).collect();
            ("arrange", vec![format!("from={}", list(&from))])
        }
        Op::Reshape => ("reshape", vec![]),
        Op::Slice { axis: a, start } => ("slice", vec![axis(a), format!("start={}", extents(start))]),
        Op::Pad { axis: a, before } => ("pad", vec![axis(a), format!("before={}", extents(before))]),
        Op::Concat { axis: a } => ("concat", vec![axis(a)]),
        Op::Gather { axis: a, shared } => ("gather", vec![axis(a), format!("shared={shared}")]),
        Op::ScatterAdd { axis: a, shared } => ("scatter_add", vec![axis(a), format!("shared={shared}")]),
        Op::OneHot => ("one_hot", vec![]),
        Op::Reduce { op, axes } => ("reduce", vec![reduce_name(*op).into(), format!("axes={}", list(axes))]),
        Op::Argmax { axis: a } => ("argmax", vec![axis(a)]),
        Op::Fold { mean } => ("fold", vec![if *mean { "mean" } else { "sum" }.into()]),
        Op::Einsum { a, b, out } => ("einsum", vec![einsum_text(a, b, out)]),
        Op::Accumulate(s) => ("accumulate", vec![format!("s{}", s.0)]),
        Op::Store(s) => ("store", vec![format!("s{}", s.0)]),
        Op::Adamw { weight, first, second } => ("adamw", [weight, first, second].map(|s| format!("s{}", s.0)).into()),
        Op::Sgd { weight, velocity } => {
            ("sgd", [Some(weight), velocity.as_ref()].into_iter().flatten().map(|s| format!("s{}", s.0)).collect())
        }
        Op::Ema(s) => ("ema", vec![format!("s{}", s.0)]),
        Op::Linear => ("linear", vec![]),
        Op::LayerNorm { eps } => ("layer_norm", vec![format!("eps={eps:?}")]),
        Op::LayerNormGrad { eps } => ("layer_norm_grad", vec![format!("eps={eps:?}")]),
        Op::Softmax => ("softmax", vec![]),
        Op::SoftmaxGrad => ("softmax_grad", vec![]),
        Op::Attention { scale } => ("attention", vec![format!("scale={scale:?}")]),
        Op::AttentionGrad { scale } => ("attention_grad", vec![format!("scale={scale:?}")]),
        Op::Gelu => ("gelu", vec![]),
        Op::GeluGrad => ("gelu_grad", vec![]),
        Op::Patches { tube, dy, dx } => {
            ("patches", vec![format!("tube={tube}"), format!("dy={dy}"), format!("dx={dx}")])
        }
    }
}

/// `ni,oi->no`: labels become letters in order of appearance.
fn einsum_text(a: &[u8], b: &[u8], out: &[u8]) -> String {
    let mut seen: Vec<u8> = vec![];
    for l in a.iter().chain(b).chain(out) {
        if !seen.contains(l) {
            seen.push(*l);
        }
    }
    let letters = |labels: &[u8]| -> String {
        labels.iter().map(|l| (b'a' + seen.iter().position(|s| s == l).unwrap_or(0) as u8) as char).collect()
    };
    format!("{},{}->{}", letters(a), letters(b), letters(out))
}

/// As printed.
pub fn which_name(which: Which) -> &'static str {
    match which {
        Which::Context => "context",
        Which::Target => "target",
    }
}

/// As printed.
pub fn dist_name(dist: Dist) -> &'static str {
    match dist {
        Dist::Uniform => "uniform",
        Dist::Whole => "whole",
        Dist::Normal => "normal",
        Dist::TruncNormal => "trunc_normal",
        Dist::Bernoulli => "bernoulli",
        Dist::Permutation => "permutation",
    }
}

/// As printed.
pub fn reduce_name(op: ReduceOp) -> &'static str {
    match op {
        ReduceOp::Sum => "sum",
        ReduceOp::Mean => "mean",
        ReduceOp::Max => "max",
        ReduceOp::Min => "min",
        ReduceOp::Any => "any",
        ReduceOp::All => "all",
        ReduceOp::Count => "count",
    }
}

/// As printed.
pub fn unary_name(op: UnaryOp) -> &'static str {
    match op {
        UnaryOp::Neg => "neg",
        UnaryOp::Exp => "exp",
        UnaryOp::Log => "log",
        UnaryOp::Sqrt => "sqrt",
        UnaryOp::Abs => "abs",
        UnaryOp::Sin => "sin",
        UnaryOp::Cos => "cos",
        UnaryOp::Tanh => "tanh",
        UnaryOp::Erf => "erf",
        UnaryOp::Floor => "floor",
        UnaryOp::Ceil => "ceil",
        UnaryOp::Round => "round",
        UnaryOp::Sign => "sign",
        UnaryOp::Not => "not",
    }
}

/// As printed.
pub fn binary_name(op: BinaryOp) -> &'static str {
    match op {
        BinaryOp::Add => "add",
        BinaryOp::Sub => "sub",
        BinaryOp::Mul => "mul",
        BinaryOp::Div => "div",
        BinaryOp::Rem => "rem",
        BinaryOp::Pow => "pow",
        BinaryOp::Min => "min",
        BinaryOp::Max => "max",
        BinaryOp::Eq => "eq",
        BinaryOp::Ne => "ne",
        BinaryOp::Lt => "lt",
        BinaryOp::Le => "le",
        BinaryOp::Gt => "gt",
        BinaryOp::Ge => "ge",
        BinaryOp::And => "and",
        BinaryOp::Or => "or",
    }
}
