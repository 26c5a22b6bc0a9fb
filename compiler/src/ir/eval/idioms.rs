//! Recognised idioms and their backward.

use std::f64::consts::{FRAC_1_SQRT_2, PI};

use super::reduce::{add, dot};
use super::{Blocks, Ctx};

impl Ctx<'_> {
    pub(super) fn linear(&self, b: usize) -> Vec<f64> {
        let (x, w) = (&self.inputs[0], &self.inputs[1].blocks[0]);
        let (outputs, width) = (self.inputs[1].dims[0][0], self.inputs[1].dims[0][1]);
        let bias = |o: usize| self.inputs.get(2).map_or(0.0, |b| b.blocks[0][o]);
        let rows = x.blocks[b].len() / width;
        let row = |r: usize| &x.blocks[b][r * width..][..width];
        (0..rows).flat_map(|r| (0..outputs).map(move |o| dot(row(r), &w[o * width..][..width]) + bias(o))).collect()
    }

    pub(super) fn layer_norm(&self, eps: f64, b: usize) -> Vec<f64> {
        let x = &self.inputs[0];
        let width = *x.dims[b].last().expect("a norm has a last dim");
        let mut out = Vec::with_capacity(x.blocks[b].len());
        for row in x.blocks[b].chunks(width) {
            let (mean, inverse) = moments(row, eps);
            out.extend(row.iter().enumerate().map(|(i, v)| {
                let y = (v - mean) * inverse;
                if self.inputs.len() == 3 { y * self.inputs[1].blocks[0][i] + self.inputs[2].blocks[0][i] } else { y }
            }));
        }
        out
    }

    /// With y = (x - mean) / s and h = g w:  dx = (h - mean(h) - y mean(h y)) / s,  dw = sum(g y),  db = sum(g).
    pub(super) fn layer_norm_grad(&self, eps: f64) -> Vec<Blocks> {
        let (x, g) = (&self.inputs[0], &self.inputs[1]);
        let w = self.inputs.get(2).map(|w| &w.blocks[0]);
        let width = x.dims.first().and_then(|d| d.last()).copied().unwrap_or(0);
        let (mut dw, mut db) = (vec![0.0; width], vec![0.0; width]);
        let mut dx: Blocks = vec![];
        for (x, g) in x.blocks.iter().zip(&g.blocks) {
            let mut out = Vec::with_capacity(x.len());
            for (x, g) in x.chunks(width).zip(g.chunks(width)) {
                let (mean, inverse) = moments(x, eps);
                let y: Vec<f64> = x.iter().map(|v| (v - mean) * inverse).collect();
                let h: Vec<f64> = g.iter().enumerate().map(|(i, g)| g * w.map_or(1.0, |w| w[i])).collect();
                let mean_h = h.iter().sum::<f64>() / width as f64;
                let mean_hy = dot(&h, &y) / width as f64;
                out.extend(h.iter().zip(&y).map(|(h, y)| (h - mean_h - y * mean_hy) * inverse));
                dw.iter_mut().zip(g.iter().zip(&y)).for_each(|(d, (g, y))| *d += g * y);
                add(&mut db, g);
            }
            dx.push(out);
        }
        if w.is_some() { vec![dx, vec![dw], vec![db]] } else { vec![dx] }
    }

    pub(super) fn softmax(&self, b: usize) -> Vec<f64> {
        let x = &self.inputs[0];
        let width = *x.dims[b].last().expect("a softmax has a last dim");
        let mut out = x.blocks[b].clone();
        out.chunks_mut(width.max(1)).for_each(softmax);
        out
    }

    /// dx = y (g - sum(g y)).
    pub(super) fn softmax_grad(&self, b: usize) -> Vec<f64> {
        let (y, g) = (&self.inputs[0], &self.inputs[1].blocks[b]);
        let width = *y.dims[b].last().expect("a softmax has a last dim");
        let mut out = Vec::with_capacity(g.len());
        for (y, g) in y.blocks[b].chunks(width.max(1)).zip(g.chunks(width.max(1))) {
            let s = dot(y, g);
            out.extend(y.iter().zip(g).map(|(y, g)| y * (g - s)));
        }
        out
    }

    /// Probabilities of one head's query row: softmax over keys of scale q k.
    fn probabilities(&self, scale: f64, b: usize, head: usize, row: usize) -> Vec<f64> {
        let (q, k) = (&self.inputs[0], &self.inputs[1]);
        let (heads, d) = (q.dims[b][1], q.dims[b][2]);
        let query = &q.blocks[b][(row * heads + head) * d..][..d];
        let key = |m: usize| &k.blocks[b][(m * heads + head) * d..][..d];
        let mut p: Vec<f64> = (0..k.dims[b][0]).map(|m| scale * dot(query, key(m))).collect();
        softmax(&mut p);
        p
    }

    pub(super) fn attention(&self, scale: f64, b: usize) -> Vec<f64> {
        let (q, v) = (&self.inputs[0], &self.inputs[2]);
        let (rows, heads, e) = (q.dims[b][0], q.dims[b][1], v.dims[b][2]);
        let mut out = vec![0.0; rows * heads * e];
        for row in 0..rows {
            for head in 0..heads {
                let o = &mut out[(row * heads + head) * e..][..e];
                for (m, p) in self.probabilities(scale, b, head, row).into_iter().enumerate() {
                    let value = &v.blocks[b][(m * heads + head) * e..][..e];
                    o.iter_mut().zip(value).for_each(|(o, v)| *o += p * v);
                }
            }
        }
        out
    }

    /// With p the probabilities and ds = scale p (g v - g out):  dq = ds k,  dk = ds^T q,  dv = p^T g.
    pub(super) fn attention_grad(&self, scale: f64) -> Vec<Blocks> {
        let [q, k, v, out, g] = [0, 1, 2, 3, 4].map(|i| &self.inputs[i]);
        let [mut dq, mut dk, mut dv]: [Blocks; 3] =
            [q, k, v].map(|x| x.blocks.iter().map(|b| vec![0.0; b.len()]).collect());
        for b in 0..q.blocks.len() {
            let (rows, heads, d, e) = (q.dims[b][0], q.dims[b][1], q.dims[b][2], v.dims[b][2]);
            for row in 0..rows {
                for head in 0..heads {
                    let at = row * heads + head;
                    let g = &g.blocks[b][at * e..][..e];
                    let g_out = dot(g, &out.blocks[b][at * e..][..e]);
                    for (m, p) in self.probabilities(scale, b, head, row).into_iter().enumerate() {
                        let to = m * heads + head;
                        let ds = scale * p * (dot(g, &v.blocks[b][to * e..][..e]) - g_out);
                        for i in 0..d {
                            dq[b][at * d + i] += ds * k.blocks[b][to * d + i];
                            dk[b][to * d + i] += ds * q.blocks[b][at * d + i];
                        }
                        for i in 0..e {
                            dv[b][to * e + i] += p * g[i];
                        }
                    }
                }
            }
        }
        vec![dq, dk, dv]
    }

    pub(super) fn gelu(&self) -> Blocks {
        self.map(|x| x * share(x))
    }

    /// d/dx x F(x) = F(x) + x f(x), with F and f of the normal distribution.
    pub(super) fn gelu_grad(&self) -> Blocks {
        self.zip(|x, g| g * (share(x) + x * libm::exp(-0.5 * x * x) / (2.0 * PI).sqrt()))
    }

    pub(super) fn patches(&self, [tube, dy, dx]: [usize; 3]) -> Result<Blocks, String> {
        let clip = &self.inputs[0];
        let outer = self.node.types[0].outer;
        let one = |b: usize| {
            let at = self.part_of(clip.ty.outer, outer, b);
            let [frames, height, width, channels] = [0, 1, 2, 3].map(|i| clip.dims[at][i]);
            let (rows, cols) = (height / dy, width / dx);
            let tokens = frames / tube * rows * cols;
            let picked: Vec<f64> = match self.inputs.get(1) {
                None => (0..tokens).map(|i| i as f64).collect(),
                Some(index) => index.blocks[self.part_of(index.ty.outer, outer, b)].clone(),
            };
            let mut out = Vec::with_capacity(picked.len() * channels * tube * dy * dx);
            for token in picked {
                if !(0.0..tokens as f64).contains(&token) {
                    return Err(format!("index {token} lies outside 0..{tokens}"));
                }
                let token = token as usize;
                let (t, y, x) = (token / (rows * cols) * tube, token / cols % rows * dy, token % cols * dx);
                for channel in 0..channels {
                    for f in t..t + tube {
                        for r in y..y + dy {
                            let pixel = |c: usize| clip.blocks[at][((f * height + r) * width + c) * channels + channel];
                            out.extend((x..x + dx).map(pixel));
                        }
                    }
                }
            }
            Ok(out)
        };
        (0..self.blocks(outer)).map(one).collect()
    }
}

/// Mean, and 1 / sqrt(var + eps) with the biased variance.
fn moments(row: &[f64], eps: f64) -> (f64, f64) {
    let n = row.len() as f64;
    let mean = row.iter().sum::<f64>() / n;
    let var = row.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / n;
    (mean, 1.0 / (var + eps).sqrt())
}

fn softmax(row: &mut [f64]) {
    let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    row.iter_mut().for_each(|v| *v = libm::exp(*v - largest));
    let sum: f64 = row.iter().sum();
    row.iter_mut().for_each(|v| *v /= sum);
}

/// Share of the normal distribution below x.
fn share(x: f64) -> f64 {
    0.5 * (1.0 + libm::erf(x * FRAC_1_SQRT_2))
}
