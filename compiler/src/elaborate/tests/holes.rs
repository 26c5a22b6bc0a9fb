//! Names at a call, `with` and lists, and the small things that examples asked for.

use super::*;
use crate::ir::op::ReduceOp;
use crate::model::{NodeOp, Schedule};

fn accepts(lines: &str) -> Model {
    small(lines).unwrap_or_else(|e| panic!("{lines}\n{e}"))
}

fn axes(m: &Model, name: &str) -> Vec<String> {
    let tap = m.taps.iter().find(|t| t.name == name).unwrap_or_else(|| panic!("no {name}"));
    let mut names: Vec<String> = m.node(tap.node).axes.iter().map(|a| m.axis(*a).name.to_string()).collect();
    names.sort();
    names
}

/// A model with definitions beside it.
fn beside(defs: &str, lines: &str) -> Result<Model, String> {
    let source = format!(
        "from std.nn import linear, attention
         {defs}
         model m {{
           image = image(size = 8 px)
           {lines}
           {TRAIN}
         }}"
    );
    text(&source, None, &[])
}

#[test]
fn a_call_renames_for_its_duration() {
    let lines = "dim = 8
        x = image[rgb -> space, width -> dim]
        attn = attention(dim, heads = 2)
        over_rows  = attn[height -> tokens](x)
        over_space = attn[space -> tokens](x)
        loss = mean(over_rows) + mean(over_space)";
    let m = beside("", lines).unwrap();
    assert_eq!(axes(&m, "over_rows"), ["dim", "height", "space"]);
    assert_eq!(axes(&m, "over_space"), ["dim", "height", "space"]);
    let found = beside("", &lines.replace("height -> tokens", "heigth -> tokens")).err().unwrap_or_default();
    assert!(found.starts_with("V0204 this tensor has no axis called `heigth`"), "{found}");
    // Without a name it is not clear which axis is meant.
    let found = beside("", &lines.replace("attn[height -> tokens](x)", "attn(x)")).err().unwrap_or_default();
    assert!(found.starts_with("V0203 `tokens` of `attention` could be any of"), "{found}");
}

#[test]
fn a_joined_axis_is_renamed_at_a_call() {
    let lines = "dim = 8
        x = image[rgb = 0][width -> dim]
        param c: [cls, dim] = 0
        cls = 2
        attn = attention(dim, heads = 2)
        y = attn[(cls, height) -> tokens](c ++ x)
        loss = mean(y[height]) + mean(y[cls])";
    let m = beside("", lines).unwrap();
    assert_eq!(axes(&m, "y"), ["cls|height", "dim"]);
}

#[test]
fn the_callers_own_header_names_an_axis_for_its_calls() {
    let defs = "block outer(dim) { attn = attention(dim, heads = 2) forward(x: [tokens, dim]) = attn(x) }";
    let lines = "dim = 8, x = image[rgb -> more, width -> dim] net = outer(dim) loss = mean(net[more -> tokens](x))";
    beside(defs, lines).unwrap();
}

#[test]
fn every_part_of_a_join_can_be_taken_back() {
    let lines = "dim = 8
        x = image[rgb = 0][width -> dim]
        cls = 1, registers = 3
        param c: [cls, dim] = 0
        param r: [registers, dim] = 0
        all_ = c ++ r ++ x
        loss = mean(all_[cls]) + mean(all_[registers]) + mean(all_[height] - x)";
    let m = beside("", lines).unwrap();
    let parts = m.nodes.iter().filter(|n| matches!(n.op, NodeOp::Part(..))).count();
    assert_eq!(parts, 5, "one step to `height`, two to each of the others");
    // Static sizes join to a static size.
    let built = crate::build::build(&m, crate::build::Options::default());
    assert!(built.tables.counts.is_empty());
}

#[test]
fn an_index_set_is_asked_what_it_holds() {
    let lines = "masks = [ijepa(tokens, targets = 1)]
        param query: [encoder.dim] = 0
        loss = mean([ mean(query if [ p in z.context for p in tokens ] else encoder(image)) for z ~ masks ])";
    let m = accepts(lines);
    let held = m.nodes.iter().find(|n| matches!(n.op, NodeOp::Holds(..))).unwrap();
    assert_eq!(m.axis(held.axes[0]).name, "tokens".into());
    let other = lines.replace("p in tokens", "p in cols");
    let found = wrong(&other);
    assert!(
        found.starts_with("V0207 these are positions of `cols`, but the index set points into `tokens`"),
        "{found}"
    );
    // A single position is compared with every index.
    let one = lines.replace("[ p in z.context for p in tokens ]", "3 in z.context");
    assert!(accepts(&one).nodes.iter().any(|n| matches!(n.op, NodeOp::Reduce(ReduceOp::Any, _))));
    assert!(wrong("loss = mean(encoder(image)) if 3 in 4 else 0").starts_with("V0104 `in` needs an interval"));
}

#[test]
fn nothing_is_not_a_tensor() {
    let defs = "block maybe(dim) { forward(x: [dim], y = none) = x if y == none else x + y }";
    let lines = "dim = 8, x = image[width -> dim] net = maybe(dim) loss = mean(net(x)) + mean(net(x, x))";
    beside(defs, lines).unwrap();
}

