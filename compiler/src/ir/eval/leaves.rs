//! Leaves: slots, inputs, index sets, draws.

use super::{Blocks, Ctx};
use crate::ir::graph::{InputId, Outer, SetId, SlotId};
use crate::ir::op::{Dist, Which};
use crate::ir::philox::Stream;

impl Ctx<'_> {
    pub(super) fn read(&self, slot: SlotId) -> Result<Blocks, String> {
        Ok(vec![self.slot(slot)?.clone()])
    }

    /// A slot's content when the run began.
    pub(super) fn slot(&self, slot: SlotId) -> Result<&Vec<f64>, String> {
        let s = &self.tables.slots[slot.0 as usize];
        match self.env.slots.get(slot.0 as usize) {
            Some(x) if x.len() == s.shape.iter().product::<usize>() => Ok(x),
            Some(x) => Err(format!("expected {:?} elements in slot `{}`, found {}", s.shape, s.key, x.len())),
            None => Err(format!("slot `{}` was not given", s.key)),
        }
    }

    pub(super) fn input(&self, input: InputId) -> Result<Blocks, String> {
        let x = self.env.inputs.get(input.0 as usize).ok_or("an input was not given")?;
        let n: usize = self.dims(0).iter().product();
        if x.len() != n * self.env.segments.clips {
            return Err(format!("expected {} clips of {n} elements, found {}", self.env.segments.clips, x.len()));
        }
        Ok(x.chunks(n).map(<[f64]>::to_vec).collect())
    }

    pub(super) fn index(&self, set: SetId, which: Which) -> Result<Blocks, String> {
        let data = self.env.segments.sets.get(set.0 as usize).ok_or("an index set was not given")?;
        let rows = match which {
            Which::Context => &data.context,
            Which::Target => &data.target,
        };
        let blocks: Blocks = rows.iter().map(|r| r.iter().map(|i| f64::from(*i)).collect()).collect();
        let fitting = blocks.len() == self.blocks(Outer::Segments(set))
            && blocks.iter().enumerate().all(|(b, x)| x.len() == self.dims(b).iter().product::<usize>());
        if fitting { Ok(blocks) } else { Err("an index set does not have the counts that it says".into()) }
    }

    pub(super) fn draw(&self, dist: Dist, site: &str) -> Result<Blocks, String> {
        let outer = self.node.types[0].outer;
        let mut blocks = vec![];
        for b in 0..self.blocks(outer) {
            let (clip, attempt) = match outer {
                Outer::One => (None, 0),
                Outer::Clips | Outer::Segments(_) => {
                    (Some(self.env.clip_base + b as u64), self.env.attempts.get(b).copied().unwrap_or(0))
                }
            };
            let stream = Stream::new(self.env.seed, self.env.step, clip, site, attempt);
            let p: Vec<f64> = self.inputs.iter().map(|x| x.blocks[self.part_of(x.ty.outer, outer, b)][0]).collect();
            let n: usize = self.dims(b).iter().product();
            if n > u32::MAX as usize {
                return Err("a draw of more than 2^32 elements".into());
            }
            let each = |f: &dyn Fn(u32) -> f64| (0..n as u32).map(f).collect();
            blocks.push(match dist {
                Dist::Uniform => each(&|i| p[0] + (p[1] - p[0]) * stream.uniform(i)),
                Dist::Whole => each(&|i| p[0] + (stream.uniform(i) * (p[1] - p[0] + 1.0)).floor()),
                Dist::Normal => each(&|i| p[0] * stream.normal(i, 0)),
                Dist::TruncNormal => each(&|i| stream.trunc_normal(i, p[0])),
                Dist::Bernoulli => each(&|i| f64::from(stream.uniform(i) < p[0])),
                Dist::Permutation => stream.permutation(n).into_iter().map(|i| i as f64).collect(),
            });
        }
        Ok(blocks)
    }
}
