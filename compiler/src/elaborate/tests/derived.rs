//! Variants of blocks and masks: lines in their places, keys kept, mistakes on the line.

use super::*;
use crate::model::{NodeOp, WeightKind};

/// A small model with definitions of its own beside it.
fn beside(defs: &str, lines: &str) -> Result<Model, String> {
    let source = format!(
        "from std.nn import linear, layer_norm, attention, mlp, transformer, softmax, relu
         from std.image import vit2d
         from std.masks import ijepa
         {defs}
         model m {{
           image = image(size = 8 px)
           tokens = (rows: image.size / 2 px, cols: image.size / 2 px)
           {lines}
           {TRAIN}
         }}"
    );
    text(&source, None, &[])
}

const ENCODER: &str = "encoder = vit2d(tokens, patch = 2 px, dim = 8, depth = 2, heads = 2, attention = other)
                       loss = mean(encoder(image))";

fn accepts(defs: &str, lines: &str) -> Model {
    beside(defs, lines).unwrap_or_else(|e| panic!("{defs}\n{lines}\n{e}"))
}

fn rejects(defs: &str, lines: &str) -> String {
    match beside(defs, lines) {
        Ok(_) => panic!("`{defs}` with `{lines}` was accepted"),
        Err(e) => e,
    }
}

fn keys(m: &Model) -> Vec<&str> {
    m.weights.iter().map(|w| &*w.key).collect()
}

fn shape(m: &Model, key: &str) -> Vec<usize> {
    m.weights.iter().find(|w| w.key == key).unwrap_or_else(|| panic!("no {key} in {:?}", keys(m))).stored.clone()
}

#[test]
fn a_forward_is_replaced_and_the_parts_stay() {
    let defs = "block other = attention with {
        forward(x: [tokens, dim], at: [tokens, coord]) {
          q, k, v = unstack[part](qkv(x))
          past = at[coord = 0][tokens -> keys] <= spread[keys](at[coord = 0])
          score = dot[d](q, k[tokens -> keys])
          return proj(dot[keys](softmax[keys](score if past else -inf), v[tokens -> keys]))
        } }";
    let m = accepts(defs, ENCODER);
    assert!(m.nodes.iter().any(|n| n.op == NodeOp::Number(f64::NEG_INFINITY)));
    assert_eq!(shape(&m, "encoder.blocks.1.attn.qkv.weight"), [24, 8]);
}

#[test]
fn parts_weights_and_settings_are_added() {
    let defs = "block other(wide = 3 * dim) = attention with {
        gate = linear(dim -> wide)
        back = linear(wide -> dim)
        param scale \"gamma\": [dim] = 1
        forward(x: [tokens, dim], at = none) = proj(dot[part, heads, d](qkv(x), w)) * scale + back(relu(gate(x)))
        param w: [part: 3, heads, d] ~ trunc_normal(0.02)
      }";
    let found = beside(defs, ENCODER);
    assert!(found.is_err(), "`part: 3` is not a name of the attention block");
    let defs = "block other(wide = 3 * dim) = attention with {
        gate = linear(dim -> wide)
        back = linear(wide -> dim)
        param scale \"gamma\": [dim] = 1
        forward(x: [tokens, dim], at = none) = x * scale + back(relu(gate(x)))
      }";
    let m = accepts(defs, ENCODER);
    assert_eq!(shape(&m, "encoder.blocks.0.attn.gate.weight"), [24, 8]);
    assert_eq!(shape(&m, "encoder.blocks.0.attn.gamma"), [8]);
    let wider = ENCODER.replace("attention = other", "attention = other with { wide = 5 }");
    assert_eq!(shape(&accepts(defs, &wider), "encoder.blocks.0.attn.gate.weight"), [5, 8]);
}

