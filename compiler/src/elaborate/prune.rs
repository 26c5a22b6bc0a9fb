//! Keeps what the roots reach, and numbers it afresh in a fixed order.

use std::collections::HashMap;

use super::Elab;
use crate::ir::graph::{Outer, SetId};
use crate::model::{
    Average, Axis, AxisId, AxisSize, Backbone, Init, Mask, Model, Node, NodeId, NodeOp, Source, Tap, Train, Weight,
    WeightId, WeightKind,
};

/// What a model needs.
pub struct Roots {
    /// Loss.
    pub loss: NodeId,
    /// Metrics.
    pub metrics: Vec<(String, NodeId)>,
    /// What is evaluated.
    pub backbone: Option<Backbone>,
    /// Values kept for replay.
    pub taps: Vec<Tap>,
    /// Weights of the used parts.
    pub weights: Vec<WeightId>,
    /// Networks.
    pub networks: Vec<String>,
    /// Averages.
    pub averages: Vec<Average>,
    /// Training settings.
    pub train: Train,
}

/// Old number to new number, for everything that is numbered.
#[derive(Default)]
struct Numbers {
    nodes: HashMap<NodeId, NodeId>,
    axes: HashMap<AxisId, AxisId>,
    weights: HashMap<WeightId, WeightId>,
    sets: HashMap<SetId, SetId>,
    masks: HashMap<usize, usize>,
    sources: HashMap<usize, usize>,
}

/// The model that is left.
pub fn prune(elab: &Elab, name: &str, roots: Roots) -> Model {
    let mut numbers = Numbers::default();
    for (new, old) in roots.weights.iter().enumerate() {
        numbers.weights.insert(*old, WeightId(new as u32));
    }
    let order = reached(elab, &roots, &mut numbers);
    for (new, old) in order.iter().enumerate() {
        numbers.nodes.insert(*old, NodeId(new as u32));
    }
    number_tables(elab, &order, &roots, &mut numbers);
    let axes = number_axes(elab, &order, &roots, &mut numbers);
    let n = &numbers;
    Model {
        name: name.to_string(),
        axes,
        nodes: order.iter().map(|id| n.node(elab.node(*id))).collect(),
        weights: roots.weights.iter().map(|id| n.weight(&elab.stored[id.0 as usize].weight)).collect(),
        networks: roots.networks,
        averages: roots.averages,
        sources: in_order(&n.sources).into_iter().map(|i| elab.inputs[i].1.clone()).collect::<Vec<Source>>(),
        masks: in_order(&n.masks).into_iter().map(|i| n.mask(&elab.masks[i].2)).collect(),
        sets: in_order(&n.sets)
            .into_iter()
            .map(|s| elab.sets[s.0 as usize].masks.iter().map(|m| n.masks[m]).collect())
            .collect(),
        loss: n.nodes[&roots.loss],
        metrics: roots.metrics.iter().map(|(name, id)| (name.clone(), n.nodes[id])).collect(),
        backbone: roots.backbone.map(|b| Backbone { output: n.nodes[&b.output], ..b }),
        taps: roots.taps.iter().map(|t| Tap { node: n.nodes[&t.node], ..t.clone() }).collect(),
        train: roots.train,
        allowed: elab.allowed.clone(),
    }
}

/// Weights that these nodes are computed from.
pub fn weights_reached(elab: &Elab, roots: &[NodeId]) -> Vec<WeightId> {
    let mut seen = vec![false; elab.nodes.len()];
    let mut work = roots.to_vec();
    let mut found = vec![];
    while let Some(id) = work.pop() {
        if std::mem::replace(&mut seen[id.0 as usize], true) {
            continue;
        }
        let node = elab.node(id);
        if let NodeOp::Weight(weight) = node.op {
            found.push(weight);
        }
        work.extend(&node.inputs);
    }
    found.sort();
    found
}

/// Old numbers by new number.
fn in_order<K: Copy, V: Copy + Ord>(map: &HashMap<K, V>) -> Vec<K> {
    let mut pairs: Vec<(K, V)> = map.iter().map(|(k, v)| (*k, *v)).collect();
    pairs.sort_by_key(|(_, v)| *v);
    pairs.into_iter().map(|(k, _)| k).collect()
}

