//! Rules of the language, one small model each.

use super::*;
use crate::ir::graph::Outer;
use crate::ir::op::{BinaryOp, Dist};
use crate::model::{NodeOp, WeightKind};

fn accepts(lines: &str) -> Model {
    small(lines).unwrap_or_else(|e| panic!("{lines}\n{e}"))
}

fn count(m: &Model, is: impl Fn(&NodeOp) -> bool) -> usize {
    m.nodes.iter().filter(|n| is(&n.op)).count()
}

#[test]
fn equal_sizes_are_not_equal_axes() {
    let found =
        wrong("proj = linear(encoder.dim -> other) other = 8, loss = mean(proj(encoder(image)) - encoder(image))");
    assert!(found.starts_with("V0205 `-` would need an outer product of"), "{found}");
    accepts("proj = linear(encoder.dim -> encoder.dim) loss = mean(proj(encoder(image)) - encoder(image))");
}

#[test]
fn a_linear_layer_without_bias_adds_nothing() {
    let m = accepts("proj = linear(encoder.dim -> 4, bias = false) loss = mean(proj(encoder(image)))");
    assert!(m.weights.iter().any(|w| w.key == "proj.weight"));
    assert!(!m.weights.iter().any(|w| w.key == "proj.bias"));
    let last = m.nodes.iter().rposition(|n| matches!(n.op, NodeOp::Dot(_))).unwrap();
    assert!(!m.nodes[last..].iter().any(|n| n.op == NodeOp::Binary(BinaryOp::Add)));
}

#[test]
fn comprehensions_run_over_axes_in_the_order_written() {
    let m = accepts("y = [ encoder(image)[tokens = 0] * r for c in cols, r in rows ] loss = mean(y)");
    let axes: Vec<&str> =
        m.node(m.taps.iter().find(|t| t.name == "y").unwrap().node).axes.iter().map(|a| &*m.axis(*a).name).collect();
    assert_eq!(axes, ["cols", "rows", "dim"]);
}

#[test]
fn an_unread_field_of_a_block_is_stored_only_if_its_name_says_so() {
    let m = good("models/probe-k400.vjepa", "k400_probe");
    let w = m.weights.iter().find(|w| w.key.ends_with("xattn.proj.weight")).unwrap();
    assert_eq!(w.kind, WeightKind::Trained(0));
}

#[test]
fn parts_that_nothing_reaches_are_not_built() {
    let m = accepts("_other = linear(encoder.dim -> 4) loss = mean(encoder(image))");
    assert!(m.weights.iter().all(|w| w.key.starts_with("encoder.")));
}

#[test]
fn whole_bounds_give_whole_draws() {
    let m = good("models/masking.vjepa", "moving");
    let dist = |name: &str| {
        m.nodes.iter().find_map(|n| match &n.op {
            NodeOp::Draw { dist, name: found } if &**found == name => Some(*dist),
            _ => None,
        })
    };
    assert_eq!((dist("y0"), dist("vy")), (Some(Dist::Whole), Some(Dist::Uniform)));
}

#[test]
fn draws_are_per_clip_unless_shared() {
    let m = good(VITL16, "vjepa_vitl16");
    for n in &m.nodes {
        if let NodeOp::Draw { name, .. } = &n.op {
            assert_eq!(n.outer, if &**name == "a" { Outer::One } else { Outer::Clips }, "{name}");
        }
    }
}

const DRAW: &str = "mask = ijepa(tokens, targets = 2)";

#[test]
fn every_run_over_the_same_masks_sees_the_same_draw() {
    let m = accepts(&format!(
        "{DRAW} hs = [ encoder(image, z.context) for z ~ [mask] ]
         loss = mean([ mean(hs[i]) - mean(encoder(image)[tokens in z.target]) for i, z ~ [mask] ])"
    ));
    assert_eq!((m.masks.len(), m.sets.len()), (1, 1));
    assert_eq!(count(&m, |op| matches!(op, NodeOp::OverMasks { .. })), 1);
}

#[test]
fn masks_of_different_kinds_are_run_over_one_by_one() {
    let source = format!(
        "from std.image import vit2d
         from std.masks import ijepa
         mask half(tokens: (rows, cols)) {{ target = [ r < 2 for r in rows, c in cols ] context = not target }}
         model m {{
           image = image(size = 8 px)
           tokens = (rows: 4, cols: 4)
           encoder = vit2d(tokens, patch = 2 px, dim = 8, depth = 1, heads = 2)
           loss = mean([ mean(encoder(image)[tokens in z.target]) for z ~ [half(tokens), ijepa(tokens, targets = 2)] ])
           {TRAIN}
         }}"
    );
    let m = text(&source, None, &[]).unwrap();
    assert_eq!(m.sets, [[0], [1]]);
    assert_eq!(m.node(m.loss).outer, Outer::Clips);
}

#[test]
fn a_place_in_a_list_that_must_be_known_is_known() {
    let m = accepts(&format!(
        "{DRAW} scale = [1, 10] loss = mean([ scale[i] * mean(encoder(image, z.context)) for i, z ~ [mask, mask] ])"
    ));
    assert_eq!(m.sets, [[0], [1]]);
}

#[test]
fn joined_axes_can_be_taken_apart() {
    let m = accepts(&format!(
        "{DRAW} loss = mean([ mean((encoder(image)[tokens in z.context] ++ encoder(image)[tokens in z.target])[target]) for z ~ [mask] ])"
    ));
    assert_eq!(count(&m, |op| matches!(op, NodeOp::Part(_, false))), 1);
    let found = wrong("loss = mean((encoder(image) ++ encoder(image))[tokens])");
    assert!(found.starts_with("V0205 `++` needs an axis that only one side has"), "{found}");
}

#[test]
fn index_sets_belong_to_their_grid() {
    let found = wrong(&format!("{DRAW} loss = mean([ mean(encoder(image)[dim in z.target]) for z ~ [mask] ])"));
    assert!(found.starts_with("V0207 these are indices into `tokens` (16), not into `dim` (8)"), "{found}");
}

#[test]
fn an_average_needs_its_block_in_the_model() {
    let m = accepts("follow = ema(encoder, 0.9) loss = mean(stop(follow(image)) - encoder(image))");
    assert_eq!(m.averages.len(), 1);
    assert_eq!(m.networks, ["encoder"]);
}

#[test]
fn two_fields_are_two_sets_of_weights_and_one_field_is_one() {
    let m = accepts("a = linear(encoder.dim -> encoder.dim) b = a loss = mean(b(a(encoder(image))))");
    assert_eq!(m.weights.iter().filter(|w| w.key.ends_with("weight") && !w.key.starts_with("encoder.")).count(), 1);
    let m = accepts(
        "a = linear(encoder.dim -> encoder.dim) b = linear(encoder.dim -> encoder.dim) loss = mean(b(a(encoder(image))))",
    );
    assert_eq!(m.networks, ["encoder", "a", "b"]);
}

#[test]
fn own_weights_are_a_network_called_model() {
    let m = accepts("param scale: [1] = 2, loss = mean(encoder(image)) * scale");
    assert_eq!(m.networks, ["encoder", "model"]);
    assert!(m.weights.iter().any(|w| w.key == "model.scale" && w.stored == [1]));
}
