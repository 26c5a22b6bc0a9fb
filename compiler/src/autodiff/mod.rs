//! Reverse-mode gradients: a graph with a loss becomes a graph with gradients.
//!
//! The walk is here, one rule an op is in [`rules`]. Only values that
//! depend on one of the asked slots get a gradient. Contributions to a value are added in the order in which the walk
//! meets them; parts of one axis that tile it are joined instead (the gradient of three slices is one concatenation).
//! A gradient has its value's element type, except that gradients toward what is one for the step (weights) are f32
//! where the value is bf16.

pub mod rules;

use std::collections::BTreeMap;

use crate::ir::build::Builder;
use crate::ir::extent::Total;
use crate::ir::graph::{Dim, Extent, Graph, Outer, SlotId, Tables, Type, Value};
use crate::ir::op::{DType, Op};
use rules::Rule;

/// What a user of a value adds to the value's gradient.
#[derive(Clone, Debug)]
pub enum Part {
    /// A gradient of the value's dims.
    Whole(Value),
    /// The gradient of a slice of the value; elsewhere zero.
    Slice {
        /// The sliced axis.
        axis: usize,
        /// Extents before the slice.
        start: Vec<Extent>,
        /// The slice's gradient.
        g: Value,
    },
}

/// Adds the gradients of `loss` (a number for the step) with respect to slots; none where the loss does not reach one.
pub fn gradients(
    tables: &Tables,
    graph: &mut Graph,
    loss: Value,
    wrt: &[SlotId],
) -> Result<Vec<(SlotId, Option<Value>)>, String> {
    let ty = graph.ty(loss).clone();
    if ty.outer != Outer::One || !ty.dims.is_empty() || !is_float(&ty) {
        return Err("compiler bug: expected the loss to be one number for the step".into());
    }
    let order = graph.order();
    let mut active = std::collections::BTreeSet::new();
    for n in &order {
        let node = &graph.nodes[*n];
        let reaches = match &node.op {
            Op::Read(s) => wrt.contains(s),
            op => rules::passes(op) && graph.inputs(*n).iter().any(|v| active.contains(v)),
        };
        if reaches {
            let ports = node.types.iter().enumerate().filter(|(_, t)| is_float(t));
            active.extend(ports.map(|(port, _)| Value { node: *n, port: port as u8 }));
        }
    }
    let mut parts: BTreeMap<Value, Vec<Part>> = BTreeMap::new();
    let mut b = Builder::new(graph, tables);
    if active.contains(&loss) {
        let one = b.at(loss).number(1.0, ty.dtype);
        parts.insert(loss, vec![Part::Whole(one)]);
    }
    let mut found: BTreeMap<SlotId, Vec<Part>> = BTreeMap::new();
    for n in order.into_iter().rev() {
        let ports = b.graph.nodes[n].types.len();
        let values = (0..ports).map(|port| Value { node: n, port: port as u8 });
        let mine: Vec<Vec<Part>> = values.map(|v| parts.remove(&v).unwrap_or_default()).collect();
        if mine.iter().all(Vec::is_empty) {
            continue;
        }
        if let Op::Read(s) = b.graph.nodes[n].op {
            found.entry(s).or_default().extend(mine.into_iter().flatten());
            continue;
        }
        if ports > 1 {
            return Err(format!("compiler bug: {:?} has no second derivative", b.graph.nodes[n].op));
        }
        let inputs = b.graph.inputs(n);
        let wanted = inputs.iter().map(|v| active.contains(v)).collect();
        b.at(n.into());
        let like = b.ty(n.into());
        let g = total(&mut b, &like, mine.into_iter().flatten().collect());
        let op = b.graph.nodes[n].op.clone();
        let rule = Rule { b: &mut b, inputs: inputs.clone(), out: n.into(), g, wanted };
        for (input, part) in inputs.into_iter().zip(rule.parts(&op)?) {
            if let (true, Some(part)) = (active.contains(&input), part) {
                parts.entry(input).or_default().push(part);
            }
        }
    }
    let one = |s: &SlotId| {
        let parts = found.remove(s).unwrap_or_default();
        let shape = tables.slots[s.0 as usize].shape.iter().map(|n| Dim::fixed(*n, "")).collect();
        let like = Type::new(DType::F32, Outer::One, shape);
        if parts.is_empty() { (*s, None) } else { (*s, Some(total(&mut b, &like, parts))) }
    };
    Ok(wrt.iter().map(one).collect())
}