/// Every node that is needed, operands before users.
fn reached(elab: &Elab, roots: &Roots, numbers: &mut Numbers) -> Vec<NodeId> {
    let mut seen = vec![false; elab.nodes.len()];
    let mut work: Vec<NodeId> = vec![roots.loss];
    work.extend(roots.metrics.iter().map(|(_, n)| *n));
    work.extend(roots.backbone.as_ref().map(|b| b.output));
    work.extend(roots.taps.iter().map(|t| t.node));
    for id in &roots.weights {
        if let Init::Computed(node) = elab.stored[id.0 as usize].weight.init {
            work.push(node);
        }
    }
    let mut sets: Vec<SetId> = vec![];
    while let Some(id) = work.pop() {
        if std::mem::replace(&mut seen[id.0 as usize], true) {
            continue;
        }
        let node = elab.node(id);
        work.extend(&node.inputs);
        let of_op = match &node.op {
            NodeOp::Index(set, _) | NodeOp::Strategy(set) => Some(*set),
            _ => None,
        };
        let of_outer = match node.outer {
            Outer::Segments(set) => Some(set),
            Outer::One | Outer::Clips => None,
        };
        for set in of_op.into_iter().chain(of_outer) {
            if sets.contains(&set) {
                continue;
            }
            sets.push(set);
            for mask in &elab.sets[set.0 as usize].masks {
                let mask = &elab.masks[*mask].2;
                work.extend([mask.context, mask.target]);
                work.extend(&mask.require);
            }
        }
    }
    sets.sort();
    for set in sets {
        let next = numbers.sets.len() as u32;
        numbers.sets.insert(set, SetId(next));
    }
    (0..elab.nodes.len()).filter(|i| seen[*i]).map(|i| NodeId(i as u32)).collect()
}

/// Masks and sources, in the order in which they were first needed.
fn number_tables(elab: &Elab, order: &[NodeId], _roots: &Roots, numbers: &mut Numbers) {
    let mut masks: Vec<usize> = numbers.sets.keys().flat_map(|s| elab.sets[s.0 as usize].masks.clone()).collect();
    masks.sort_unstable();
    masks.dedup();
    for (new, old) in masks.into_iter().enumerate() {
        numbers.masks.insert(old, new);
    }
    let mut sources: Vec<usize> = order
        .iter()
        .filter_map(|id| match elab.node(*id).op {
            NodeOp::Source(i) => Some(i),
            _ => None,
        })
        .collect();
    sources.sort_unstable();
    sources.dedup();
    for (new, old) in sources.into_iter().enumerate() {
        numbers.sources.insert(old, new);
    }
}

/// Axes that are mentioned anywhere, in the order in which they were made.
fn number_axes(elab: &Elab, order: &[NodeId], roots: &Roots, numbers: &mut Numbers) -> Vec<Axis> {
    let mut used = vec![false; elab.axes.len()];
    let mut work: Vec<AxisId> = vec![];
    for id in order {
        let node = elab.node(*id);
        work.extend(&node.axes);
        work.extend(axes_of_op(&node.op));
    }
    for id in &roots.weights {
        work.extend(&elab.stored[id.0 as usize].weight.axes);
    }
    for mask in in_order(&numbers.masks) {
        let mask = &elab.masks[mask].2;
        work.push(mask.tokens);
        work.extend(mask.context_extra.iter().chain(&mask.target_extra));
    }
    while let Some(axis) = work.pop() {
        if std::mem::replace(&mut used[axis.0 as usize], true) {
            continue;
        }
        let axis = elab.axis(axis);
        work.extend(&axis.factors);
        if let AxisSize::Joined(a, b) = axis.size {
            work.extend([a, b]);
        }
    }
    let kept: Vec<AxisId> = (0..elab.axes.len()).filter(|i| used[*i]).map(|i| AxisId(i as u32)).collect();
    for (new, old) in kept.iter().enumerate() {
        numbers.axes.insert(*old, AxisId(new as u32));
    }
    kept.iter().map(|id| numbers.axis_of(elab.axis(*id))).collect()
}

/// Axes that an operation names.
fn axes_of_op(op: &NodeOp) -> Vec<AxisId> {
    match op {
        NodeOp::Number(_)
        | NodeOp::Scheduled(_)
        | NodeOp::Iota
        | NodeOp::Weight(_)
        | NodeOp::Source(_)
        | NodeOp::Index(..)
        | NodeOp::Strategy(_)
        | NodeOp::Draw { .. }
        | NodeOp::Unary(_)
        | NodeOp::Binary(_)
        | NodeOp::Select
        | NodeOp::Spread
        | NodeOp::Stop
        | NodeOp::OverMasks { .. }
        | NodeOp::Relabel => vec![],
        NodeOp::Reduce(_, axes) | NodeOp::Dot(axes) => axes.clone(),
        NodeOp::Coords(a)
        | NodeOp::Argmax(a)
        | NodeOp::Pick(a)
        | NodeOp::At(a)
        | NodeOp::AtFixed(a, _)
        | NodeOp::Part(a, _)
        | NodeOp::Stack(a)
        | NodeOp::OneHot(a) => vec![*a],
        NodeOp::Split(a, parts) => [&[*a], &parts[..]].concat(),
        NodeOp::Merge(parts, a) => [&parts[..], &[*a]].concat(),
        NodeOp::Join(a, b, c) => vec![*a, *b, *c],
        NodeOp::Holds(a, b) => vec![*a, *b],
    }
}

