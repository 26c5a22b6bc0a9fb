//! What the IR means: a slow, obvious interpreter in f64, the oracle of every pass and kernel.
//!
//! Nodes run in [`Graph::order`]; each value is a list of dense f64 blocks and is dropped after its last use. Slots are
//! read as they were when the run began, and changes are written when it ends. With [`Env::round`] every result is
//! rounded to its element type; without, only f64 is computed. Functions come from the crate `libm`, so that results are
//! the same on every machine.

mod elementwise;
mod idioms;
mod leaves;
mod reduce;
mod update;
mod views;

use std::collections::BTreeMap;
use std::rc::Rc;

use petgraph::stable_graph::NodeIndex;

use super::graph::{Graph, Node, Outer, Segments, SlotId, Tables, Type, Value};
use super::op::{DType, Op};
use super::print::show_node;

/// What a run is given, and the slots that it changes.
#[derive(Clone, Debug, Default)]
pub struct Env {
    /// Number of clips, and index sets.
    pub segments: Segments,
    /// For each input of the tables: all clips one after another.
    pub inputs: Vec<Vec<f64>>,
    /// For each scalar of the tables.
    pub scalars: Vec<f64>,
    /// For each slot of the tables.
    pub slots: Vec<Vec<f64>>,
    /// Part of the key of every draw.
    pub seed: u64,
    /// Part of the key of every draw.
    pub step: u64,
    /// Place of the first clip in the step's whole batch.
    pub clip_base: u64,
    /// How often each clip has been drawn again; none means never.
    pub attempts: Vec<u32>,
    /// Round results to their element types.
    pub round: bool,
}

/// A value: one dense row-major array a block.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Its type.
    pub ty: Type,
    /// Dims of each block.
    pub dims: Vec<Vec<usize>>,
    /// Elements of each block.
    pub blocks: Vec<Vec<f64>>,
}

impl Tensor {
    /// All blocks one after another.
    pub fn flat(&self) -> Vec<f64> {
        self.blocks.concat()
    }
}

/// Blocks of one port.
type Blocks = Vec<Vec<f64>>;

/// Runs a graph; the results are its outputs, in order.
pub fn eval(tables: &Tables, graph: &Graph, env: &mut Env) -> Result<Vec<(String, Tensor)>, String> {
    let order = needed(graph);
    let mut uses: BTreeMap<Value, usize> = BTreeMap::new();
    for v in order.iter().flat_map(|n| graph.inputs(*n)).chain(graph.outputs.iter().map(|o| o.1)) {
        *uses.entry(v).or_default() += 1;
    }
    let mut values: BTreeMap<Value, Rc<Tensor>> = BTreeMap::new();
    let mut changed: BTreeMap<SlotId, Vec<f64>> = BTreeMap::new();
    for n in order {
        let node = &graph.nodes[n];
        let feeds = graph.inputs(n);
        let inputs: Vec<Rc<Tensor>> = feeds.iter().map(|v| values[v].clone()).collect();
        for v in &feeds {
            release(&mut uses, &mut values, *v);
        }
        let mut ctx = Ctx { tables, env, changed: &mut changed, node, inputs: &inputs };
        let ports = ctx.ports().map_err(|e| format!("{e}\n  {}", show_node(graph, n)))?;
        for (port, mut blocks) in ports.into_iter().enumerate() {
            let value = Value { node: n, port: port as u8 };
            if !uses.contains_key(&value) {
                continue;
            }
            let ty = &node.types[port];
            if env.round {
                blocks.iter_mut().for_each(|b| round(b, ty.dtype));
            }
            let dims = (0..blocks.len()).map(|b| env.segments.dims(tables, ty, b)).collect();
            values.insert(value, Rc::new(Tensor { ty: ty.clone(), dims, blocks }));
        }
    }
    for (slot, content) in changed {
        env.slots.resize(env.slots.len().max(slot.0 as usize + 1), vec![]);
        env.slots[slot.0 as usize] = content;
    }
    Ok(graph.outputs.iter().map(|(name, v)| (name.clone(), (*values[v]).clone())).collect())
}