#[test]
fn a_replaced_part_keeps_its_key_unless_the_line_gives_another() {
    let base = "block base(dim) {
        one \"first\" = linear(dim -> dim)
        param two \"second\": [dim] = 0
        forward(x: [dim]) = one(x) + two
      }";
    let lines = "dim = 8, part = other(dim) loss = mean(part(image[width -> dim])) + 0 * tokens";
    let key = |line: &str| {
        let m = accepts(&format!("{base} block other = base with {{ {line} }}"), lines);
        keys(&m).into_iter().map(str::to_string).collect::<Vec<_>>()
    };
    assert_eq!(key("one = linear(dim -> dim, bias = false)"), ["part.first.weight", "part.second"]);
    assert_eq!(key("one \"1\" = linear(dim -> dim, bias = false)"), ["part.1.weight", "part.second"]);
    assert_eq!(key("param two: [1, dim] = 0"), ["part.first.weight", "part.first.bias", "part.second"]);
    assert_eq!(key("two = 0"), ["part.first.weight", "part.first.bias"]);
    assert_eq!(key("two = 2 * two"), ["part.first.weight", "part.first.bias", "part.second"]);
    assert_eq!(key("one \"\" = linear(dim -> dim, bias = false)"), ["part.weight", "part.second"]);
}

#[test]
fn the_own_name_is_the_value_before() {
    let defs = "block residual(inner, dim) { scale = linear(dim -> dim, bias = false) forward(x: [dim]) = scale(x) + inner(x) }
        block other = transformer with { mlp = residual(mlp, dim) }
        block net = vit2d with { blocks = [ other(dim, heads) for i in depth ] }";
    let lines = ENCODER.replace("vit2d(", "net(").replace("attention = other", "attention = attention");
    let m = accepts(defs, &lines);
    assert_eq!(shape(&m, "encoder.blocks.1.mlp.scale.weight"), [8, 8]);
    assert_eq!(shape(&m, "encoder.blocks.1.mlp.fc1.weight"), [32, 8]);
    assert!(m.weights.iter().all(|w| matches!(w.kind, WeightKind::Trained(0) | WeightKind::Buffer)));
}

#[test]
fn a_header_that_repeats_a_setting_replaces_it() {
    let defs = "block other(dim, hidden = 2 * dim, act = relu) = mlp with { }";
    let m = accepts(
        defs,
        &ENCODER.replace("attention = other", "ffn = thin with { hidden = 2 * dim }").replace("thin", "other"),
    );
    assert_eq!(shape(&m, "encoder.blocks.0.mlp.fc1.weight"), [16, 8]);
}

#[test]
fn a_variant_in_place_sees_where_it_stands() {
    let lines = "scale = 3
        encoder = (vit2d with { pos = spread[tokens, dim](scale) })(tokens, patch = 2 px, dim = 8, depth = 1, heads = 2)
        loss = mean(encoder(image))";
    let m = accepts("", lines);
    assert!(keys(&m).iter().all(|k| !k.contains("pos_embed")));
    assert!(m.nodes.iter().any(|n| n.op == NodeOp::Number(3.0)));
}

#[test]
fn lines_see_their_own_file_before_the_base() {
    // `relu` of the variant's file, not of the library.
    let defs = "fn silu(x) = 7 * x
        block other = mlp with { forward(x: [dim]) = fc2(silu(fc1(x))) }
        block net = transformer with { mlp = other(dim, hidden) }";
    let lines = ENCODER.replace("attention = other", "ffn = other");
    assert!(accepts(defs, &lines).nodes.iter().any(|n| n.op == NodeOp::Number(7.0)));
    // What only the base's file imports is found behind it.
    let defs = "block net = vit2d with { blocks = [ transformer(dim, heads, ffn = mlp) for i in depth ]
                                             forward(image: [height, width, rgb]) = norm(blocks(patch_embed(image))) + mean(sincos2d(rows, cols, dim)) }";
    let lines = ENCODER.replace("vit2d(", "net(").replace(", attention = other", "");
    accepts(defs, &lines);
}

#[test]
fn masks_have_variants_too() {
    let defs = "mask wider = ijepa with { h = rows - 1, require count(context) > 2 }";
    let lines = "encoder = vit2d(tokens, patch = 2 px, dim = 8, depth = 1, heads = 2)
        masks = [wider(tokens, targets = 1)]
        loss = mean([ mean(encoder(image, z.context)) for z ~ masks ])";
    let m = accepts(defs, lines);
    assert_eq!(m.masks[0].require.len(), 2);
    assert!(
        rejects("mask wider = ijepa with { forward(x) = x }", lines).starts_with("V0103 mask `ijepa` has no place for")
    );
}

