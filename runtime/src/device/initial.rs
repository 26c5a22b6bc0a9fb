//! Contents of a fresh run's slots: the program's `init` entry, run by the interpreter.
//!
//! Every store is run by itself, with what it needs: threads share the work, and no more than a tensor a thread is held
//! beside the slots. Draws are keyed by the weight, so that the order does not matter.

use std::collections::BTreeSet;

use rayon::prelude::*;
use vjepac::ir::eval::{self, Env};
use vjepac::ir::graph::{Graph, SlotId, Value};
use vjepac::ir::op::Op;
use vjepac::program::{Entry, Program};

use crate::error::{Error, Result};

/// Hands `take` what the init entry stores: buffers and initial weights.
pub fn contents(program: &Program, seed: u64, mut take: impl FnMut(SlotId, Vec<f32>) -> Result<()>) -> Result<()> {
    let graph = program.entry(Entry::Init);
    let stores: Vec<(Value, SlotId)> = graph
        .nodes
        .node_indices()
        .filter_map(|node| match graph.nodes[node].op {
            Op::Store(slot) => Some((node.into(), slot)),
            _ => None,
        })
        .collect();
    for some in stores.chunks(rayon::current_num_threads()) {
        let run = |(store, slot): &(Value, SlotId)| Ok((*slot, content(program, graph, *store, *slot, seed)?));
        let contents: Vec<(SlotId, Vec<f32>)> = some.par_iter().map(run).collect::<Result<_>>()?;
        contents.into_iter().try_for_each(|(slot, data)| take(slot, data))?;
    }
    Ok(())
}

/// Runs one store and what it needs.
fn content(program: &Program, graph: &Graph, store: Value, slot: SlotId, seed: u64) -> Result<Vec<f32>> {
    let (mut needed, mut open) = (BTreeSet::new(), vec![store.node]);
    while let Some(node) = open.pop() {
        if needed.insert(node) {
            open.extend(graph.inputs(node).iter().map(|v| v.node));
        }
    }
    let mut part = Graph { nodes: graph.nodes.clone(), outputs: Vec::new() };
    part.nodes.retain_nodes(|_, node| needed.contains(&node));
    let mut env = Env { seed, ..Env::default() };
    eval::eval(&program.tables, &part, &mut env).map_err(|m| Error::failed(format!("compiler bug: {m}")))?;
    Ok(env.slots.swap_remove(slot.0 as usize).into_iter().map(|v| v as f32).collect())
}

#[cfg(test)]
mod tests {
    use vjepac::ir::graph::{Dim, Outer, Slot, SlotKind, Tables, Type};
    use vjepac::ir::op::{DType, Dist};

    use super::*;

    #[test]
    fn every_store_gets_its_own_draws() {
        let slot = |key: &str| Slot { key: key.into(), shape: vec![4], kind: SlotKind::Unused };
        let mut program =
            Program { tables: Tables { slots: vec![slot("a"), slot("b")], ..Tables::default() }, ..Program::default() };
        let graph = &mut program.entries[Entry::Init as usize];
        let place = "".into();
        let deviation = graph.add(Op::Constant(0.02), &[], vec![Type::scalar(DType::F64)], None, &place);
        for (i, key) in ["a", "b"].iter().enumerate() {
            let ty = vec![Type::new(DType::F64, Outer::One, vec![Dim::fixed(4, "dim")])];
            let op = Op::Draw { dist: Dist::Normal, site: key.to_string() };
            let drawn = graph.add(op, &[deviation], ty.clone(), None, &place);
            graph.add(Op::Store(SlotId(i as u32)), &[drawn], ty, None, &place);
        }
        let contents = |seed| {
            let mut all = Vec::new();
            contents(&program, seed, |slot, data| {
                all.push((slot, data));
                Ok(())
            })
            .unwrap();
            all
        };
        let first = contents(3);
        assert_eq!(first.iter().map(|(id, data)| (id.0, data.len())).collect::<Vec<_>>(), [(0, 4), (1, 4)]);
        assert_ne!(first[0].1, first[1].1);
        assert_eq!(first, contents(3));
        assert_ne!(first, contents(4));

        // The same as the whole entry in one go.
        let mut env = Env { seed: 3, ..Env::default() };
        eval::eval(&program.tables, program.entry(Entry::Init), &mut env).unwrap();
        assert_eq!(env.slots[1].iter().map(|v| *v as f32).collect::<Vec<_>>(), first[1].1);
    }
}
