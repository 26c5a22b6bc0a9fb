//! `with`, `--set`, late binding.

use super::*;
use crate::model::NodeOp;

fn base(lines: &str) -> Result<Model, String> {
    text(
        &format!(
            "from ./vjepa-vitl16 import vjepa_vitl16\nmodel m = vjepa_vitl16 with {{ encoder {{ dim = 48, depth = 1, heads = 3 }} predictor {{ dim = 24, depth = 1, heads = 3 }} {lines} }}"
        ),
        None,
        &[],
    )
}

fn shape(m: &Model, key: &str) -> Vec<usize> {
    m.weights.iter().find(|w| w.key == key).unwrap_or_else(|| panic!("no weight {key}")).stored.clone()
}

#[test]
fn what_is_computed_from_a_changed_setting_follows() {
    let m = base("clip.size = 64 px").unwrap();
    assert_eq!(shape(&m, "encoder.blocks.0.mlp.fc1.weight"), [192, 48]);
    assert_eq!(shape(&m, "predictor.predictor_embed.weight"), [24, 48]);
    assert_eq!(shape(&m, "predictor.predictor_proj.weight"), [48, 24]);
    assert_eq!(shape(&m, "encoder.pos_embed"), [1, 128, 48]);
    assert_eq!(shape(&m, "target_encoder.pos_embed"), [1, 128, 48]);
}

#[test]
fn the_own_path_means_the_value_before() {
    let m = base("train.peak = 2 * train.peak, encoder.hidden = encoder.hidden / 2").unwrap();
    assert_eq!(shape(&m, "encoder.blocks.0.mlp.fc1.weight"), [96, 48]);
    let model::Optimizer::Adamw { lr, .. } = &m.train.optimizer else { panic!("not adamw") };
    assert_eq!(lr.at(12_000.0, 90_000.0), 2.0 * 6.25e-4);
}

#[test]
fn later_lines_win() {
    let m = base("encoder.depth = 3, encoder.depth = 2").unwrap();
    assert!(m.weights.iter().any(|w| w.key == "encoder.blocks.1.norm1.bias"));
    assert!(!m.weights.iter().any(|w| w.key == "encoder.blocks.2.norm1.bias"));
    let m = file(VITL16, None, &[("encoder.depth", "2"), ("encoder.depth", "1"), ("predictor.depth", "1")]).unwrap();
    assert!(!m.weights.iter().any(|w| w.key == "encoder.blocks.1.norm1.bias"));
}

#[test]
fn list_items_are_reached_by_position_and_all_at_once() {
    let blocks = |m: &Model| {
        let sizes = m.nodes.iter().filter(|n| matches!(&n.op, NodeOp::Draw { name, .. } if &**name == "top"));
        sizes.map(|n| m.bound(n.axes[0])).collect::<Vec<_>>()
    };
    assert_eq!(blocks(&base("masks.0.blocks = 5").unwrap()), [5, 2]);
    assert_eq!(blocks(&base("masks.*.blocks = 3").unwrap()), [3, 3]);
    assert_eq!(blocks(&base("short = short with { blocks = 2 * short.blocks }").unwrap()), [16, 2]);
    assert_eq!(blocks(&base("short.blocks = 7").unwrap()), [7, 2]);
}

#[test]
fn the_number_of_masks_gives_the_number_of_queries() {
    let m =
        file(VITL16, None, &[("masks", "[tube(tokens)]"), ("encoder.depth", "1"), ("predictor.depth", "1")]).unwrap();
    assert!(m.weights.iter().any(|w| w.key == "predictor.mask_tokens.0"));
    assert!(!m.weights.iter().any(|w| w.key == "predictor.mask_tokens.1"));
    assert_eq!(m.masks[0].name, "masks.0");
}

#[test]
fn a_mask_named_twice_is_drawn_twice() {
    let m = base("masks = [short, short]").unwrap();
    assert_eq!(m.masks.len(), 2);
    assert_eq!(m.masks[0].context, m.masks[1].context);
    assert_ne!(m.masks[0].name, m.masks[1].name);
}

#[test]
fn definitions_are_values_with_defaults_of_their_own() {
    let source = "from std.nn import mlp, relu
                  from ./vjepa-vitl16 import vjepa_vitl16
                  block thin = mlp with { hidden = 2 * dim }
                  model m = vjepa_vitl16 with { encoder { dim = 48, depth = 1, heads = 3, ffn = narrow } predictor.depth = 1 }
                  block narrow(dim, hidden) { inner = thin(dim, act = relu) forward(x: [dim]) = inner(x) }";
    let m = text(source, Some("m"), &[]).unwrap();
    assert_eq!(shape(&m, "encoder.blocks.0.mlp.inner.fc1.weight"), [96, 48]);
}

#[test]
fn a_new_field_needs_a_reader() {
    assert!(
        base("extra = 3, distance = distance")
            .unwrap_err()
            .starts_with("V0103 `vjepa_vitl16` has no field called `extra`")
    );
    base("scale = 3, loss = scale * loss").unwrap();
    assert!(base("train.extra = 3").unwrap_err().starts_with("V0103 `train` has no field called `extra`"));
    base("train.extra = 300, train.warmup = train.extra").unwrap();
}

#[test]
fn overrides_see_the_standard_library() {
    let m = file(VITL16, None, &[("distance", "smooth_l1"), ("encoder.depth", "1"), ("predictor.depth", "1")]).unwrap();
    assert!(m.nodes.iter().any(|n| n.op == NodeOp::Select && n.axes.len() == 2));
}

#[test]
fn models_are_listed_and_chosen_by_name() {
    let mut sources = Sources::default();
    let path = "models/masking.vjepa";
    let id = sources.add(path, Disk.load(path).unwrap());
    let names = models(&mut sources, &Disk, id).unwrap_or_else(|e| panic!("{}", brief(&sources, &e)));
    assert_eq!(names, ["base", "random_tube", "causal_6", "causal_12", "moving"]);
    assert!(file(path, None, &[]).unwrap_err().starts_with("V0102 this file defines several models"));
    assert!(file(path, Some("movin"), &[]).unwrap_err().starts_with("V0102"));
}
