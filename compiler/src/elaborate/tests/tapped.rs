//! Taps: what can be read from a result, under whose axes, and what cannot.

use super::*;
use crate::ir::op::ReduceOp;
use crate::model::NodeOp;

fn accepts(lines: &str) -> Model {
    small(lines).unwrap_or_else(|e| panic!("{lines}\n{e}"))
}

#[test]
fn equations_and_parts_of_every_depth() {
    let m =
        accepts("seen = encoder(image) loss = mean(seen.blocks[0].attn.score) + mean(seen.x) + mean(seen.patch_embed)");
    // The norm at the end is not needed.
    let built = crate::build::build(&m, crate::build::Options::default());
    let places = |place: &str| built.forward.nodes.node_weights().any(|n| &*n.place == place);
    assert!(places("encoder.blocks.0.attn.qkv") && !places("encoder.norm"));
    let scores = m.nodes.iter().filter(|n| matches!(n.op, NodeOp::Reduce(ReduceOp::Mean, ref a) if a.len() == 3));
    assert_eq!(scores.count(), 1);
}

#[test]
fn the_tapped_value_is_the_one_of_that_run() {
    // The attention's result is part of the block's: reading it adds nothing.
    let once = accepts("seen = encoder(image) loss = mean(seen)");
    let tapped = accepts("seen = encoder(image) loss = mean(seen) + 0 * mean(seen.blocks[0].attn)");
    let dots = |m: &Model| m.nodes.iter().filter(|n| matches!(n.op, NodeOp::Dot(_))).count();
    assert_eq!(dots(&once), dots(&tapped));
}

#[test]
fn what_nobody_reads_is_not_built() {
    let plain = accepts("loss = mean(encoder(image))");
    let again = accepts("seen = encoder(image) loss = mean(seen)");
    assert_eq!(plain.nodes.len(), again.nodes.len());
    assert!(plain.nodes.iter().zip(&again.nodes).all(|(a, b)| a.op == b.op && a.inputs == b.inputs));
}

#[test]
fn axes_come_out_under_the_callers_names() {
    let source = "from std.nn import linear
        block inner(d) { fc = linear(d -> d) forward(x: [d]) { h = fc(x) return h * 2 } }
        block outer(c) { part = inner(c) forward(x: [c]) { y = part(x) return y + 1 } }
        model m {
          image = image(size = 8 px)
          net = outer(8)
          pixels = image[rgb = 0][width -> dim]
          run = net(pixels)
          loss = mean(run.part.h - pixels)
          TRAIN
        }";
    text(&source.replace("TRAIN", TRAIN), None, &[]).unwrap();
}

#[test]
fn a_list_of_blocks_gives_what_each_returned() {
    let m = accepts("run = encoder(image) loss = mean(run.blocks[0]) + mean(stack[level](run.blocks))");
    assert!(m.nodes.iter().any(|n| matches!(n.op, NodeOp::Stack(_)) && n.inputs.len() == 1));
    assert!(
        wrong("loss = mean(encoder(image).blocks[1])")
            .starts_with("V0104 this list has 1 items, so there is no item 1")
    );
}

#[test]
fn taps_of_a_value_for_each_mask() {
    let lines = "n = 1, masks = [ijepa(tokens, targets = n), ijepa(tokens, targets = n)]
        run = [ encoder(image, z.context) for z ~ masks ]
        loss = mean([ mean(run[i].blocks[0].attn) for i, z ~ masks ])";
    let m = accepts(lines);
    assert_eq!(m.sets.len(), 1);
}

#[test]
fn gradients_flow_through_taps() {
    let m = accepts("loss = mean(encoder(image).blocks[0].attn)");
    assert!(m.nodes.iter().all(|n| n.op != NodeOp::Stop));
    assert_eq!(m.networks, ["encoder"]);
}

#[test]
fn mistakes() {
    for (lines, want) in [
        (
            "loss = mean(encoder(image).blks)",
            "V0103 the `forward` of `vit2d` has no equation and calls no part `blks` | blks",
        ),
        (
            "loss = mean(encoder(image).blocks[0].attn.scor)",
            "V0103 the `forward` of `attention` has no equation and calls no part `scor` | scor",
        ),
        ("loss = mean((2 * encoder(image)).x)", "V0103 a tensor has no field called `x` | x"),
        (
            "loss = mean(encoder(image).tokens)",
            "V0103 `tokens` of `vit2d` was not called when this was computed | tokens",
        ),
    ] {
        let found = wrong(lines);
        assert!(found.starts_with(want), "{lines}\n  wanted {want}\n  found  {found}");
    }
}

#[test]
fn a_part_called_twice_needs_names() {
    let block = |body: &str, tap: &str| {
        let source = format!(
            "from std.nn import linear
             block twice(dim) {{ fc = linear(dim -> dim) forward(x: [dim]) {{ {body} }} }}
             model m {{
               image = image(size = 8 px)
               net = twice(8)
               loss = mean(net(image[width -> dim]).{tap})
               {TRAIN}
             }}"
        );
        text(&source, None, &[])
    };
    let found = block("return fc(fc(x))", "fc").unwrap_err();
    assert!(found.starts_with("V0103 `twice` calls `fc` 2 times | fc"), "{found}");
    block("a = fc(x) return fc(a)", "a").unwrap();
    // A call that only an unread equation makes is made when it is asked for.
    block("a = fc(x) b = a * 2 return x * mean(b) if 1 > 2 else x", "fc").unwrap();
}
