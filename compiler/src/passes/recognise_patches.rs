//! The cut of a clip or an image into patches as one op, in front of the product that embeds them.
//!
//! Accepted: an `einsum` over exactly (channel, frame, row, column of a patch), in any order, of a weight that is one for
//! the step and has further labels or none, and a reshape
//! - of \[F, H, W, C\] to \[F/tube, tube, H/dy, dy, W/dx, dx, C\], or
//! - of \[H, W, C\] to \[H/dy, dy, W/dx, dx, C\] (a tube of one frame),
//!
//! possibly permuted. The rows of the new op are ordered channel, frame, row, column whatever the weight's order, which is
//! brought to that order (no work if it is stored as a Conv3d's). The product stays an `einsum`, over one label, for
//! [`recognise_linear`](super::recognise_linear). Not accepted: overlapping patches, other orders of a clip's axes, and
//! cuts along some of the axes.

use crate::ir::graph::{Dim, Graph, Outer, Tables, Value};
use crate::ir::op::Op;

use super::rewrite::{arranged, at, merged, static_size};

/// A cut followed by a product.
struct Cut {
    clip: Value,
    w: Value,
    tube: usize,
    dy: usize,
    dx: usize,
    /// Labels of channel, frame (clips only), row and column of a patch, in this order.
    inside: Vec<u8>,
    /// Labels of the patches' places: time (clips only), rows, columns.
    places: Vec<u8>,
    /// Sizes of `places`.
    place_dims: Vec<Dim>,
    w_labels: Vec<u8>,
    out: Vec<u8>,
}

/// Replaces cuts; returns how many.
pub fn recognise_patches(tables: &Tables, graph: &mut Graph) -> usize {
    let mut count = 0;
    for node in graph.order() {
        let value: Value = node.into();
        let Some(cut) = matched(graph, value) else { continue };
        let (features, inside): (Vec<u8>, Vec<u8>) = (cut.features(), cut.inside.clone());
        let mut b = at(tables, graph, value);
        let mut clip = cut.clip;
        if b.ty(clip).dims.len() == 3 {
            let dims = [Dim::fixed(1, "frame")].into_iter().chain(b.ty(clip).dims).collect();
            clip = b.reshape(clip, dims);
        }
        let rows = b.op(Op::Patches { tube: cut.tube, dy: cut.dy, dx: cut.dx }, &[clip]);
        let width = b.ty(rows).dims[1].clone();
        let x = b.reshape(rows, cut.place_dims.iter().cloned().chain([width.clone()]).collect());
        let order: Vec<usize> =
            features.iter().chain(&inside).filter_map(|l| cut.w_labels.iter().position(|m| m == l)).collect();
        let w = b.permute(cut.w, &order);
        let feature_dims = b.ty(w).dims[..features.len()].to_vec();
        let w = b.reshape(w, feature_dims.into_iter().chain([width]).collect());
        // One label stands for the four: the channel's.
        let op = Op::Einsum {
            a: [&cut.places[..], &inside[..1]].concat(),
            b: [&features[..], &inside[..1]].concat(),
            out: cut.out,
        };
        let y = b.op(op, &[x, w]);
        graph.replace(value, y);
        count += 1;
    }
    count
}

impl Cut {
    fn features(&self) -> Vec<u8> {
        self.w_labels.iter().copied().filter(|l| self.out.contains(l)).collect()
    }
}

fn matched(graph: &Graph, value: Value) -> Option<Cut> {
    let Op::Einsum { a, b, out } = graph.op(value).clone() else { return None };
    let inputs = graph.inputs(value.node);
    cut(graph, [inputs[0], inputs[1]], [&a, &b], &out, value)
        .or_else(|| cut(graph, [inputs[1], inputs[0]], [&b, &a], &out, value))
}

fn cut(graph: &Graph, [x, w]: [Value; 2], [x_labels, w_labels]: [&[u8]; 2], out: &[u8], value: Value) -> Option<Cut> {
    let (tiles, from) = arranged(graph, x);
    if *graph.op(tiles) != Op::Reshape || from.contains(&None) {
        return None;
    }
    let clip = graph.inputs(tiles.node)[0];
    let blocks = (graph.ty(clip).outer, graph.ty(x).outer, graph.ty(value).outer);
    if blocks.0 != blocks.1 || blocks.1 != blocks.2 || graph.ty(w).outer != Outer::One {
        return None;
    }
    let whole = sizes(&graph.ty(clip).dims)?;
    let parts = sizes(&graph.ty(tiles).dims)?;
    // [F, H, W, C] to [F/tube, tube, H/dy, dy, W/dx, dx, C], the first two only for clips.
    let n_cuts = whole.len().checked_sub(1)?;
    let cuts_fit = parts.len() == 2 * n_cuts + 1 && (0..n_cuts).all(|i| parts[2 * i] * parts[2 * i + 1] == whole[i]);
    if !(n_cuts == 2 || n_cuts == 3) || !cuts_fit || parts.last() != whole.last() {
        return None;
    }
    let label = |dim: usize| from.iter().position(|f| *f == Some(dim)).map(|j| x_labels[j]);
    let places: Vec<u8> = (0..n_cuts).map(|i| label(2 * i)).collect::<Option<_>>()?;
    let inside: Vec<u8> =
        [2 * n_cuts].into_iter().chain((0..n_cuts).map(|i| 2 * i + 1)).map(label).collect::<Option<_>>()?;
    let summed_by_both = inside.iter().all(|l| w_labels.contains(l) && !out.contains(l));
    let rest_kept = w_labels.iter().all(|l| inside.contains(l) || out.contains(l) && !x_labels.contains(l));
    if !summed_by_both || !rest_kept || !places.iter().all(|l| out.contains(l)) {
        return None;
    }
    let sides: Vec<usize> = (0..n_cuts).map(|i| parts[2 * i + 1]).collect();
    let (tube, sides) = if n_cuts == 3 { (sides[0], &sides[1..]) } else { (1, &sides[..]) };
    let place_dims = (0..n_cuts).map(|i| graph.ty(tiles).dims[2 * i].clone()).collect::<Vec<_>>();
    merged(&place_dims, "token")?;
    Some(Cut {
        clip,
        w,
        tube,
        dy: sides[0],
        dx: sides[1],
        inside,
        places,
        place_dims,
        w_labels: w_labels.to_vec(),
        out: out.to_vec(),
    })
}

fn sizes(dims: &[Dim]) -> Option<Vec<usize>> {
    dims.iter().map(|d| static_size(d.extent)).collect()
}