fn is_float(t: &Type) -> bool {
    match t.dtype {
        DType::F64 | DType::F32 | DType::Bf16 => true,
        DType::I32 | DType::Bool => false,
    }
}

/// The sum of the parts of a value's gradient; `like` is the value's type.
fn total(b: &mut Builder, like: &Type, parts: Vec<Part>) -> Value {
    let wide = parts.iter().any(|p| {
        let (Part::Whole(g) | Part::Slice { g, .. }) = p;
        b.graph.ty(*g).dtype == DType::F32
    });
    let dtype = if wide && like.dtype == DType::Bf16 { DType::F32 } else { like.dtype };
    let parts: Vec<Part> = parts
        .into_iter()
        .map(|p| match p {
            Part::Whole(g) => Part::Whole(b.cast(g, dtype)),
            Part::Slice { axis, start, g } => Part::Slice { axis, start, g: b.cast(g, dtype) },
        })
        .collect();
    let parts = merge(b, parts);
    if let Some(joined) = tiled(b, like, &parts) {
        return joined;
    }
    let whole: Vec<Value> = parts
        .into_iter()
        .map(|p| match p {
            Part::Whole(g) => g,
            Part::Slice { axis, start, g } => b.pad(g, axis, start, like.dims[axis].clone()),
        })
        .collect();
    whole.into_iter().reduce(|x, y| b.add(x, y)).expect("compiler bug: a gradient of no parts")
}

/// Adds the parts that are the same slice of the same axis.
fn merge(b: &mut Builder, parts: Vec<Part>) -> Vec<Part> {
    let mut merged: Vec<Part> = vec![];
    for p in parts {
        let place = |q: &Part| match (&p, q) {
            (Part::Slice { axis, start, g }, Part::Slice { axis: a, start: s, g: h }) => {
                axis == a
                    && Total::of(b.tables, start) == Total::of(b.tables, s)
                    && b.graph.ty(*g).dims == b.graph.ty(*h).dims
            }
            (Part::Whole(_) | Part::Slice { .. }, _) => false,
        };
        match (merged.iter().position(place), p) {
            (Some(i), Part::Slice { axis, start, g }) => {
                let Part::Slice { g: h, .. } = merged[i] else { unreachable!("slices merge with slices") };
                merged[i] = Part::Slice { axis, start, g: b.add(h, g) };
            }
            (_, p) => merged.push(p),
        }
    }
    merged
}

/// The concatenation of slices of one axis that tile it, whatever their order.
fn tiled(b: &mut Builder, like: &Type, parts: &[Part]) -> Option<Value> {
    let Some(Part::Slice { axis, .. }) = parts.first() else { return None };
    let mut left: Vec<(Total, Total, Value)> = vec![];
    for p in parts {
        match p {
            Part::Slice { axis: a, start, g } if a == axis => {
                let len = b.graph.ty(*g).dims[*axis].extent;
                let mut end = start.clone();
                end.push(len);
                left.push((Total::of(b.tables, start), Total::of(b.tables, &end), *g));
            }
            Part::Slice { .. } | Part::Whole(_) => return None,
        }
    }
    let mut at = Total::default();
    let mut joined = vec![];
    while let Some(i) = left.iter().position(|(start, _, _)| *start == at) {
        let (_, end, g) = left.remove(i);
        joined.push(g);
        at = end;
    }
    if !left.is_empty() || at != Total::of(b.tables, &[like.dims[*axis].extent]) {
        return None;
    }
    if let [one] = joined[..] {
        return Some(one);
    }
    let dtype = b.graph.ty(joined[0]).dtype;
    Some(b.op_as(Op::Concat { axis: *axis }, &joined, &like.with_dtype(dtype)))
}

#[cfg(test)]
mod tests;
