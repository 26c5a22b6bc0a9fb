//! The shipped models: keys, shapes, counts and schedules as published.

use std::collections::BTreeMap;

use super::*;
use crate::model::{Init, NodeOp, Optimizer, WeightKind};

/// Keys and stored shapes of a transformer's blocks.
fn blocks(prefix: &str, depth: usize, dim: usize, out: &mut BTreeMap<String, Vec<usize>>) {
    for i in 0..depth {
        for (key, shape) in [
            ("norm1.weight", vec![dim]),
            ("norm1.bias", vec![dim]),
            ("attn.qkv.weight", vec![3 * dim, dim]),
            ("attn.qkv.bias", vec![3 * dim]),
            ("attn.proj.weight", vec![dim, dim]),
            ("attn.proj.bias", vec![dim]),
            ("norm2.weight", vec![dim]),
            ("norm2.bias", vec![dim]),
            ("mlp.fc1.weight", vec![4 * dim, dim]),
            ("mlp.fc1.bias", vec![4 * dim]),
            ("mlp.fc2.weight", vec![dim, 4 * dim]),
            ("mlp.fc2.bias", vec![dim]),
        ] {
            out.insert(format!("{prefix}.{i}.{key}"), shape);
        }
    }
}

/// An encoder as facebookresearch/jepa and facebookresearch/ijepa store it.
fn encoder(tokens: usize, dim: usize, depth: usize, kernel: &[usize]) -> BTreeMap<String, Vec<usize>> {
    let mut out = BTreeMap::new();
    out.insert("pos_embed".into(), vec![1, tokens, dim]);
    out.insert("patch_embed.proj.weight".into(), [&[dim], kernel].concat());
    out.insert("patch_embed.proj.bias".into(), vec![dim]);
    blocks("blocks", depth, dim, &mut out);
    out.insert("norm.weight".into(), vec![dim]);
    out.insert("norm.bias".into(), vec![dim]);
    out
}

/// A predictor as they store it.
fn predictor(tokens: usize, from: usize, dim: usize, depth: usize, queries: &[&str]) -> BTreeMap<String, Vec<usize>> {
    let mut out = BTreeMap::new();
    for (key, shape) in [
        ("predictor_embed.weight", vec![dim, from]),
        ("predictor_embed.bias", vec![dim]),
        ("predictor_pos_embed", vec![1, tokens, dim]),
        ("predictor_norm.weight", vec![dim]),
        ("predictor_norm.bias", vec![dim]),
        ("predictor_proj.weight", vec![from, dim]),
        ("predictor_proj.bias", vec![from]),
    ] {
        out.insert(key.into(), shape);
    }
    out.extend(queries.iter().map(|q| (q.to_string(), vec![1, 1, dim])));
    blocks("predictor_blocks", depth, dim, &mut out);
    out
}

/// What a model stores under a field.
fn stored(model: &Model, field: &str) -> BTreeMap<String, Vec<usize>> {
    let under = |w: &model::Weight| w.key.strip_prefix(&format!("{field}.")).map(|k| (k.to_string(), w.stored.clone()));
    model.weights.iter().filter_map(under).collect()
}

fn trained(model: &Model, field: &str) -> usize {
    let under = model.weights.iter().filter(|w| w.key.starts_with(&format!("{field}.")));
    under.filter(|w| matches!(w.kind, WeightKind::Trained(_))).map(|w| w.stored.iter().product::<usize>()).sum()
}

#[test]
fn vjepa_keys_shapes_and_counts_are_the_published_ones() {
    let m = good(VITL16, "vjepa_vitl16");
    let want = encoder(1568, 1024, 24, &[3, 2, 16, 16]);
    assert_eq!(want.len(), 293);
    assert_eq!(stored(&m, "encoder"), want);
    assert_eq!(stored(&m, "target_encoder"), want);
    let want = predictor(1568, 1024, 384, 12, &["mask_tokens.0", "mask_tokens.1"]);
    assert_eq!(want.len(), 153);
    assert_eq!(stored(&m, "predictor"), want);
    assert_eq!(trained(&m, "encoder"), 303_885_312);
    assert_eq!(trained(&m, "predictor"), 22_082_944);
    assert_eq!(m.networks, ["encoder", "predictor"]);
}

