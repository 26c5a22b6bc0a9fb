//! Which values are computed again when memory is short.
//!
//! At the fullest moment of a step much of what lives is waiting: written long before, and not read until long after. Each
//! such value could be computed again from what will be there when it is read, for the arithmetic of everything on the
//! way. Those that give back the most room for the least arithmetic are chosen until that moment fits; then the entry is
//! planned anew, and the next moment looked at. Chosen one by one so, the inner values of a transformer's layers go first
//! (the hidden layer of the feed-forward network, queries, keys and values), then whole layers but for their input, then
//! inputs of layers too (Chen et al. 2016, "Training deep nets with sublinear memory cost", chooses layers only).

use std::collections::{BTreeSet, HashMap};

use super::arena::{Span, living};
use super::recompute::{NEAR, SLACK, cheap, is_shown};
use super::{Home, Plan};
use crate::ir::graph::{Graph, Value};
use crate::ir::kind::Kind;
use petgraph::stable_graph::NodeIndex;

/// Nodes that one value may take to compute again.
const LONGEST: usize = 400;

/// A planned step, and what it costs.
pub struct Moment<'a> {
    /// The entry's graph as it was before anything was copied.
    pub graph: &'a Graph,
    /// Its plan at present.
    pub plan: &'a Plan,
    /// What lives through which steps, the memory of kernels too.
    pub spans: &'a [Span],
    /// Words that a value takes.
    pub words: &'a dyn Fn(usize) -> usize,
    /// Arithmetic of a node, in operations.
    pub work: &'a dyn Fn(NodeIndex) -> f64,
}

/// Adds to `again` values that give back `over` words at the fullest moment, or as many as there are, but those `tried`
/// in vain. The values chosen.
pub fn choose(
    moment: &Moment,
    over: usize,
    tried: &BTreeSet<NodeIndex>,
    again: &mut BTreeSet<NodeIndex>,
) -> BTreeSet<NodeIndex> {
    let living = living(moment.spans);
    let Some(fullest) = (0..living.len()).max_by_key(|s| (living[*s], std::cmp::Reverse(*s))) else {
        return BTreeSet::new();
    };
    let lives = Lives::new(moment.plan);
    let mut choices: Vec<Choice> = lives
        .waiting(moment, fullest)
        .filter_map(|(node, read, words)| {
            let way = Way::to(moment, &lives, node, read)?;
            // What is computed again already counts too: it must be there earlier than now.
            let work: f64 = way.nodes.iter().map(|n| (moment.work)(*n)).sum();
            let new = !tried.contains(&node) && way.nodes.iter().any(|n| !again.contains(n));
            new.then_some(Choice { node, words, work, way })
        })
        .collect();
    choices.sort_by(|a, b| (a.work * b.words as f64).total_cmp(&(b.work * a.words as f64)).then(a.node.cmp(&b.node)));
    let (mut given, mut chosen, mut leaned) = (0, BTreeSet::new(), BTreeSet::new());
    for choice in choices {
        if given >= over {
            break;
        }
        // What one choice is computed from cannot be given back by another.
        if leaned.contains(&choice.node) || choice.way.from.iter().any(|n| chosen.contains(n)) {
            continue;
        }
        given += choice.words;
        chosen.insert(choice.node);
        leaned.extend(choice.way.from);
        again.extend(choice.way.nodes);
    }
    chosen
}

struct Choice {
    node: NodeIndex,
    words: usize,
    work: f64,
    way: Way,
}

/// When the values of a plan are written and read.
struct Lives {
    /// By root: the step that writes it, those that read it, in order.
    by_root: HashMap<usize, (usize, Vec<usize>)>,
    /// By node: the last step that reads one of its results.
    last: HashMap<NodeIndex, usize>,
}

impl Lives {
    fn new(plan: &Plan) -> Lives {
        let mut lives = Lives { by_root: HashMap::new(), last: HashMap::new() };
        let mut writer = HashMap::new();
        for (s, step) in plan.steps.iter().enumerate() {
            for &value in &step.outputs {
                lives.by_root.insert(value, (s, vec![]));
                writer.insert(value, step.node);
                lives.last.entry(step.node).or_insert(s);
            }
            for root in step.inputs.iter().map(|v| plan.root(*v)) {
                if let Some((_, reads)) = lives.by_root.get_mut(&root) {
                    reads.push(s);
                    lives.last.insert(writer[&root], s);
                }
            }
        }
        lives
    }

    /// Values that wait through step `at`: their node, the step that reads them next, their words.
    fn waiting<'a>(&'a self, moment: &'a Moment, at: usize) -> impl Iterator<Item = (NodeIndex, usize, usize)> + 'a {
        let values: BTreeSet<usize> = self.by_root.keys().copied().collect();
        values.into_iter().filter_map(move |value| {
            let (written, reads) = &self.by_root[&value];
            let node = moment.plan.steps[*written].node;
            let next = *reads.iter().find(|r| **r >= at)?;
            let before = reads.iter().rfind(|r| **r < at).copied().unwrap_or(*written).max(*written);
            let kept = matches!(moment.plan.values[value].home, Home::Arena(_)) && before < at;
            let far = next > at && next > before + NEAR && next > written + NEAR;
            let ours = moment.graph.nodes.contains_node(node) && !is_shown(moment.graph, node);
            (kept && far && ours).then(|| (node, next, (moment.words)(value)))
        })
    }
}

/// What is to be computed again for one value.
struct Way {
    /// The nodes, the value's own one too.
    nodes: BTreeSet<NodeIndex>,
    /// Nodes whose results are there by then.
    from: BTreeSet<NodeIndex>,
}

impl Way {
    /// The way to a node's results at step `at`; `None` if there is none, or if it is too long.
    fn to(moment: &Moment, lives: &Lives, node: NodeIndex, at: usize) -> Option<Way> {
        let mut way = Way { nodes: BTreeSet::new(), from: BTreeSet::new() };
        let mut open = vec![node];
        while let Some(node) = open.pop() {
            if !way.nodes.insert(node) {
                continue;
            }
            if way.nodes.len() > LONGEST || moment.graph.nodes[node].op.is_effect() {
                return None;
            }
            for operand in moment.graph.inputs(node) {
                match there(moment.graph, lives, operand, at) {
                    Some(root) => way.from.extend(root),
                    None => open.push(operand.node),
                }
            }
        }
        way.nodes.retain(|n| *n == node || !cheap(moment.graph, *n) && moment.graph.nodes[*n].op.kind() != Kind::View);
        Some(way)
    }
}

/// `Some` if a value is there at a step, or nearly: the node that keeps it, if one does.
fn there(graph: &Graph, lives: &Lives, value: Value, at: usize) -> Option<Option<NodeIndex>> {
    match graph.op(value).kind() {
        Kind::Leaf => Some(None),
        Kind::View => there(graph, lives, graph.inputs(value.node)[0], at),
        Kind::Elementwise | Kind::Join | Kind::Move | Kind::Product => kept(lives, value.node, at),
        Kind::Reduction | Kind::Norm | Kind::Attention | Kind::Effect(_) => kept(lives, value.node, at),
    }
}

fn kept(lives: &Lives, node: NodeIndex, at: usize) -> Option<Option<NodeIndex>> {
    lives.last.get(&node).is_some_and(|last| last + SLACK >= at).then_some(Some(node))
}
