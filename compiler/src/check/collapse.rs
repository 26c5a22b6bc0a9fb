//! Lint V0501: if every path from data to the loss goes through trained weights, a constant network has zero loss.
//!
//! A node is *free* if data reach it on some path on which nothing is combined with a value made of trained weights
//! alone. `stop` makes its input free: the optimiser cannot move it. One pass over the nodes, operands first.

use crate::diag::Diagnostic;
use crate::model::{Model, NodeOp, WeightKind};

pub fn check(model: &Model) -> Vec<Diagnostic> {
    let mut data = vec![false; model.nodes.len()];
    let mut trained = vec![false; model.nodes.len()];
    let mut free = vec![false; model.nodes.len()];
    for (i, node) in model.nodes.iter().enumerate() {
        let inputs: Vec<usize> = node.inputs.iter().map(|n| n.0 as usize).collect();
        let source = matches!(node.op, NodeOp::Source(_));
        let weight = matches!(&node.op, NodeOp::Weight(w)
            if matches!(model.weights[w.0 as usize].kind, WeightKind::Trained(_)));
        data[i] = source || inputs.iter().any(|j| data[*j]);
        let stopped = node.op == NodeOp::Stop;
        trained[i] = weight || (!stopped && inputs.iter().any(|j| trained[*j]));
        let weights_alone = |j: usize| trained[j] && !data[j];
        free[i] = source
            || (stopped && data[i])
            || inputs.iter().enumerate().any(|(place, j)| {
                free[*j] && inputs.iter().enumerate().all(|(other, k)| other == place || !weights_alone(*k))
            });
    }
    let loss = model.loss.0 as usize;
    if !data[loss] || free[loss] || !trained[loss] {
        return vec![];
    }
    vec![
        Diagnostic::warning(
            "V0501",
            "the target is computed by weights that are being trained",
            model.nodes[loss].span,
            "every path from data to this loss goes through trained weights, so a constant output has zero loss",
        )
        .help("compare with a moving average, `target_encoder = ema(encoder, 0.998 -> 1.0)`, or stop the gradient with `stop(...)`")
        .note("this is how joint-embedding models collapse; silence it with `stop` if it is what you want"),
    ]
}