#[test]
fn probe_keys_are_the_published_ones() {
    let m = good("models/probe-k400.vjepa", "k400_probe");
    let x = "pooler.cross_attention_block.";
    let (d, mut want) = (1024, BTreeMap::new());
    want.insert("pooler.query_tokens".to_string(), vec![1, 1, d]);
    want.insert("linear.weight".into(), vec![400, d]);
    want.insert("linear.bias".into(), vec![400]);
    for (key, rows, columns) in
        [("xattn.q", d, d), ("xattn.kv", 2 * d, d), ("xattn.proj", d, d), ("mlp.fc1", 4 * d, d), ("mlp.fc2", d, 4 * d)]
    {
        want.insert(format!("{x}{key}.weight"), vec![rows, columns]);
        want.insert(format!("{x}{key}.bias"), vec![rows]);
    }
    for key in ["norm1", "norm2"] {
        want.insert(format!("{x}{key}.weight"), vec![d]);
        want.insert(format!("{x}{key}.bias"), vec![d]);
    }
    assert_eq!(want.len(), 17);
    assert_eq!(stored(&m, "head"), want);
    assert_eq!(m.networks, ["head"]);
    let encoder = m.weights.iter().filter(|w| w.key.starts_with("encoder."));
    assert!(
        encoder.clone().count() == 293
            && encoder.clone().all(|w| matches!(w.kind, WeightKind::Frozen | WeightKind::Buffer))
    );
}

#[test]
fn ijepa_keys_are_the_published_ones() {
    let m = good("models/ijepa.vjepa", "ijepa_vith14");
    let want = encoder(256, 1280, 32, &[3, 14, 14]);
    assert_eq!((want.len(), stored(&m, "encoder")), (389, want));
    let want = predictor(256, 1280, 384, 12, &["mask_token"]);
    assert_eq!((want.len(), stored(&m, "predictor")), (152, want));
    assert_eq!(m.masks[0].target_extra.len(), 1, "four targets ride along");
}

#[test]
fn groups_are_stored_flat_and_can_be_spelt_out() {
    let m = good(VITL16, "vjepa_vitl16");
    let qkv = m.weights.iter().find(|w| w.key == "encoder.blocks.0.attn.qkv.weight").expect("there");
    assert_eq!((&qkv.stored[..], &qkv.expanded[..]), (&[3072, 1024][..], &[3, 16, 64, 1024][..]));
}

#[test]
fn every_average_follows_the_weight_of_its_name() {
    let m = good(VITL16, "vjepa_vitl16");
    let mut count = 0;
    for w in &m.weights {
        if let WeightKind::Average(of, 0) = w.kind {
            let of = &m.weights[of.0 as usize];
            assert_eq!(w.key.strip_prefix("target_"), Some(of.key.as_str()));
            assert!(matches!(of.kind, WeightKind::Trained(0)));
            count += 1;
        }
    }
    assert_eq!(count, 292, "all but the table of positions");
    assert_eq!(m.averages[0].name, "target_encoder");
}

/// Schedules are sums and products of numbers of size one or less.
const SCHEDULE_TOLERANCE: f64 = 1e-12;

#[test]
fn schedules_agree_with_the_published_formulas() {
    let m = good(VITL16, "vjepa_vitl16");
    let Optimizer::Adamw { lr, decay, betas, eps } = &m.train.optimizer else { panic!("not adamw") };
    assert_eq!((*betas, *eps), ((0.9, 0.999), 1e-8));
    let (warmup, horizon, steps) = (12_000.0, 112_500.0, m.train.steps as f64);
    let cosine = |from: f64, to: f64, p: f64| to + (from - to) * 0.5 * (1.0 + (std::f64::consts::PI * p).cos());
    for i in 1..=90_000 {
        let s = f64::from(i);
        let want = if s < warmup {
            2e-4 + s / warmup * (6.25e-4 - 2e-4)
        } else {
            cosine(6.25e-4, 1e-6, (s - warmup) / (horizon - warmup)).max(1e-6)
        };
        assert!((lr.at(s, steps) - want).abs() < SCHEDULE_TOLERANCE, "lr at {i}");
        assert!((decay.at(s, steps) - cosine(0.04, 0.4, s / horizon)).abs() < SCHEDULE_TOLERANCE, "decay at {i}");
        let before = s - 1.0;
        let want = 0.998 + before * 0.002 / horizon;
        assert!((m.averages[0].momentum.at(before, steps) - want).abs() < SCHEDULE_TOLERANCE, "momentum at {i}");
    }
    let clip = m.train.clip_grad.as_ref().expect("clipped");
    assert_eq!((clip.at(12_300.0, steps), clip.at(12_301.0, steps)), (1e9, 10.0));
}

