//! The update entry on the interpreter, with numbers from PyTorch's formulas worked by hand.

use super::*;
use crate::ir::eval::{Env, eval};
use crate::ir::graph::{ScalarId, ScalarSpec, Slot};
use crate::ir::verify::verify;
use crate::model::Schedule;

/// Sums of few f64 products.
const EXACT: f64 = 1e-12;

fn slot(key: &str, shape: &[usize], kind: SlotKind) -> Slot {
    Slot { key: key.into(), shape: shape.into(), kind }
}

/// Slots: w0 (decayed, network 0), b1 (not decayed, network 1), frozen f2, averages of all three, gradients, moments.
fn tables(moments: &[&str]) -> (Tables, ScalarIds) {
    let ids = ["lr", "weight_decay", "clip_grad", "step", "clips_share", "ema.target"];
    let scalars = ids.map(|name| ScalarSpec { name: name.into(), schedule: None, previous: false });
    let average = |of| SlotKind::Average { of: SlotId(of), momentum: ScalarId(5) };
    let mut slots = vec![
        slot("w", &[2], SlotKind::Trained { network: 0, decay: true }),
        slot("b", &[1], SlotKind::Trained { network: 1, decay: false }),
        slot("f", &[1], SlotKind::Frozen),
        slot("target.w", &[2], average(0)),
        slot("target.f", &[1], average(2)),
        slot("grad.w", &[2], SlotKind::Gradient { of: SlotId(0) }),
        slot("grad.b", &[1], SlotKind::Gradient { of: SlotId(1) }),
    ];
    for name in moments {
        for (of, shape) in [(0, 2), (1, 1)] {
            let kind = SlotKind::Moment { of: SlotId(of), name: (*name).into() };
            slots.push(slot(&format!("{name}.{of}"), &[shape], kind));
        }
    }
    let networks = vec!["encoder".into(), "predictor".into()];
    let tables = Tables { slots, networks, scalars: scalars.into(), ..Tables::default() };
    let [lr, decay, clip, step, share] = [0, 1, 2, 3, 4].map(ScalarId);
    (tables, ScalarIds { lr, decay, clip: Some(clip), step, share })
}

fn run(tables: &Tables, graph: &Graph, env: &mut Env) -> Vec<f64> {
    verify(tables, graph).unwrap();
    eval(tables, graph, env).unwrap().iter().map(|(_, t)| t.blocks[0][0]).collect()
}

fn close(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    for (f, e) in found.iter().zip(expected) {
        assert!((f - e).abs() <= EXACT, "{found:?}, expected {expected:?}");
    }
}

#[test]
fn adamw_clips_each_network_and_decays_weights_only() {
    let (tables, scalars) = tables(&["exp_avg", "exp_avg_sq"]);
    let c = || Schedule::Constant(0.0);
    let optimizer = Optimizer::Adamw { lr: c(), decay: c(), betas: (0.9, 0.99), eps: 0.5 };
    let graph = update(&tables, &optimizer, &scalars);
    let mut env = Env {
        scalars: vec![0.1, 0.2, 1.0, 2.0, 1.0, 0.75],
        slots: [[1.0, -2.0].to_vec(), vec![3.0], vec![8.0], vec![0.0, 0.0], vec![4.0], vec![3.0, 4.0], vec![0.5]]
            .into_iter()
            .chain([vec![0.1, 0.2], vec![0.3], vec![0.01, 0.02], vec![0.04]])
            .collect(),
        ..Env::default()
    };
    let norms = run(&tables, &graph, &mut env);
    close(&norms, &[5.0, 0.5]);
    let adam = |w: f64, m: f64, v: f64, g: f64, decay: f64| {
        let (m, v) = (0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g * g);
        let step = 0.1 * (m / (1.0 - 0.81)) / ((v / (1.0 - 0.99 * 0.99)).sqrt() + 0.5);
        (w * (1.0 - 0.1 * decay) - step, m, v)
    };
    let factor = 1.0 / (5.0 + 1e-6);
    let w0 = adam(1.0, 0.1, 0.01, 3.0 * factor, 0.2);
    let w1 = adam(-2.0, 0.2, 0.02, 4.0 * factor, 0.2);
    let b = adam(3.0, 0.3, 0.04, 0.5, 0.0);
    close(&env.slots[0], &[w0.0, w1.0]);
    close(&env.slots[1], &[b.0]);
    close(&env.slots[7], &[w0.1, w1.1]);
    close(&env.slots[9], &[w0.2, w1.2]);
    // Averages follow the new weight, and what nothing updates.
    close(&env.slots[3], &[0.25 * w0.0, 0.25 * w1.0]);
    close(&env.slots[4], &[0.75 * 4.0 + 0.25 * 8.0]);
    close(&env.slots[2], &[8.0]);
}

#[test]
fn sgd_with_and_without_momentum() {
    for momentum in [0.0, 0.5] {
        let (tables, scalars) = tables(if momentum == 0.0 { &[] } else { &["momentum_buffer"] });
        let c = || Schedule::Constant(0.0);
        let optimizer = Optimizer::Sgd { lr: c(), decay: c(), momentum };
        let graph = update(&tables, &optimizer, &ScalarIds { clip: None, ..scalars });
        let mut env = Env {
            scalars: vec![0.1, 0.2, 1.0, 2.0, 1.0, 0.75],
            slots: vec![vec![1.0, -2.0], vec![3.0], vec![8.0], vec![0.0; 2], vec![4.0], vec![3.0, 4.0], vec![0.5]],
            ..Env::default()
        };
        if momentum != 0.0 {
            env.slots.extend([vec![10.0, 20.0], vec![30.0]]);
        }
        run(&tables, &graph, &mut env);
        let v = [momentum * 10.0 + 3.0, momentum * 20.0 + 4.0, momentum * 30.0 + 0.5];
        close(&env.slots[0], &[0.98 - 0.1 * v[0], -1.96 - 0.1 * v[1]]);
        close(&env.slots[1], &[3.0 - 0.1 * v[2]]);
        if momentum != 0.0 {
            close(&env.slots[7], &v[..2]);
        }
    }
}
