//! One run of an entry as a primitive graph: a walk over the IR, block by block.

use std::collections::{BTreeMap, BTreeSet};

use super::{contract, elementwise, idiom, shape, update};
use crate::ir::extent::larger;
use crate::ir::graph::{Graph, Outer, Segments, SlotId, Tables, Type, Value};
use crate::ir::kind::Kind;
use crate::ir::op::{DType, Op, Which};
use crate::lower::luminal::primitives::{Array, Kept, Primitives};
use crate::lower::{LowerError, StepInputs};
use petgraph::Direction;
use petgraph::stable_graph::NodeIndex;

/// A value of the IR: one array a block.
#[derive(Clone, Debug)]
pub(super) struct Blocks {
    pub(super) arrays: Vec<Array>,
    /// If every element is this constant of the step.
    pub(super) known: Option<f64>,
}

/// A graph ready to run, and where its results are.
pub(super) struct Built {
    pub(super) primitives: Primitives,
    /// For each output of the IR graph its blocks.
    pub(super) outputs: Vec<Vec<Kept>>,
    /// Slots that the run changes.
    pub(super) slots: Vec<(SlotId, Kept)>,
}

/// Builds the primitive graph of one run.
pub(super) fn build(
    tables: &Tables,
    graph: &Graph,
    inputs: &StepInputs,
    slots: &[Vec<f32>],
) -> Result<Built, LowerError> {
    let mut step = Step {
        tables,
        graph,
        inputs,
        slots,
        p: Primitives::new(),
        values: BTreeMap::new(),
        old: BTreeMap::new(),
        new: BTreeMap::new(),
    };
    let needed = needed(graph);
    for node in graph.order().into_iter().filter(|n| needed.contains(n)) {
        step.node(node)?;
    }
    let mut outputs = Vec::new();
    for (_, value) in &graph.outputs {
        let arrays = step.values[value].arrays.clone();
        outputs.push(arrays.iter().map(|a| step.p.keep(a)).collect());
    }
    let slots = step.new.iter().map(|(slot, array)| (*slot, step.p.keep(array))).collect();
    Ok(Built { primitives: step.p, outputs, slots })
}

/// Nodes that an output or an effect depends on.
fn needed(graph: &Graph) -> BTreeSet<NodeIndex> {
    let effects = graph.nodes.node_indices().filter(|n| graph.nodes[*n].op.is_effect());
    let mut open: Vec<NodeIndex> = graph.outputs.iter().map(|(_, v)| v.node).chain(effects).collect();
    let mut needed = BTreeSet::new();
    while let Some(node) = open.pop() {
        if needed.insert(node) {
            open.extend(graph.nodes.neighbors_directed(node, Direction::Incoming));
        }
    }
    needed
}

struct Step<'a> {
    tables: &'a Tables,
    graph: &'a Graph,
    inputs: &'a StepInputs<'a>,
    slots: &'a [Vec<f32>],
    p: Primitives,
    values: BTreeMap<Value, Blocks>,
    /// Slots as they were when the run began.
    old: BTreeMap<SlotId, Array>,
    /// New contents, written back when the run ends.
    new: BTreeMap<SlotId, Array>,
}

