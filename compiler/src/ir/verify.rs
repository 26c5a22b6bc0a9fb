//! What must hold of every graph between any two passes. A failure is a bug of the compiler.
//!
//! Inputs are numbered without gaps and come from ports that exist; types equal what `infer` says; the graph has no
//! cycle; slots, inputs, scalars, sets and counts exist; a slot is changed by one op at most (gradients may be added to
//! more than once), after every read of it in [`Graph::order`]: a read sees what the slot held when the entry started.

use petgraph::Direction;
use petgraph::stable_graph::NodeIndex;
use petgraph::visit::EdgeRef;

use super::graph::{CountKind, Extent, Graph, MaskSpec, Outer, SlotId, SlotKind, Tables, Type};
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
    let slot = |s: &SlotId| (s.0 as usize) < tables.slots.len();
    for (i, s) in tables.slots.iter().enumerate() {
        let fine = match &s.kind {
            // A text written by hand may leave out the only network.
            SlotKind::Trained { network, .. } => *network < tables.networks.len().max(1),
            SlotKind::Average { of, momentum } => slot(of) && (momentum.0 as usize) < tables.scalars.len(),
            SlotKind::Moment { of, .. } | SlotKind::Gradient { of } => slot(of),
            SlotKind::Frozen | SlotKind::Unused | SlotKind::Buffer => true,
        };
        if !fine {
            return bug(format!("slot {i} `{}` refers to what does not exist", s.key));
        }
    }
    for (i, s) in tables.sets.iter().enumerate() {
        let masks: Option<Vec<&MaskSpec>> = s.masks.iter().map(|m| tables.masks.get(*m)).collect();
        let extra = |m: &MaskSpec| (m.context_extra.clone(), m.target_extra.clone());
        match masks {
            Some(masks) if !masks.is_empty() && masks.iter().all(|m| extra(m) == extra(masks[0])) => {}
            Some(_) | None => return bug(format!("set {i} has no masks, missing ones, or masks of different dims")),
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
    for t in &n.types {
        if let Outer::Segments(s) = t.outer
            && s.0 as usize >= tables.sets.len()
        {
            return Err(format!("no set {}", s.0));
        }
    }
    let inputs = graph.inputs(node);
    let types: Vec<&Type> = inputs.iter().map(|v| graph.ty(*v)).collect();
    let found = infer(tables, &n.op, &types, Some(hint))?;
    if found != n.types {
        let found: Vec<String> = found.iter().map(show_type).collect();
        return Err(format!("its type should be `{}`", found.join("`, `")));
    }
    Ok(())
}

/// Extents that an op holds itself.
fn extents_of(op: &Op) -> Vec<Extent> {
    if let Op::Size(e) | Op::Slice { start: e, .. } | Op::Pad { before: e, .. } = op { e.clone() } else { vec![] }
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
        for s in op.written() {
            let again = |m: &NodeIndex| !matches!((op, &graph.nodes[*m].op), (Op::Accumulate(_), Op::Accumulate(_)));
            if by[s.0 as usize].as_ref().is_some_and(again) {
                return Err(fail(graph, *n, "it changes a slot that was changed before"));
            }
            by[s.0 as usize] = Some(*n);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::parse_text::parse_module;

    const HEADER: &str = r#"slot s0 "w" [2, 3] frozen
slot s1 "v" [3] frozen
slot s2 "g" [2, 3] frozen
scalar n0 "lr"
mask m0 "m.0" tokens 4 context [] target [2]
set set0 [0]
set set1 [0]
count c0 context set0 bound 4
count c1 target set0 bound 4
count c2 context set1 bound 4
count c3 plus c0 1 bound 5
%0: f32 one [2, 3] = read {s0}
%1: f32 one [3] = read {s1}
%2: i32 segments0 [c0] = index {set0, context}
%3: f64 one [] = scalar {n0}
%4: f32 segments0 [c0] = cast %2
%6: f32 one [] = constant {1.0}
%5: f32 segments1 [c2] = arrange {from=[_]} %6
"#;

    fn result(body: &str) -> Result<(), String> {
        let text = format!("{HEADER}{body}");
        let (tables, graph) = parse_module(&text).unwrap();
        verify(&tables, &graph)
    }

    #[test]
    fn what_fits_is_let_through() {
        for body in [
            "%9: f32 one [a=2, b=3] = mul %0, %0",
            "%9: bf16 one [2, 3] = mul %0, %0",
            "%9: f32 segments0 [c0, 3] = arrange {from=[_, 0]} %1",
            "%9: f32 segments0 [c3] = pad {axis=0, before=[1]} %4",
            "%9: f32 one [3] = store {s1} %1",
            "%9: f32 one [2, 3] = accumulate {s2} %0\n%10: f32 one [2, 3] = accumulate {s2} %0",
        ] {
            result(body).unwrap();
        }
    }

    #[test]
    fn what_does_not_fit_is_a_bug() {
        for (body, says) in [
            ("%9: f32 one [3, 2] = mul %0, %0", "its type should be `f32 one [2, 3]`"),
            ("%9: bf16 one [2, 3] = read {s0}", "its type should be `f32 one [2, 3]`"),
            ("%9: f32 one [2, 3] = mul %0, %1", "expected equal types"),
            ("%9: f32 one [2, 3] = mul %0", "expected 2 inputs, found 1"),
            ("%9: f32 one [2, 3] = read {s7}", "no slot 7"),
            ("%9: f32 one [] = scalar {n4}", "no scalar 4"),
            ("%9: f32 one [] = input {i0}", "no input 0"),
            ("%9: f32 segments5 [] = strategy {set5}", "no set 5"),
            ("%9: f32 segments0 [c9] = iota", "no count 9"),
            ("%9: f32 clips [c0, 3] = arrange {from=[_, 0]} %1", "counted dims"),
            ("%9: f32 segments1 [c0] = arrange {from=[0]} %4", "cannot arrange"),
            ("%9: f32 one [3, 3] = arrange {from=[0, 0]} %1", "every dim of the input once"),
            ("%9: f32 one [7] = reshape %0", "differ in size"),
            ("%9: f32 one [2, 2] = slice {axis=1, start=[2]} %0", "inside the whole"),
            ("%9: f32 segments0 [2] = slice {axis=0, start=[]} %4", "inside the whole"),
            ("%9: f32 segments0 [c1] = pad {axis=0, before=[]} %4", "inside the whole"),
            ("%9: f32 one [2, 3] = concat {axis=1} %0, %0", "its type should be `f32 one [2, 6]`"),
            ("%9: f32 one [3] = gather {axis=0, shared=0} %0, %1", "expected an index of i32"),
            ("%9: f32 one [3] = fold {sum} %1", "fewer blocks"),
            ("%9: f32 one [c0] = fold {sum} %4", "counted dims"),
            ("%9: f32 one [2, 2] = einsum {ab,cb->ac} %0, %5", "a label for every dim"),
            ("%9: f32 one [] = einsum {a,b->} %4, %5", "different sets"),
            ("%9: f32 one [2, 2] = einsum {ab,a->ab} %0, %1", "dims of different size"),
            ("%9: bool one [2, 3] = not %0", "expected bool elements, found f32"),
            ("%9: bool one [2] = reduce {any, axes=[1]} %0", "expected bool elements, found f32"),
            ("%9: f32 one [2] = reduce {sum, axes=[2]} %0", "expected ascending dims"),
            ("%9: f32 one [2, 2] = linear %0, %0, %1", "expected a bias"),
            ("%9: f32 one [2, 3] = layer_norm {eps=1e-6} %0, %1", "both weight and bias"),
            ("%9: f32 one [2, 3] = layer_norm {eps=1e-6} %0, %0, %0", "expected a vector"),
            ("%9: f32 one [2, 3] = store {s1} %0", "the slot's dims"),
            ("%9: f32 one [3] = store {s1} %1\n%10: f32 one [3] = read {s1}", "reads a slot after its change"),
            ("%9: f32 one [3] = store {s1} %1\n%10: f32 one [3] = store {s1} %1", "changed before"),
            ("%9: f32 one [2, 3] = adamw {s0, s0, s0} %0, %6, %3, %3, %3, %3, %3, %3", "changed before"),
            ("%9: f32 one [3] = ema {s1} %1, %1", "a number for the step"),
            ("output \"a\" = %0\noutput \"a\" = %1", "two outputs are called `a`"),
        ] {
            let error = result(body).expect_err(body);
            assert!(error.starts_with("compiler bug: ") && error.contains(says), "{body}\n{error}");
        }
    }

    #[test]
    fn messages_print_the_node() {
        let error = result("%9: f32 one [2, 3] = mul %0, %1   # encoder.fc").unwrap_err();
        assert!(error.ends_with("\n  %7: f32 one [2, 3] = mul %0, %1   # encoder.fc"), "{error}");
    }

    #[test]
    fn a_cycle_is_found() {
        let (tables, mut graph) =
            parse_module("%0: f32 one [] = constant {1.0}\n%1: f32 one [] = neg %0\n%2: f32 one [] = neg %1").unwrap();
        let nodes: Vec<NodeIndex> = graph.nodes.node_indices().collect();
        let edge = graph.nodes.find_edge(nodes[0], nodes[1]).unwrap();
        let feed = graph.nodes.remove_edge(edge).unwrap();
        graph.nodes.add_edge(nodes[2], nodes[1], feed);
        assert!(verify(&tables, &graph).unwrap_err().contains("cycle"));
    }
}