/// Nodes that outputs or effects need, in order.
fn needed(graph: &Graph) -> Vec<NodeIndex> {
    let order = graph.order();
    let mut need: std::collections::BTreeSet<NodeIndex> = graph.outputs.iter().map(|o| o.1.node).collect();
    for n in order.iter().rev() {
        if need.contains(n) || graph.nodes[*n].op.is_effect() {
            need.insert(*n);
            need.extend(graph.inputs(*n).iter().map(|v| v.node));
        }
    }
    order.into_iter().filter(|n| need.contains(n)).collect()
}

fn release(uses: &mut BTreeMap<Value, usize>, values: &mut BTreeMap<Value, Rc<Tensor>>, v: Value) {
    let left = uses.get_mut(&v).expect("compiler bug: a use that was not counted");
    *left -= 1;
    if *left == 0 {
        values.remove(&v);
    }
}

/// Rounds to an element type.
pub fn round(block: &mut [f64], dtype: DType) {
    match dtype {
        DType::F32 => block.iter_mut().for_each(|x| *x = f64::from(*x as f32)),
        DType::Bf16 => block.iter_mut().for_each(|x| *x = half::bf16::from_f64(*x).to_f64()),
        DType::F64 | DType::I32 | DType::Bool => {}
    }
}

/// One node's run.
struct Ctx<'a> {
    tables: &'a Tables,
    env: &'a Env,
    changed: &'a mut BTreeMap<SlotId, Vec<f64>>,
    node: &'a Node,
    inputs: &'a [Rc<Tensor>],
}

impl Ctx<'_> {
    fn ports(&mut self) -> Result<Vec<Blocks>, String> {
        Ok(vec![match &self.node.op {
            Op::Read(s) => self.read(*s)?,
            Op::Input(i) => self.input(*i)?,
            Op::Scalar(s) => vec![vec![*self.env.scalars.get(s.0 as usize).ok_or("a scalar was not given")?]],
            Op::Constant(v) => vec![vec![*v]],
            Op::Iota => self.each(|c, b| (0..c.dims(b)[0]).map(|i| i as f64).collect()),
            Op::Index { set, which } => self.index(*set, *which)?,
            Op::Strategy(_) => self.each(|c, b| vec![(b / c.env.segments.clips) as f64]),
            Op::Size(extents) => {
                self.each(|c, b| vec![extents.iter().map(|e| c.env.segments.extent(c.tables, *e, b) as f64).product()])
            }
            Op::Draw { dist, site } => self.draw(*dist, site)?,
            Op::Unary(u) => self.unary(*u),
            Op::Binary(op) => self.binary(*op),
            Op::Select => self.select(),
            Op::Cast => self.cast(),
            Op::Stop | Op::Reshape => self.inputs[0].blocks.clone(),
            Op::Arrange { from } => self.arrange(from),
            Op::Slice { axis, start } => self.each(|c, b| c.slice(*axis, start, b)),
            Op::Pad { axis, before } => self.each(|c, b| c.pad(*axis, before, b)),
            Op::Concat { axis } => self.each(|c, b| c.concat(*axis, b)),
            Op::Gather { axis, shared } => self.gather(*axis, *shared)?,
            Op::ScatterAdd { axis, shared } => self.scatter_add(*axis, *shared)?,
            Op::OneHot => self.each(|c, b| c.one_hot(b)),
            Op::Reduce { op, axes } => self.each(|c, b| c.reduce(*op, axes, b)),
            Op::Argmax { axis } => self.each(|c, b| c.argmax(*axis, b)),
            Op::Fold { mean } => self.fold(*mean),
            Op::Einsum { a, b, out } => self.einsum(a, b, out),
            Op::Accumulate(s) => self.accumulate(*s)?,
            Op::Store(s) => {
                let new = self.inputs[0].blocks[0].clone();
                self.put(*s, new)
            }
            Op::Adamw { weight, first, second } => self.adamw(*weight, *first, *second)?,
            Op::Sgd { weight, velocity } => self.sgd(*weight, *velocity)?,
            Op::Ema(s) => self.ema(*s)?,
            Op::Linear => self.each(|c, b| c.linear(b)),
            Op::LayerNorm { eps } => self.each(|c, b| c.layer_norm(*eps, b)),
            Op::LayerNormGrad { eps } => return Ok(self.layer_norm_grad(*eps)),
            Op::Softmax => self.each(|c, b| c.softmax(b)),
            Op::SoftmaxGrad => self.each(|c, b| c.softmax_grad(b)),
            Op::Attention { scale } => self.each(|c, b| c.attention(*scale, b)),
            Op::AttentionGrad { scale } => return Ok(self.attention_grad(*scale)),
            Op::Gelu => self.gelu(),
            Op::GeluGrad => self.gelu_grad(),
            Op::Patches { tube, dy, dx } => self.patches([*tube, *dy, *dx])?,
        }])
    }

    /// The result block by block.
    fn each(&self, f: impl Fn(&Self, usize) -> Vec<f64>) -> Blocks {
        (0..self.blocks(self.node.types[0].outer)).map(|b| f(self, b)).collect()
    }

    fn blocks(&self, outer: Outer) -> usize {
        self.env.segments.blocks(self.tables, outer)
    }

    /// Dims of a block of the first result.
    fn dims(&self, block: usize) -> Vec<usize> {
        self.env.segments.dims(self.tables, &self.node.types[0], block)
    }

    /// Which block of a value with outer `small` belongs to `block` of outer `large`.
    fn part_of(&self, small: Outer, large: Outer, block: usize) -> usize {
        match (small, large) {
            (Outer::One, _) => 0,
            (Outer::Clips, Outer::Segments(_)) => block % self.env.segments.clips,
            (Outer::Clips | Outer::Segments(_), _) => block,
        }
    }
}