#[test]
fn training_settings_are_read() {
    let sets = [
        ("train.batch", "32 clips"),
        ("train.data", "(a: 0.25, b: 0.75)"),
        ("train.precision", "\"f32\""),
        ("train.warmup", "200"),
    ];
    let t = file(VITL16, None, &sets).unwrap_or_else(|e| panic!("{e}")).train;
    assert_eq!((t.batch, t.group, t.steps, t.seed), (32, Some(24), 90_000, 234));
    assert_eq!(t.data, [("a".to_string(), Some(0.25)), ("b".to_string(), Some(0.75))]);
    assert_eq!(t.precision, crate::ir::op::DType::F32);
    let Optimizer::Adamw { lr, .. } = &t.optimizer else { panic!("not adamw") };
    assert_eq!(lr.at(200.0, 90_000.0), 6.25e-4, "the warm-up followed `train.warmup`");
}

#[test]
fn all_models_elaborate() {
    for (path, names) in [
        ("models/tiny.vjepa", &["tiny"][..]),
        ("models/masking.vjepa", &["base", "random_tube", "causal_6", "causal_12", "moving"]),
        ("models/pixels.vjepa", &["pixels", "videomae"]),
        ("models/probe-k400.vjepa", &["k400_probe", "k400_average", "k400_finetune"]),
        ("examples/variants/rope-swiglu.vjepa", &["rope_swiglu"]),
        ("examples/variants/causal.vjepa", &["causal"]),
        ("examples/variants/data2vec.vjepa", &["data2vec"]),
        ("examples/variants/divided-attention.vjepa", &["ts"]),
        ("examples/variants/levels.vjepa", &["levels"]),
        ("examples/variants/registers.vjepa", &["registers", "with_cls"]),
        ("examples/variants/taps.vjepa", &["watched", "four_layers"]),
        ("examples/variants/two-stream.vjepa", &["two_stream"]),
        ("examples/variants/vit-b.vjepa", &["vitb", "more"]),
        ("examples/variants/vjepa2.vjepa", &["vjepa2_vitl16"]),
        ("examples/variants/vjepa21.vjepa", &["vjepa21"]),
    ] {
        for name in names {
            let m = good(path, name);
            assert_eq!(m.name, *name);
            operands_come_first(&m);
        }
    }
}

/// Nodes name only nodes before them, and buffers only nodes that exist.
fn operands_come_first(m: &Model) {
    for (i, node) in m.nodes.iter().enumerate() {
        assert!(node.inputs.iter().all(|n| (n.0 as usize) < i), "{}: node {i}", m.name);
        if let NodeOp::Weight(w) = node.op {
            assert_eq!(m.weights[w.0 as usize].axes, node.axes);
        }
    }
    for w in &m.weights {
        if let Init::Computed(n) = w.init {
            assert_eq!(m.node(n).axes, w.axes, "{}", w.key);
        }
    }
}

#[test]
fn masks_are_run_over_at_once() {
    let m = good(VITL16, "vjepa_vitl16");
    let names: Vec<&str> = m.masks.iter().map(|m| m.name.as_str()).collect();
    assert_eq!((names, m.sets.clone()), (vec!["short", "long"], vec![vec![0, 1]]));
    assert!(m.nodes.iter().any(|n| n.op == NodeOp::OverMasks { mean: true }));
    assert_eq!(m.masks[0].require.len(), 1);
    let loss = m.node(m.loss);
    assert!(loss.axes.is_empty() && loss.outer == crate::ir::graph::Outer::Clips);
}

#[test]
fn fine_tuning_trains_the_encoder_of_another_model() {
    let m = good("models/probe-k400.vjepa", "k400_finetune");
    assert_eq!(m.networks, ["encoder", "head"]);
    assert_eq!(m.sources.len(), 2);
    assert!(m.averages.is_empty());
}

#[test]
fn the_same_text_gives_the_same_model() {
    let (a, b) = (good("models/tiny.vjepa", "tiny"), good("models/tiny.vjepa", "tiny"));
    assert_eq!(format!("{a:?}"), format!("{b:?}"));
}
