//! What must hold of every graph between any two passes. A failure is a bug of the compiler.
//!
//! Inputs are numbered without gaps and come from ports that exist; types equal what `infer` says; the graph has no
//! cycle; slots, inputs, scalars, sets and counts exist; a slot is changed by one op at most (gradients may be added to
//! more than once), after every read of it in [`Graph::order`]: a read sees what the slot held when the entry started.

use petgraph::Direction;
use petgraph::stable_graph::NodeIndex;

use super::graph::{CountKind, Extent, Graph, SlotId, Tables, Type};
use super::infer::infer;
use super::op::Op;
use super::print::{show_node, show_type};

/// Checks a graph and the tables it refers to.
pub fn verify(tables: &Tables, graph: &Graph) -> Result<(), String> {
    verify_tables(tables)?;
    let order = graph.order();
    if order.len() != graph.nodes.node_count() {
        let stuck = graph.nodes.node_indices().find(|n| !order.contains(n)).expect("compiler bug: nothing is missing");
        return Err(fail(graph, stuck, "it lies on a cycle or behind one"));
    }
    for n in &order {
        verify_node(tables, graph, *n).map_err(|e| fail(graph, *n, &e))?;
    }
    verify_effects(tables, graph, &order)?;
    for (i, (name, v)) in graph.outputs.iter().enumerate() {
        let exists = graph.nodes.node_weight(v.node).is_some_and(|n| (v.port as usize) < n.types.len());
        if !exists {
            return Err(format!("compiler bug: output `{name}` is a value that does not exist"));
        }
        if graph.outputs[..i].iter().any(|(other, _)| other == name) {
            return Err(format!("compiler bug: two outputs are called `{name}`"));
        }
    }
    Ok(())
}

fn fail(graph: &Graph, node: NodeIndex, why: &str) -> String {
    format!("compiler bug: {why}\n  {}", show_node(graph, node))
}

fn verify_tables(tables: &Tables) -> Result<(), String> {
    let bug = |what: String| Err(format!("compiler bug: {what}"));
    for (i, s) in tables.sets.iter().enumerate() {
        if s.masks.is_empty() || s.masks.iter().any(|m| *m >= tables.masks.len()) {
            return bug(format!("set {i} has no masks, or masks that do not exist"));
        }
    }
    for (i, c) in tables.counts.iter().enumerate() {
        let fine = match &c.kind {
            CountKind::Context(s) | CountKind::Target(s) => (s.0 as usize) < tables.sets.len(),
            // Parts come first, so that sums of counts end.
            CountKind::Sum(a, b) => (a.0.max(b.0) as usize) < i && tables.set_of(*a) == tables.set_of(*b),
            CountKind::Plus(a, _) => (a.0 as usize) < i,
        };
        if !fine {
            return bug(format!("count {i} refers to sets or counts that do not exist before it"));
        }
    }
    Ok(())
}

fn verify_node(tables: &Tables, graph: &Graph, node: NodeIndex) -> Result<(), String> {
    let mut feeds: Vec<u16> = vec![];
    for e in graph.nodes.edges_directed(node, Direction::Incoming) {
        use petgraph::visit::EdgeRef;
        let source = &graph.nodes[e.source()];
        if e.weight().port as usize >= source.types.len() {
            return Err(format!("input {} is a port that does not exist", e.weight().input));
        }
        feeds.push(e.weight().input);
    }
    feeds.sort_unstable();
    if feeds.iter().enumerate().any(|(i, f)| i != *f as usize) {
        return Err(format!("inputs are numbered {feeds:?}"));
    }
    let n = &graph.nodes[node];
    let hint = n.types.first().ok_or("it has no result")?;
    for e in n.types.iter().flat_map(Type::extents).chain(extents_of(&n.op)) {
        if let Extent::Counted(c) = e
            && c.0 as usize >= tables.counts.len()
        {
            return Err(format!("no count {}", c.0));
        }
    }
    let inputs = graph.inputs(node);
    let types: Vec<&Type> = inputs.iter().map(|v| graph.ty(*v)).collect();
    let found = infer(tables, &n.op, &types, Some(hint))?;
    if found != n.types || n.op.ports(inputs.len()) != n.types.len() {
        let found: Vec<String> = found.iter().map(|t| show_type(t)).collect();
        return Err(format!("its type should be `{}`", found.join("`, `")));
    }
    Ok(())
}

/// Extents that an op holds itself.
fn extents_of(op: &Op) -> Vec<Extent> {
    if let Op::Size(e) | Op::Slice { start: e, .. } | Op::Pad { before: e, .. } = op { e.clone() } else { vec![] }
}

/// Slots that an op changes.
pub fn changed(op: &Op) -> Vec<SlotId> {
    debug_assert!(op.is_effect());
    if let Op::Accumulate(s) | Op::Store(s) | Op::Ema(s) = op {
        vec![*s]
    } else if let Op::Adamw { weight, first, second } = op {
        vec![*weight, *first, *second]
    } else if let Op::Sgd { weight, velocity } = op {
        [*weight].into_iter().chain(*velocity).collect()
    } else {
        vec![]
    }
}

fn verify_effects(tables: &Tables, graph: &Graph, order: &[NodeIndex]) -> Result<(), String> {
    let mut by: Vec<Option<NodeIndex>> = vec![None; tables.slots.len()];
    for n in order {
        let op = &graph.nodes[*n].op;
        if let Op::Read(s) = op
            && by[s.0 as usize].is_some()
        {
            return Err(fail(graph, *n, "it reads a slot after its change"));
        }
        if !op.is_effect() {
            continue;
        }
        for s in changed(op) {
            let again = |m: &NodeIndex| !matches!((op, &graph.nodes[*m].op), (Op::Accumulate(_), Op::Accumulate(_)));
            if by[s.0 as usize].as_ref().is_some_and(again) {
                return Err(fail(graph, *n, "it changes a slot that was changed before"));
            }
            by[s.0 as usize] = Some(*n);
        }
    }
    Ok(())
}
