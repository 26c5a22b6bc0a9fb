//! The entries: which nodes of the model each needs, and what comes out under which name.

use std::sync::Arc;

use super::nodes::Lowering;
use super::tables::Start;
use crate::ir::graph::{Dim, Graph, Outer, Type, Value};
use crate::ir::op::{BinaryOp, DType, Op};
use crate::model::{AxisId, Init, Model, NodeId, Weight, WeightKind};

/// Stores buffers and initial weights. Moving averages are not stored: they start as copies, made by the runtime after
/// weights have been loaded.
pub fn init(model: &Model, start: &mut Start) -> Graph {
    let slots = start.slots.clone();
    let mut low = Lowering::new(model, start, true);
    for (weight, slot) in model.weights.iter().zip(slots) {
        if matches!(weight.kind, WeightKind::Average(..)) {
            continue;
        }
        let place: Arc<str> = weight.key.as_str().into();
        let ty = Type::new(DType::F64, Outer::One, weight.stored.iter().map(|n| Dim::fixed(*n, "")).collect());
        let value = initial(&mut low, weight, &ty, &place);
        // Slots are f32 whatever is stored.
        low.graph.add(Op::Store(slot), &[value], vec![ty.with_dtype(DType::F32)], Some(weight.span), &place);
    }
    low.graph
}

fn initial(low: &mut Lowering, weight: &Weight, ty: &Type, place: &Arc<str>) -> Value {
    let span = Some(weight.span);
    let constant =
        |low: &mut Lowering, v: f64| low.graph.add(Op::Constant(v), &[], vec![Type::scalar(DType::F64)], span, place);
    match &weight.init {
        Init::Constant(v) => {
            let c = constant(low, *v);
            if ty.dims.is_empty() {
                return c;
            }
            low.graph.add(Op::Arrange { from: vec![None; ty.dims.len()] }, &[c], vec![ty.clone()], span, place)
        }
        Init::Drawn(dist, parameters) => {
            let inputs: Vec<Value> = parameters.iter().map(|v| constant(low, *v)).collect();
            let op = Op::Draw { dist: *dist, site: weight.key.clone() };
            low.graph.add(op, &inputs, vec![ty.clone()], span, place)
        }
        Init::Computed(node) => {
            let value = low.value(*node);
            let (have, outer) = (low.model.node(*node).axes.clone(), Outer::One);
            // A product axis may be computed as its factors: bring them into the declared order, then flatten.
            let want = factors_of(low.model, &weight.axes, &have);
            let value = low.align(*node, value, &have, &want, outer);
            if low.graph.ty(value).dims == ty.dims {
                return value;
            }
            low.graph.add(Op::Reshape, &[value], vec![ty.clone()], span, place)
        }
    }
}

/// The declared axes with every product axis that the value spells out replaced by its factors.
fn factors_of(model: &Model, declared: &[AxisId], have: &[AxisId]) -> Vec<AxisId> {
    let mut want = Vec::new();
    for axis in declared {
        if have.contains(axis) {
            want.push(*axis);
        } else {
            want.extend(factors_of(model, &model.axis(*axis).factors, have));
        }
    }
    want
}

/// Draws every mask; everything comes out with one block a clip.
pub fn draw(model: &Model, start: &mut Start) -> (Graph, Vec<usize>) {
    let mut low = Lowering::new(model, start, true);
    let mut requires = Vec::new();
    for (k, mask) in model.masks.iter().enumerate() {
        low.enter_mask(&mask.name);
        let factors = &model.axis(mask.tokens).factors;
        for (name, node, extra) in
            [("context", mask.context, &mask.context_extra), ("target", mask.target, &mask.target_extra)]
        {
            let want: Vec<AxisId> = extra.iter().chain(factors).copied().collect();
            let value = low.value(node);
            let value = low.align(node, value, &model.node(node).axes, &want, Outer::Clips);
            let flat: Vec<AxisId> = extra.iter().copied().chain([mask.tokens]).collect();
            let ty = Type::new(DType::Bool, Outer::Clips, low.dims(&flat));
            let place: Arc<str> = mask.name.as_str().into();
            let value = low.graph.add(Op::Reshape, &[value], vec![ty], Some(model.node(node).span), &place);
            low.graph.outputs.push((format!("mask.{k}.{name}"), value));
        }
        for (i, node) in mask.require.iter().enumerate() {
            let value = low.value(*node);
            let value = low.align(*node, value, &model.node(*node).axes, &[], Outer::Clips);
            low.graph.outputs.push((format!("mask.{k}.require.{i}"), value));
        }
        requires.push(mask.require.len());
    }
    (low.graph, requires)
}

/// Computes `loss`: the mean over the clips of this call times their share of the step, so that micro-batches add up.
pub fn forward(model: &Model, start: &mut Start, taps: bool) -> Graph {
    let share = start.scalars.share;
    let mut low = Lowering::new(model, start, false);
    let mean = mean_over_clips(&mut low, model.loss);
    let (span, place): (_, Arc<str>) = (Some(model.node(model.loss).span), "loss".into());
    let scalar = vec![Type::scalar(DType::F32)];
    let share = low.graph.add(Op::Scalar(share), &[], scalar.clone(), span, &place);
    let loss = low.graph.add(Op::Binary(BinaryOp::Mul), &[mean, share], scalar, span, &place);
    low.graph.outputs.push(("loss".into(), loss));
    if taps {
        let mut calls: Vec<(&str, usize)> = Vec::new();
        for tap in &model.taps {
            let name = if tap.call {
                let n = calls.iter().filter(|c| c.0 == tap.name).count();
                calls.push((&tap.name, n));
                format!("tap.{}.{n}", tap.name)
            } else {
                format!("tap.{}", tap.name)
            };
            let value = low.value(tap.node);
            low.graph.outputs.push((name, value));
        }
    }
    low.graph
}

/// Computes `metric.NAME`, each a mean over clips.
pub fn metrics(model: &Model, start: &mut Start) -> Graph {
    let mut low = Lowering::new(model, start, false);
    for (name, node) in &model.metrics {
        let value = mean_over_clips(&mut low, *node);
        low.graph.outputs.push((format!("metric.{name}"), value));
    }
    low.graph
}

/// Computes `features`.
pub fn backbone(model: &Model, start: &mut Start) -> Graph {
    let mut low = Lowering::new(model, start, false);
    if let Some(backbone) = &model.backbone {
        let value = low.value(backbone.output);
        low.graph.outputs.push(("features".into(), value));
    }
    low.graph
}

fn mean_over_clips(low: &mut Lowering, node: NodeId) -> Value {
    let (mut value, source) = (low.value(node), low.model.node(node).clone());
    let (span, place): (_, Arc<str>) = (Some(source.span), Arc::from(&*source.place));
    let ty = |outer| vec![Type::new(DType::F32, outer, vec![])];
    if matches!(source.outer, Outer::Segments(_)) {
        value = low.graph.add(Op::Fold { mean: true }, &[value], ty(Outer::Clips), span, &place);
    }
    if source.outer != Outer::One {
        value = low.graph.add(Op::Fold { mean: true }, &[value], ty(Outer::One), span, &place);
    }
    value
}