/// Row-major strides.
fn strides(dims: &[usize]) -> Vec<usize> {
    let mut s = vec![1; dims.len()];
    for i in (1..dims.len()).rev() {
        s[i - 1] = s[i] * dims[i];
    }
    s
}

/// Appends the elements of `x` that dims and strides name, from `base`, in row-major order.
fn push_strided(out: &mut Vec<f64>, x: &[f64], dims: &[usize], strides: &[usize], base: usize) {
    match (dims, strides) {
        ([], _) => out.push(x[base]),
        ([n], [0]) => out.resize(out.len() + n, x[base]),
        ([n], [1]) => out.extend_from_slice(&x[base..base + n]),
        ([n], [s, ..]) => out.extend((0..*n).map(|i| x[base + i * s])),
        ([n, dims @ ..], [s, strides @ ..]) => {
            for i in 0..*n {
                push_strided(out, x, dims, strides, base + i * s);
            }
        }
        ([_, ..], []) => unreachable!("as many strides as dims"),
    }
}

/// `x` with dim j of the result being dim `order[j]`.
fn permuted(x: &[f64], dims: &[usize], order: &[usize]) -> Vec<f64> {
    if order.iter().enumerate().all(|(i, o)| i == *o) {
        return x.to_vec();
    }
    if x.is_empty() {
        return vec![];
    }
    let s = strides(dims);
    let (dims, s): (Vec<usize>, Vec<usize>) = order.iter().map(|o| (dims[*o], s[*o])).unzip();
    let mut out = Vec::with_capacity(x.len());
    push_strided(&mut out, x, &dims, &s, 0);
    out
}

/// Elements before, along and after an axis.
fn around(dims: &[usize], axis: usize) -> (usize, usize, usize) {
    (dims[..axis].iter().product(), dims[axis], dims[axis + 1..].iter().product())
}

#[cfg(test)]
mod tests;