impl Step<'_> {
    fn node(&mut self, node: NodeIndex) -> Result<(), LowerError> {
        let n = &self.graph.nodes[node];
        for ty in &n.types {
            for block in 0..self.blocks(ty.outer) {
                let dims = self.dims(ty, block);
                if dims.contains(&0) {
                    return Err(LowerError::User(format!(
                        "a segment without tokens at `{}`: the reference backend needs at least one token everywhere; \
                         use `--backend cpu`, or masks that leave some of each kind",
                        n.place
                    )));
                }
            }
        }
        let mut results = self.op(node)?;
        for (port, (blocks, ty)) in results.iter_mut().zip(&n.types).enumerate() {
            if ty.dtype == DType::Bf16 && computes(&n.op) {
                for array in &mut blocks.arrays {
                    *array = self.p.round_bf16(array);
                }
            }
            self.check(node, blocks, ty)?;
            self.values.insert(Value { node, port: port as u8 }, blocks.clone());
        }
        Ok(())
    }

    fn check(&self, node: NodeIndex, blocks: &Blocks, ty: &Type) -> Result<(), LowerError> {
        let right = blocks.arrays.len() == self.blocks(ty.outer)
            && blocks.arrays.iter().enumerate().all(|(i, a)| a.dims() == self.dims(ty, i));
        if right {
            return Ok(());
        }
        let n = &self.graph.nodes[node];
        let found: Vec<_> = blocks.arrays.iter().map(|a| a.dims().to_vec()).collect();
        Err(LowerError::Bug(format!("compiler bug: {:?} at `{}` gives blocks of {found:?}, not {ty:?}", n.op, n.place)))
    }

    fn op(&mut self, node: NodeIndex) -> Result<Vec<Blocks>, LowerError> {
        let n = &self.graph.nodes[node];
        let ty = &n.types[0];
        let ins = self.graph.inputs(node);
        let dtype = |i: usize| self.graph.ty(ins[i]).dtype;
        Ok(vec![match &n.op {
            Op::Read(slot) => one(self.slot(*slot)),
            Op::Input(id) => self.clips(&self.inputs.inputs[id.0 as usize], ty)?,
            Op::Scalar(id) => self.number(self.inputs.scalars[id.0 as usize]),
            Op::Constant(x) => self.number(*x),
            Op::Iota => self.leaf(ty, |s, b| (0..s.dims(ty, b)[0]).map(|i| i as f32).collect()),
            Op::Index { set, which } => {
                let data = &self.inputs.segments.sets[set.0 as usize];
                let rows = match which {
                    Which::Context => &data.context,
                    Which::Target => &data.target,
                };
                self.leaf(ty, |_, b| rows[b].iter().map(|i| *i as f32).collect())
            }
            Op::Strategy(_) => self.leaf(ty, |s, b| vec![(b / s.inputs.segments.clips) as f32]),
            Op::Size(extents) => {
                self.leaf(ty, |s, b| vec![extents.iter().map(|e| s.extent(*e, b)).product::<usize>() as f32])
            }
            Op::Draw { site, .. } => {
                return Err(LowerError::Bug(format!("compiler bug: the draw `{site}` in an entry that is lowered")));
            }
            Op::Unary(op) => self.map(&ins, ty, |p, a, _| elementwise::unary(p, *op, a[0])),
            Op::Binary(op) => {
                let (dtype, known) = (dtype(0), self.values[&ins[1]].known);
                self.map(&ins, ty, |p, a, _| elementwise::binary(p, *op, dtype, a[0], a[1], known))
            }
            Op::Select => self.map(&ins, ty, |p, a, _| p.select(a[0], a[1], a[2])),
            Op::Cast => {
                let (from, to) = (dtype(0), ty.dtype);
                let mut blocks = self.map(&ins, ty, |p, a, _| elementwise::cast(p, from, to, a[0]));
                if matches!(to, DType::F64 | DType::F32) {
                    blocks.known = self.values[&ins[0]].known;
                }
                blocks
            }
            Op::Stop => self.values[&ins[0]].clone(),
            Op::Arrange { from } => {
                let mut blocks = self.map(&ins, ty, |_, a, dims| a[0].arrange(from, dims));
                blocks.known = self.values[&ins[0]].known;
                blocks
            }
            Op::Reshape => self.map(&ins, ty, |p, a, dims| p.reshape(a[0], dims)),
            Op::Slice { axis, start } => {
                let starts = self.sums(ty.outer, start);
                self.map_at(&ins, ty, |p, a, dims, b| p.slice(a[0], *axis, starts[b]..starts[b] + dims[*axis]))
            }
            Op::Pad { axis, before } => {
                let before = self.sums(ty.outer, before);
                self.map_at(&ins, ty, |p, a, dims, b| {
                    p.pad(a[0], *axis, before[b], dims[*axis] - before[b] - a[0].dims()[*axis])
                })
            }
            Op::Concat { axis } => self.map(&ins, ty, |p, a, _| {
                let parts: Vec<Array> = a.iter().map(|a| (*a).clone()).collect();
                p.concat(&parts, *axis)
            }),
            Op::Gather { axis, shared } => self.map(&ins, ty, |p, a, _| shape::gather(p, a[0], a[1], *axis, *shared)),
            Op::ScatterAdd { axis, shared } => {
                let dims: Vec<_> = (0..self.blocks(ty.outer)).map(|b| self.dims(ty, b)).collect();
                self.sum_into(&ins, ty, |p, a, b| shape::scatter_add(p, a[0], a[1], *axis, *shared, &dims[b]))
            }
            Op::OneHot => {
                self.map(&ins, ty, |p, a, dims| p.one_hot(a[0], *dims.last().expect("the positions are a dim")))
            }
            Op::Reduce { op, axes } => self.map(&ins, ty, |p, a, _| contract::reduce(p, *op, a[0], axes)),
            Op::Argmax { axis } => self.map(&ins, ty, |p, a, _| contract::argmax(p, a[0], *axis)),
            Op::Fold { mean } => {
                let mut blocks = self.sum_into(&ins, ty, |_, a, _| a[0].clone());
                if *mean {
                    let n = self.blocks(self.graph.ty(ins[0]).outer) / blocks.arrays.len();
                    for array in &mut blocks.arrays {
                        *array = self.p.scale(array, 1.0 / n as f32);
                    }
                }
                blocks
            }
            Op::Einsum { a: la, b: lb, out } => {
                self.sum_into(&ins, ty, |p, a, _| contract::einsum(p, a[0], a[1], la, lb, out))
            }
            Op::Accumulate(slot) => {
                let sum = self.new.get(slot).cloned();
                let sum = sum.unwrap_or_else(|| self.slot(*slot));
                let new = self.p.add(&sum, &self.values[&ins[0]].arrays[0]);
                self.store(*slot, new)
            }
            Op::Store(slot) => {
                let new = self.values[&ins[0]].arrays[0].clone();
                self.store(*slot, new)
            }
            Op::Adamw { weight, first, second } => {
                let inputs: Vec<Blocks> = ins.iter().map(|v| self.values[v].clone()).collect();
                let (w, m, v) = (self.slot(*weight), self.slot(*first), self.slot(*second));
                let [w, m, v] = update::adamw(&mut self.p, &w, &m, &v, &inputs);
                self.store(*first, m);
                self.store(*second, v);
                self.store(*weight, w)
            }
            Op::Sgd { weight, velocity } => {
                let inputs: Vec<Blocks> = ins.iter().map(|v| self.values[v].clone()).collect();
                let (w, m) = (self.slot(*weight), velocity.map(|v| self.slot(v)));
                let (w, m) = update::sgd(&mut self.p, &w, m.as_ref(), &inputs);
                if let (Some(slot), Some(m)) = (velocity, m) {
                    self.store(*slot, m);
                }
                self.store(*weight, w)
            }
            Op::Ema(slot) => {
                let (old, value) = (self.slot(*slot), self.values[&ins[0]].arrays[0].clone());
                let new = update::ema(&mut self.p, &old, &value, &self.values[&ins[1]]);
                self.store(*slot, new)
            }
            Op::Linear => self.map(&ins, ty, |p, a, _| contract::linear(p, a[0], a[1], a.get(2).copied())),
            Op::LayerNorm { eps } => self.map(&ins, ty, |p, a, _| {
                let affine = if a.len() == 3 { Some((a[1], a[2])) } else { None };
                idiom::layer_norm(p, a[0], affine, *eps)
            }),
            Op::LayerNormGrad { eps } => {
                let ports = n.types.len();
                let all = self.ports(&ins, ty.outer, ports, |p, a| {
                    idiom::layer_norm_grad(p, a[0], a[1], a.get(2).copied(), *eps)
                });
                let folded = all.into_iter().enumerate().map(|(port, arrays)| match port {
                    0 => Blocks { arrays, known: None },
                    _ => one(self.total(&arrays)),
                });
                return Ok(folded.collect());
            }
            Op::Softmax => self.map(&ins, ty, |p, a, _| idiom::softmax(p, a[0])),
            Op::SoftmaxGrad => self.map(&ins, ty, |p, a, _| idiom::softmax_grad(p, a[0], a[1])),
            Op::Attention { scale } => self.map(&ins, ty, |p, a, _| idiom::attention(p, a[0], a[1], a[2], *scale)),
            Op::AttentionGrad { scale } => {
                let all =
                    self.ports(&ins, ty.outer, 3, |p, a| idiom::attention_grad(p, a[0], a[1], a[2], a[4], *scale));
                return Ok(all.into_iter().map(|arrays| Blocks { arrays, known: None }).collect());
            }
            Op::Gelu => self.map(&ins, ty, |p, a, _| idiom::gelu(p, a[0])),
            Op::GeluGrad => self.map(&ins, ty, |p, a, _| idiom::gelu_grad(p, a[0], a[1])),
            Op::Patches { tube, dy, dx } => {
                let clips = self.values[&ins[0]].arrays.clone();
                let rows: Vec<Array> =
                    clips.iter().map(|c| shape::patches(&mut self.p, c, [*tube, *dy, *dx])).collect();
                let from = self.graph.ty(ins[0]).outer;
                if ins.len() == 1 {
                    Blocks { arrays: rows, known: None }
                } else {
                    let places: Vec<usize> =
                        (0..self.blocks(ty.outer)).map(|b| self.block(ty.outer, b, from)).collect();
                    self.map_at(&ins[1..], ty, |p, a, _, b| shape::gather(p, &rows[places[b]], a[0], 0, 0))
                }
            }
        }])
    }

    // ---- leaves and slots

    fn number(&mut self, x: f64) -> Blocks {
        Blocks { arrays: vec![self.p.number(x as f32)], known: Some(x) }
    }

    fn leaf(&mut self, ty: &Type, data: impl Fn(&Self, usize) -> Vec<f32>) -> Blocks {
        let mut arrays = Vec::new();
        for b in 0..self.blocks(ty.outer) {
            let (elements, dims) = (data(self, b), self.dims(ty, b));
            arrays.push(self.p.data(elements, &dims));
        }
        Blocks { arrays, known: None }
    }

    /// What the caller supplies, cut into clips.
    fn clips(&mut self, data: &[f32], ty: &Type) -> Result<Blocks, LowerError> {
        let size: usize = self.dims(ty, 0).iter().product();
        let clips = self.inputs.segments.clips;
        if data.len() != size * clips {
            return Err(LowerError::Bug(format!(
                "compiler bug: expected {clips} clips of {size} elements, found {} elements",
                data.len()
            )));
        }
        Ok(self.leaf(ty, |_, b| data[b * size..(b + 1) * size].to_vec()))
    }

    fn slot(&mut self, slot: SlotId) -> Array {
        if let Some(array) = self.old.get(&slot) {
            return array.clone();
        }
        let array = self.p.data(self.slots[slot.0 as usize].clone(), &self.tables.slots[slot.0 as usize].shape);
        self.old.insert(slot, array.clone());
        array
    }

    fn store(&mut self, slot: SlotId, new: Array) -> Blocks {
        self.new.insert(slot, new.clone());
        one(new)
    }

    // ---- blocks

    fn segments(&self) -> &Segments {
        self.inputs.segments
    }

    fn blocks(&self, outer: Outer) -> usize {
        self.segments().blocks(self.tables, outer)
    }

    fn dims(&self, ty: &Type, block: usize) -> Vec<usize> {
        self.segments().dims(self.tables, ty, block)
    }

    fn extent(&self, extent: crate::ir::graph::Extent, block: usize) -> usize {
        self.segments().extent(self.tables, extent, block)
    }

    /// For each block of `outer` the sum of the extents.
    fn sums(&self, outer: Outer, extents: &[crate::ir::graph::Extent]) -> Vec<usize> {
        (0..self.blocks(outer)).map(|b| extents.iter().map(|e| self.extent(*e, b)).sum()).collect()
    }

    /// The block of a value with blocks `to` that goes with block `block` of `from`, the larger of the two.
    fn block(&self, from: Outer, block: usize, to: Outer) -> usize {
        match to {
            Outer::One => 0,
            Outer::Clips if from == to => block,
            Outer::Clips => block % self.segments().clips,
            Outer::Segments(_) => block,
        }
    }

    fn operands(&self, ins: &[Value], outer: Outer, block: usize) -> Vec<Array> {
        let at = |v: &Value| self.values[v].arrays[self.block(outer, block, self.graph.ty(*v).outer)].clone();
        ins.iter().map(at).collect()
    }

    /// Every block of the result from the blocks of the inputs.
    fn map(&mut self, ins: &[Value], ty: &Type, f: impl Fn(&mut Primitives, &[&Array], &[usize]) -> Array) -> Blocks {
        self.map_at(ins, ty, |p, a, dims, _| f(p, a, dims))
    }

    /// As `map`, with the number of the block.
    fn map_at(
        &mut self,
        ins: &[Value],
        ty: &Type,
        f: impl Fn(&mut Primitives, &[&Array], &[usize], usize) -> Array,
    ) -> Blocks {
        let mut arrays = Vec::new();
        for b in 0..self.blocks(ty.outer) {
            let (operands, dims) = (self.operands(ins, ty.outer, b), self.dims(ty, b));
            arrays.push(f(&mut self.p, &operands.iter().collect::<Vec<_>>(), &dims, b));
        }
        Blocks { arrays, known: None }
    }

    /// Computes in the larger outer of the inputs and adds what falls into one block of the result; `f` is given the
    /// number of the result's block.
    fn sum_into(&mut self, ins: &[Value], ty: &Type, f: impl Fn(&mut Primitives, &[&Array], usize) -> Array) -> Blocks {
        let outers = ins.iter().map(|v| self.graph.ty(*v).outer);
        let full = outers.fold(ty.outer, |a, b| larger(a, b).expect("compiler bug: segments of two sets in one op"));
        let mut sums: Vec<Option<Array>> = vec![None; self.blocks(ty.outer)];
        for b in 0..self.blocks(full) {
            let operands = self.operands(ins, full, b);
            let to = self.block(full, b, ty.outer);
            let part = f(&mut self.p, &operands.iter().collect::<Vec<_>>(), to);
            sums[to] = Some(match sums[to].take() {
                None => part,
                Some(sum) => self.p.add(&sum, &part),
            });
        }
        Blocks { arrays: sums.into_iter().map(|s| s.expect("every block has a part")).collect(), known: None }
    }

    /// An op of several results: for each port its blocks.
    fn ports(
        &mut self,
        ins: &[Value],
        outer: Outer,
        ports: usize,
        f: impl Fn(&mut Primitives, &[&Array]) -> Vec<Array>,
    ) -> Vec<Vec<Array>> {
        let mut all = vec![Vec::new(); ports];
        for b in 0..self.blocks(outer) {
            let operands = self.operands(ins, outer, b);
            for (list, array) in all.iter_mut().zip(f(&mut self.p, &operands.iter().collect::<Vec<_>>())) {
                list.push(array);
            }
        }
        all
    }

    fn total(&mut self, arrays: &[Array]) -> Array {
        let mut sum = arrays[0].clone();
        for array in &arrays[1..] {
            sum = self.p.add(&sum, array);
        }
        sum
    }
}

fn one(array: Array) -> Blocks {
    Blocks { arrays: vec![array], known: None }
}

/// False for ops whose results are elements of their inputs, which are rounded already.
fn computes(op: &Op) -> bool {
    match (op, op.kind()) {
        (Op::Cast | Op::Gather { .. }, _) | (_, Kind::View | Kind::Join) => false,
        (_, Kind::Leaf | Kind::Elementwise | Kind::Move | Kind::Product | Kind::Reduction) => true,
        (_, Kind::Norm | Kind::Attention | Kind::Effect(_)) => true,
    }
}
