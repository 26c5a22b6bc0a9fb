//! Update rules as IR: the `update` entry, run once an optimiser step when all gradients have been added up.
//!
//! For each network: the norm of all its gradients, `grad_norm.NETWORK`, and the factor that brings it under the clip.
//! For each trained weight: AdamW or SGD with the factor, the rate, and the decay (0 for weights that are not decayed).
//! For each average: its step toward the new weight, or toward the present one if nothing updates it. Numbers of the
//! step stay f64; the norm and the factor are f32, as gradients are.

use std::collections::BTreeMap;

use crate::build::ScalarIds;
use crate::ir::build::Builder;
use crate::ir::graph::{Graph, SlotId, SlotKind, Tables, Value};
use crate::ir::op::{BinaryOp, DType, Op, ReduceOp, UnaryOp};
use crate::model::Optimizer;

/// Added to the norm before it divides the clip, as PyTorch's `clip_grad_norm_` does.
const CLIP_EPS: f64 = 1e-6;

/// The `update` entry. Slots of gradients and moments are in the tables already.
pub fn update(tables: &Tables, optimizer: &Optimizer, scalars: &ScalarIds) -> Graph {
    let mut graph = Graph::default();
    let mut b = Builder::new(&mut graph, tables);
    let trained = trained(tables);
    let gradients: Vec<Value> = trained.iter().map(|w| b.read(gradient(tables, w.slot))).collect();
    let mut norms = vec![];
    let mut factors = vec![];
    for (network, name) in tables.networks.iter().enumerate() {
        let mine: Vec<Value> =
            trained.iter().zip(&gradients).filter(|(w, _)| w.network == network).map(|(_, g)| *g).collect();
        b.place = name.as_str().into();
        let norm = norm(&mut b, &mine);
        norms.push((format!("grad_norm.{name}"), norm));
        factors.push(factor(&mut b, norm, scalars));
    }
    let rule = Rule::new(&mut b, optimizer, scalars);
    let mut updated: BTreeMap<SlotId, Value> = BTreeMap::new();
    for (w, g) in trained.iter().zip(gradients) {
        b.place = tables.slots[w.slot.0 as usize].key.as_str().into();
        let new = rule.apply(&mut b, w, g, factors[w.network]);
        updated.insert(w.slot, new);
    }
    for (i, slot) in tables.slots.iter().enumerate() {
        if let SlotKind::Average { of, momentum } = slot.kind {
            b.place = slot.key.as_str().into();
            let value = updated.get(&of).copied().unwrap_or_else(|| b.read(of));
            let momentum = b.scalar(momentum, DType::F64);
            b.op(Op::Ema(SlotId(i as u32)), &[value, momentum]);
        }
    }
    graph.outputs = norms;
    graph
}

/// A weight that the optimiser moves.
struct Weight {
    slot: SlotId,
    network: usize,
    decay: bool,
}

fn trained(tables: &Tables) -> Vec<Weight> {
    let weight = |(i, kind): (usize, &SlotKind)| match kind {
        SlotKind::Trained { network, decay } => {
            Some(Weight { slot: SlotId(i as u32), network: *network, decay: *decay })
        }
        SlotKind::Average { .. } | SlotKind::Frozen | SlotKind::Unused | SlotKind::Buffer => None,
        SlotKind::Moment { .. } | SlotKind::Gradient { .. } => None,
    };
    tables.slots.iter().map(|s| &s.kind).enumerate().filter_map(weight).collect()
}

fn find(tables: &Tables, what: &str, kind: impl Fn(&SlotKind) -> bool) -> SlotId {
    let place = tables.slots.iter().position(|s| kind(&s.kind));
    SlotId(place.unwrap_or_else(|| panic!("compiler bug: no slot for {what}")) as u32)
}

fn gradient(tables: &Tables, of: SlotId) -> SlotId {
    let key = &tables.slots[of.0 as usize].key;
    find(tables, &format!("the gradient of `{key}`"), |k| *k == SlotKind::Gradient { of })
}

fn moment(tables: &Tables, of: SlotId, name: &str) -> SlotId {
    let key = &tables.slots[of.0 as usize].key;
    find(tables, &format!("`{name}` of `{key}`"), |k| *k == SlotKind::Moment { of, name: name.into() })
}

/// sqrt of the sum of squares of all elements.
fn norm(b: &mut Builder, gradients: &[Value]) -> Value {
    let mut sum = b.number(0.0, DType::F32);
    for g in gradients {
        let square = b.mul(*g, *g);
        let axes = (0..b.ty(*g).dims.len()).collect();
        let one = b.reduce(ReduceOp::Sum, square, axes);
        sum = b.add(sum, one);
    }
    b.unary(UnaryOp::Sqrt, sum)
}

/// min(1, clip / (norm + eps)); 1 where there is no clip.
fn factor(b: &mut Builder, norm: Value, scalars: &ScalarIds) -> Value {
    let one = b.number(1.0, DType::F32);
    let Some(clip) = scalars.clip else { return one };
    let clip = b.scalar(clip, DType::F32);
    let below = b.offset(norm, CLIP_EPS);
    let ratio = b.div(clip, below);
    b.binary(BinaryOp::Min, one, ratio)
}

/// The optimiser's numbers, one node each for all weights.
enum Rule {
    Adamw { lr: Value, decay: Value, none: Value, rest: [Value; 4] },
    Sgd { lr: Value, decay: Value, none: Value, momentum: Value, moves: bool },
}

impl Rule {
    fn new(b: &mut Builder, optimizer: &Optimizer, scalars: &ScalarIds) -> Rule {
        b.place = "optimizer".into();
        let lr = b.scalar(scalars.lr, DType::F64);
        let decay = b.scalar(scalars.decay, DType::F64);
        let none = b.number(0.0, DType::F64);
        match optimizer {
            Optimizer::Adamw { betas, eps, .. } => {
                let step = b.scalar(scalars.step, DType::F64);
                let [b1, b2, eps] = [betas.0, betas.1, *eps].map(|v| b.number(v, DType::F64));
                Rule::Adamw { lr, decay, none, rest: [step, b1, b2, eps] }
            }
            Optimizer::Sgd { momentum, .. } => {
                let moves = *momentum != 0.0;
                let momentum = b.number(*momentum, DType::F64);
                Rule::Sgd { lr, decay, none, momentum, moves }
            }
        }
    }

    fn apply(&self, b: &mut Builder, w: &Weight, g: Value, factor: Value) -> Value {
        match self {
            Rule::Adamw { lr, decay, none, rest: [step, b1, b2, eps] } => {
                let [first, second] = ["exp_avg", "exp_avg_sq"].map(|name| moment(b.tables, w.slot, name));
                let decay = if w.decay { *decay } else { *none };
                let op = Op::Adamw { weight: w.slot, first, second };
                b.op(op, &[g, factor, *lr, decay, *step, *b1, *b2, *eps])
            }
            Rule::Sgd { lr, decay, none, momentum, moves } => {
                let velocity = moves.then(|| moment(b.tables, w.slot, "momentum_buffer"));
                let decay = if w.decay { *decay } else { *none };
                b.op(Op::Sgd { weight: w.slot, velocity }, &[g, factor, *lr, decay, *momentum])
            }
        }
    }
}

#[cfg(test)]
mod tests;