#[test]
fn a_variant_of_a_variant() {
    let defs = "block thin(factor = 2) = mlp with { hidden = factor * dim }
        block other = thin with { act = relu, factor = 3 }
        block net = transformer with { mlp = other(dim) }
        block enc = vit2d with { blocks = [ net(dim, heads) for i in depth ] }";
    let m = accepts(defs, &ENCODER.replace("vit2d(", "enc(").replace(", attention = other", ""));
    assert_eq!(shape(&m, "encoder.blocks.0.mlp.fc1.weight"), [24, 8]);
}

#[test]
fn mistakes_are_on_their_line() {
    for (line, want) in [
        ("gat = linear(dim -> dim)", "V0103 `attention` has no setting or part called `gat` | gat"),
        ("qvk = linear(dim -> dim)", "V0103 `attention` has no setting or part called `qvk` | qvk"),
        ("qkv.bias = false", "V0103 `qkv` is a part of `attention`, and only settings can be changed by a path"),
        ("hidden.x = 3", "V0101 `attention` has no setting called `hidden`"),
        ("metric m = 3", "V0103 block `attention` has no place for a metric"),
        ("param dim: [heads] = 0", "V0103 `dim` is a setting of `attention`, and settings are given with `=`"),
        ("return 3", "V0103 `with` changes fields and settings"),
    ] {
        let found = rejects(&format!("block other = attention with {{ {line} }}"), ENCODER);
        assert!(found.starts_with(want), "{line}\n  wanted {want}\n  found  {found}");
    }
    let found = rejects("block other = 3", ENCODER);
    assert!(found.starts_with("V0104 `other` must be made from another block, found a number"), "{found}");
    let found = rejects("mask wider = attention with { dim = 3 }", &ENCODER.replace("other", "wider"));
    assert!(found.starts_with("V0104 `wider` must be made from another mask"), "{found}");
}

#[test]
fn settings_only_from_outside() {
    let found = rejects(
        "",
        &ENCODER
            .replace("attention = other", "attention = attention")
            .replace("loss =", "more = encoder with { attention.qkv = 3 } loss = mean(more(image)) +"),
    );
    assert!(found.starts_with("V0101 `attention` has no setting called `qkv`"), "{found}");
}

#[test]
fn a_variant_does_not_contain_itself() {
    let found = rejects("block other = attention with { proj = other(dim, heads) }", ENCODER);
    assert!(found.starts_with("V0105 `other` contains itself"), "{found}");
    let found = rejects("block other = one with { } block one = other with { }", ENCODER);
    assert!(found.starts_with("V0105 `other` contains itself") || found.starts_with("V0105 `one` contains"), "{found}");
}

#[test]
fn two_weights_with_one_key() {
    let defs = "block other = attention with { more \"qkv\" = linear(dim -> dim) forward(x: [tokens, dim], at = none) = proj(mean[part](qkv(x))) + more(x) }";
    let found = rejects(defs, ENCODER);
    assert!(found.contains("V0110 two weights would be stored as `encoder.blocks.0.attn.qkv.weight`"), "{found}");
    // A part that was replaced by something that uses it shares its key with the new one.
    let defs = "block twice(inner, dim) { fc1 = linear(dim -> dim) forward(x: [dim]) = fc1(inner(x)) }
        block tr = transformer with { mlp = twice(mlp, dim) }
        block other = vit2d with { blocks = [ tr(dim, heads) for i in depth ] }";
    let lines = ENCODER.replace("vit2d(", "other(").replace(", attention = other", "");
    let found = rejects(defs, &lines);
    assert!(found.contains("V0110 two weights would be stored as `encoder.blocks.0.mlp.fc1"), "{found}");
}

#[test]
fn an_equation_that_nothing_reads() {
    let block = |rest: &str| {
        format!(
            "block other = attention with {{ forward(x: [tokens, dim], at = none) {{ {rest} return proj(mean[part](qkv(x))) }} }}"
        )
    };
    assert!(rejects(&block("extra = mean(x)"), ENCODER).starts_with("V0107 nothing reads `extra` | extra"));
    let tapped = ENCODER.replace("mean(encoder(image))", "mean(encoder(image)) + encoder(image).blocks[0].attn.extra");
    accepts(&block("extra = mean(x)"), &tapped);
}