#[test]
fn a_schedule_is_a_number_in_a_loss_and_in_a_mask() {
    let m = accepts("loss = (0 -> 1 over 5) * mean(encoder(image))");
    assert!(m.nodes.iter().any(|n| matches!(&n.op, NodeOp::Scheduled(Schedule::Over(..)))));
    let source = |area: &str| {
        format!(
            "from ./vjepa-vitl16 import vjepa_vitl16\nmodel m = vjepa_vitl16 with {{ encoder.depth = 1, predictor.depth = 1, masks.0.area = {area} }}"
        )
    };
    let m = text(&source("15% -> 30%"), None, &[]).unwrap();
    let draws = m.nodes.iter().filter(|n| matches!(&n.op, NodeOp::Draw { name, .. } if &**name == "top"));
    let whole = |n: &model::Node| matches!(n.op, NodeOp::Draw { dist: crate::ir::op::Dist::Whole, .. });
    assert!(draws.clone().count() == 2 && draws.clone().all(whole), "positions stay whole");
    let built = crate::build::build(&m, crate::build::Options::default());
    assert!(crate::check::check_masks(&m, &built).is_empty());
    let first = built.scalars_at(1, m.train.steps);
    assert_ne!(first, built.scalars_at(90_000, m.train.steps));
}

#[test]
fn lists_join_and_are_cut() {
    let m = accepts(
        "xs = [ encoder(image) * k for k in [1, 2, 3] ] ++ [encoder(image)] loss = mean(mean(xs[1..3])) + mean(max(xs))",
    );
    assert!(m.nodes.iter().any(|n| n.op == NodeOp::Binary(crate::ir::op::BinaryOp::Max)));
    accepts("xs = [ encoder(image) * i + x for i, x in [1, 2] ] loss = mean(stack[level](xs))");
    // Values of each mask are a list too.
    let masked = "n = 1, masks = [ijepa(tokens, targets = n), ijepa(tokens, targets = n)]
        xs = [ mean(encoder(image, z.context)) for z ~ masks ] ";
    accepts(&format!("{masked} loss = mean(xs[0..1] ++ xs)"));
    assert!(
        wrong("loss = mean([encoder(image)][0..2])").starts_with("V0104 this list has 1 items, so there is no 0..2")
    );
}

#[test]
fn with_takes_every_statement() {
    let base = |lines: &str| {
        let source = format!(
            "from ./tiny import tiny\nfrom std.masks import tube\nmodel m = tiny with {{ encoder.depth = 1, predictor.depth = 1, {lines} }}"
        );
        text(&source, Some("m"), &[])
    };
    let m = base("masks = masks ++ [tube(tokens)], metric twice = 2 * loss, loss = loss + 0.1 * mean(y ^ 2)").unwrap();
    assert_eq!((m.masks.len(), m.metrics.len()), (3, 2));
    let m = base("param scale: [1] = 1, loss = loss * scale").unwrap_or_else(|e| panic!("{e}"));
    assert!(m.weights.iter().any(|w| w.key == "model.scale"));
    let m = base("extra { weight = 0.5, power = 2 } loss = loss + extra.weight * mean(y ^ extra.power)").unwrap();
    assert!(m.nodes.iter().any(|n| n.op == NodeOp::Number(0.5)));
    let found = base("extra { weight = 0.5, powr = 2 } loss = loss + extra.weight * mean(y)").err().unwrap_or_default();
    assert!(found.starts_with("V0103 `extra` has no field called `powr`"), "{found}");
    assert!(
        base("extra { weight = 0.5 }")
            .err()
            .unwrap_or_default()
            .starts_with("V0103 `vjepa_vitl16` has no field called `extra`")
    );
    assert!(base("require encoder.dim < 10 : \"too wide\"").err().unwrap_or_default().starts_with("V0201 too wide"));
    base("train.clip_grad = 3").unwrap();
}

#[test]
fn a_path_through_a_definition_changes_its_defaults() {
    let m = file("models/probe-k400.vjepa", Some("k400_probe"), &[("head.pooler.heads", "8"), ("encoder.depth", "1")])
        .unwrap();
    assert!(m.weights.iter().any(|w| w.key.starts_with("head.pooler") && w.expanded.contains(&8)));
}

#[test]
fn a_grid_is_set_as_it_is_written() {
    let m = file(
        VITL16,
        None,
        &[("encoder.depth", "1"), ("predictor.depth", "1"), ("clip.size", "32"), ("clip.frames", "4")],
    );
    assert!(m.is_ok());
    let set = ("encoder.tokens", "(time: 8, rows: 14, cols: 14)");
    let m = file("models/probe-k400.vjepa", Some("k400_probe"), &[set, ("encoder.depth", "1")]);
    assert!(m.is_ok(), "{}", m.err().unwrap_or_default());
}

#[test]
fn a_lint_is_silenced_on_its_line() {
    let check = |allow: &str| {
        let m = accepts(&format!("loss = mean((encoder(image) - encoder(image)) ^ 2)\n {allow}"));
        crate::check::check(&m).len()
    };
    assert_eq!((check(""), check("allow(V0501)")), (1, 0));
    assert!(wrong("loss = mean(encoder(image))\n allow(V0999)").starts_with("V0102 there is no lint `V0999` | V0999"));
}
