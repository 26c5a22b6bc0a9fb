//! Random content for a graph's tables, and graphs compared by what they compute.

use vjepac::ir::eval::{Env, Tensor, eval};
use vjepac::ir::graph::{Graph, InputSpec, SegmentData, Segments, Tables};

/// Largest difference that a pass may make, relative to the largest element. The interpreter computes in f64, so what is
/// left is the order of sums and the rounding of constants that a pass computes.
pub const TOLERANCE: f64 = 1e-9;

/// A small generator of numbers (SplitMix64): the tests need variety, not quality.
pub struct Numbers(pub u64);

impl Numbers {
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A whole number below n.
    pub fn below(&mut self, n: usize) -> usize {
        (self.bits() % n as u64) as usize
    }

    /// A number from -1 to 1.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }

    fn fill(&mut self, n: usize) -> Vec<f64> {
        (0..n).map(|_| self.unit()).collect()
    }
}

/// Random slots, inputs, scalars and index sets for three clips.
pub fn env(tables: &Tables, seed: u64) -> Env {
    let mut numbers = Numbers(seed);
    let clips = 3;
    let sets = tables.sets.iter().map(|set| segments(tables, &set.masks, clips, &mut numbers)).collect();
    let inputs = tables.inputs.iter().map(|spec| match spec {
        InputSpec::Video(v) => numbers.fill(clips * v.frames * v.size * v.size * 3),
        InputSpec::Image(v) => numbers.fill(clips * v.size * v.size * 3),
        InputSpec::Label { classes } => (0..clips).map(|_| numbers.below(*classes) as f64).collect(),
    });
    let inputs = inputs.collect();
    let slots = tables.slots.iter().map(|s| numbers.fill(s.shape.iter().product())).collect();
    let scalars = numbers.fill(tables.scalars.len());
    Env { segments: Segments { clips, sets }, inputs, scalars, slots, ..Env::default() }
}

fn segments(tables: &Tables, masks: &[usize], clips: usize, numbers: &mut Numbers) -> SegmentData {
    let mut data = SegmentData::default();
    for mask in masks {
        let mask = &tables.masks[*mask];
        for _ in 0..clips {
            let n_context = 1 + numbers.below(mask.tokens - 1);
            let n_target = 1 + numbers.below(mask.tokens - 1);
            data.context_count.push(n_context);
            data.target_count.push(n_target);
            let rows = |extra: &[usize]| extra.iter().product::<usize>();
            data.context.push(draws(rows(&mask.context_extra), n_context, mask.tokens, numbers));
            data.target.push(draws(rows(&mask.target_extra), n_target, mask.tokens, numbers));
        }
    }
    data
}

/// For each row n different tokens, ascending.
fn draws(rows: usize, n: usize, tokens: usize, numbers: &mut Numbers) -> Vec<i32> {
    let mut all = vec![];
    for _ in 0..rows {
        let mut left: Vec<i32> = (0..tokens as i32).collect();
        while left.len() > n {
            left.remove(numbers.below(left.len()));
        }
        all.extend(left);
    }
    all
}

/// Panics if two graphs give different outputs on random content.
pub fn assert_same(tables: &Tables, before: &Graph, after: &Graph, what: &str) {
    for seed in 0..2 {
        let run = |graph: &Graph| -> Vec<(String, Tensor)> {
            eval(tables, graph, &mut env(tables, seed)).unwrap_or_else(|e| panic!("{what}: {e}"))
        };
        let (a, b) = (run(before), run(after));
        assert_eq!(a.len(), b.len(), "{what}: number of outputs");
        for ((name, x), (_, y)) in a.iter().zip(&b) {
            assert_eq!((&x.ty, &x.dims), (&y.ty, &y.dims), "{what}: type of {name}");
            let (x, y) = (x.flat(), y.flat());
            let largest = x.iter().fold(1e-30f64, |m, v| m.max(v.abs()));
            for (i, (p, q)) in x.iter().zip(&y).enumerate() {
                let far = (p - q).abs() > TOLERANCE * largest || p.is_nan() != q.is_nan();
                assert!(!far, "{what}: {name}[{i}] is {q}, was {p}");
            }
        }
    }
}
