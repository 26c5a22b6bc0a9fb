//! Views, joins, gather and scatter.

use super::{Blocks, Ctx, around, push_strided, strides};
use crate::ir::extent::larger;
use crate::ir::graph::{Extent, Type};

impl Ctx<'_> {
    pub(super) fn arrange(&self, from: &[Option<usize>]) -> Blocks {
        let x = &self.inputs[0];
        let outer = self.node.types[0].outer;
        self.each(|c, b| {
            let source = c.part_of(x.ty.outer, outer, b);
            let s = strides(&x.dims[source]);
            let s: Vec<usize> = from.iter().map(|f| f.map_or(0, |f| s[f])).collect();
            let dims = c.dims(b);
            let n: usize = dims.iter().product();
            let mut out = Vec::with_capacity(n);
            if n > 0 {
                push_strided(&mut out, &x.blocks[source], &dims, &s, 0);
            }
            out
        })
    }

    fn sum(&self, extents: &[Extent], block: usize) -> usize {
        extents.iter().map(|e| self.env.segments.extent(self.tables, *e, block)).sum()
    }

    pub(super) fn slice(&self, axis: usize, start: &[Extent], b: usize) -> Vec<f64> {
        let (before, whole, after) = around(&self.inputs[0].dims[b], axis);
        let (first, len) = (self.sum(start, b) * after, self.dims(b)[axis] * after);
        let x = &self.inputs[0].blocks[b];
        (0..before).flat_map(|i| &x[i * whole * after + first..][..len]).copied().collect()
    }

    pub(super) fn pad(&self, axis: usize, start: &[Extent], b: usize) -> Vec<f64> {
        let dims = self.dims(b);
        let (before, whole, after) = around(&dims, axis);
        let (first, len) = (self.sum(start, b) * after, self.inputs[0].dims[b][axis] * after);
        let mut out = vec![0.0; before * whole * after];
        for i in 0..before {
            out[i * whole * after + first..][..len].copy_from_slice(&self.inputs[0].blocks[b][i * len..][..len]);
        }
        out
    }

    pub(super) fn concat(&self, axis: usize, b: usize) -> Vec<f64> {
        let before = around(&self.dims(b), axis).0;
        let mut out = vec![];
        for i in 0..before {
            for x in self.inputs {
                let n = x.blocks[b].len() / before;
                out.extend_from_slice(&x.blocks[b][i * n..][..n]);
            }
        }
        out
    }

    /// For each (shared, between, position) of a block: row of x, row of the gathered tensor.
    fn rows(
        &self,
        [x_dims, index_dims]: [&[usize]; 2],
        index: &[f64],
        axis: usize,
        shared: usize,
        mut f: impl FnMut(usize, usize),
    ) -> Result<usize, String> {
        let (_, len, after) = around(x_dims, axis);
        let outer: usize = x_dims[..shared].iter().product();
        let between: usize = x_dims[shared..axis].iter().product();
        let picked: usize = index_dims[shared..].iter().product();
        for s in 0..outer {
            for p in 0..between {
                for i in 0..picked {
                    let at = index[s * picked + i];
                    if !(0.0..len as f64).contains(&at) {
                        return Err(format!("index {at} lies outside 0..{len}"));
                    }
                    f((s * between + p) * len + at as usize, (s * between + p) * picked + i);
                }
            }
        }
        Ok(after)
    }

    pub(super) fn gather(&self, axis: usize, shared: usize) -> Result<Blocks, String> {
        let (x, index) = (&self.inputs[0], &self.inputs[1]);
        let outer = self.node.types[0].outer;
        let one = |b: usize| {
            let (xb, ib) = (self.part_of(x.ty.outer, outer, b), self.part_of(index.ty.outer, outer, b));
            let mut rows = vec![];
            let dims = [&x.dims[xb][..], &index.dims[ib][..]];
            let n = self.rows(dims, &index.blocks[ib], axis, shared, |from, _| rows.push(from))?;
            Ok(rows.into_iter().flat_map(|r| &x.blocks[xb][r * n..][..n]).copied().collect())
        };
        (0..self.blocks(outer)).map(one).collect()
    }

    pub(super) fn scatter_add(&self, axis: usize, shared: usize) -> Result<Blocks, String> {
        let (g, index) = (&self.inputs[0], &self.inputs[1]);
        let ty: &Type = &self.node.types[0];
        let mut out = self.each(|c, b| vec![0.0; c.dims(b).iter().product()]);
        let outer = larger(g.ty.outer, index.ty.outer).ok_or("segments of different sets")?;
        for b in 0..self.blocks(outer) {
            let (to, ib) = (self.part_of(ty.outer, outer, b), self.part_of(index.ty.outer, outer, b));
            let mut pairs = vec![];
            let dims = self.dims(to);
            let dims = [&dims[..], &index.dims[ib][..]];
            let n = self.rows(dims, &index.blocks[ib], axis, shared, |into, from| pairs.push((into, from)))?;
            for (into, from) in pairs {
                let row = &g.blocks[b][from * n..][..n];
                out[to][into * n..][..n].iter_mut().zip(row).for_each(|(o, g)| *o += g);
            }
        }
        Ok(out)
    }

    pub(super) fn one_hot(&self, b: usize) -> Vec<f64> {
        let classes = *self.dims(b).last().expect("a one-hot has a last dim");
        let hot = |x: &f64| (0..classes).map(|i| f64::from(i as f64 == *x)).collect::<Vec<_>>();
        self.inputs[0].blocks[b].iter().flat_map(hot).collect()
    }
}