impl Numbers {
    fn all(&self, axes: &[AxisId]) -> Vec<AxisId> {
        axes.iter().map(|a| self.axes[a]).collect()
    }

    fn outer(&self, outer: Outer) -> Outer {
        match outer {
            Outer::Segments(set) => Outer::Segments(self.sets[&set]),
            Outer::One | Outer::Clips => outer,
        }
    }

    fn axis_of(&self, axis: &Axis) -> Axis {
        let size = match axis.size {
            AxisSize::Static(n) => AxisSize::Static(n),
            AxisSize::Counted(set, which, n) => AxisSize::Counted(self.sets[&set], which, n),
            AxisSize::Joined(a, b) => AxisSize::Joined(self.axes[&a], self.axes[&b]),
        };
        Axis { name: axis.name.clone(), size, factors: self.all(&axis.factors) }
    }

    fn node(&self, node: &Node) -> Node {
        Node {
            op: self.op(&node.op),
            inputs: node.inputs.iter().map(|i| self.nodes[i]).collect(),
            outer: self.outer(node.outer),
            axes: self.all(&node.axes),
            ..node.clone()
        }
    }

    fn op(&self, op: &NodeOp) -> NodeOp {
        let axis = |a: &AxisId| self.axes[a];
        match op {
            NodeOp::Number(_)
            | NodeOp::Scheduled(_)
            | NodeOp::Iota
            | NodeOp::Draw { .. }
            | NodeOp::Unary(_)
            | NodeOp::Binary(_)
            | NodeOp::Select
            | NodeOp::Spread
            | NodeOp::Stop
            | NodeOp::OverMasks { .. }
            | NodeOp::Relabel => op.clone(),
            NodeOp::Weight(w) => NodeOp::Weight(self.weights[w]),
            NodeOp::Source(i) => NodeOp::Source(self.sources[i]),
            NodeOp::Index(set, which) => NodeOp::Index(self.sets[set], *which),
            NodeOp::Strategy(set) => NodeOp::Strategy(self.sets[set]),
            NodeOp::Coords(a) => NodeOp::Coords(axis(a)),
            NodeOp::Reduce(op, axes) => NodeOp::Reduce(*op, self.all(axes)),
            NodeOp::Dot(axes) => NodeOp::Dot(self.all(axes)),
            NodeOp::Argmax(a) => NodeOp::Argmax(axis(a)),
            NodeOp::Split(a, parts) => NodeOp::Split(axis(a), self.all(parts)),
            NodeOp::Merge(parts, a) => NodeOp::Merge(self.all(parts), axis(a)),
            NodeOp::Pick(a) => NodeOp::Pick(axis(a)),
            NodeOp::At(a) => NodeOp::At(axis(a)),
            NodeOp::AtFixed(a, i) => NodeOp::AtFixed(axis(a), *i),
            NodeOp::Join(a, b, c) => NodeOp::Join(axis(a), axis(b), axis(c)),
            NodeOp::Part(a, first) => NodeOp::Part(axis(a), *first),
            NodeOp::Stack(a) => NodeOp::Stack(axis(a)),
            NodeOp::OneHot(a) => NodeOp::OneHot(axis(a)),
            NodeOp::Holds(a, b) => NodeOp::Holds(axis(a), axis(b)),
        }
    }

    fn weight(&self, weight: &Weight) -> Weight {
        let kind = match weight.kind {
            WeightKind::Average(of, i) => WeightKind::Average(self.weights[&of], i),
            WeightKind::Trained(_) | WeightKind::Frozen | WeightKind::Buffer => weight.kind.clone(),
        };
        let init = match weight.init {
            Init::Computed(node) => Init::Computed(self.nodes[&node]),
            Init::Constant(_) | Init::Drawn(..) => weight.init.clone(),
        };
        Weight { axes: self.all(&weight.axes), kind, init, ..weight.clone() }
    }

    fn mask(&self, mask: &Mask) -> Mask {
        Mask {
            name: mask.name.clone(),
            tokens: self.axes[&mask.tokens],
            context: self.nodes[&mask.context],
            target: self.nodes[&mask.target],
            context_extra: self.all(&mask.context_extra),
            target_extra: self.all(&mask.target_extra),
            require: mask.require.iter().map(|n| self.nodes[n]).collect(),
        }
    }
}
