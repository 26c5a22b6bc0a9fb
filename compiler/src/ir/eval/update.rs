//! Update rules. New contents are kept aside until the run ends.

use super::{Blocks, Ctx, round};
use crate::ir::graph::SlotId;
use crate::ir::op::DType;

impl Ctx<'_> {
    /// Sets a slot's new content; the result is the content.
    pub(super) fn put(&mut self, slot: SlotId, mut new: Vec<f64>) -> Blocks {
        if self.env.round {
            round(&mut new, DType::F32); // slots are f32 whatever flows into them
        }
        self.changed.insert(slot, new.clone());
        vec![new]
    }

    /// Input `i`, a number for the step.
    fn number(&self, i: usize) -> f64 {
        self.inputs[i].blocks[0][0]
    }

    pub(super) fn accumulate(&mut self, slot: SlotId) -> Result<Blocks, String> {
        let mut sum = match self.changed.get(&slot) {
            Some(s) => s.clone(),
            None => self.slot(slot)?.clone(),
        };
        super::reduce::add(&mut sum, &self.inputs[0].blocks[0]);
        Ok(self.put(slot, sum))
    }

    pub(super) fn adamw(&mut self, weight: SlotId, first: SlotId, second: SlotId) -> Result<Blocks, String> {
        let [clip, lr, decay, t, b1, b2, eps] = [1, 2, 3, 4, 5, 6, 7].map(|i| self.number(i));
        let (mut w, mut m, mut v) = (self.slot(weight)?.clone(), self.slot(first)?.clone(), self.slot(second)?.clone());
        let (c1, c2) = (1.0 - libm::pow(b1, t), 1.0 - libm::pow(b2, t));
        for (i, g) in self.inputs[0].blocks[0].iter().enumerate() {
            let g = clip * g;
            w[i] *= 1.0 - lr * decay;
            m[i] = b1 * m[i] + (1.0 - b1) * g;
            v[i] = b2 * v[i] + (1.0 - b2) * g * g;
            w[i] -= lr * (m[i] / c1) / ((v[i] / c2).sqrt() + eps);
        }
        self.put(first, m);
        self.put(second, v);
        Ok(self.put(weight, w))
    }

    pub(super) fn sgd(&mut self, weight: SlotId, velocity: Option<SlotId>) -> Result<Blocks, String> {
        let [clip, lr, decay, momentum] = [1, 2, 3, 4].map(|i| self.number(i));
        let mut w = self.slot(weight)?.clone();
        let mut m = match velocity {
            Some(v) => self.slot(v)?.clone(),
            None => vec![0.0; w.len()],
        };
        for (i, g) in self.inputs[0].blocks[0].iter().enumerate() {
            w[i] *= 1.0 - lr * decay;
            m[i] = momentum * m[i] + clip * g;
            w[i] -= lr * m[i];
        }
        if let Some(v) = velocity {
            self.put(v, m);
        }
        Ok(self.put(weight, w))
    }

    pub(super) fn ema(&mut self, slot: SlotId) -> Result<Blocks, String> {
        let m = self.number(1);
        let mut average = self.slot(slot)?.clone();
        average.iter_mut().zip(&self.inputs[0].blocks[0]).for_each(|(a, x)| *a = m * *a + (1.0 - m) * x);
        Ok(self.put(slot, average))
    }
}
