//! What trial draws of a model's masks look like: how many tokens are visible, how many are to be predicted.
//!
//! Draws run the `draw` entry in the interpreter, clip by clip as in training: a clip whose `require` fails, or whose
//! context or target is empty, is drawn again. Then the groups of `train.group` clips are cut to their shortest.

use vjepac::build::Built;
use vjepac::ir::eval::{self, Env, Tensor};
use vjepac::ir::graph::Segments;
use vjepac::model::Model;

/// Redraws of one clip before training would stop.
const MAX_REDRAWS: u32 = 64;
/// Clips drawn at once.
const BATCH: usize = 50;

/// One mask's draws.
pub struct MaskStatistics {
    /// Its name, such as `masks.0`.
    pub name: String,
    /// Visible tokens of each clip after the cut.
    pub context: Vec<usize>,
    /// Tokens to predict of each clip after the cut.
    pub target: Vec<usize>,
    /// Draws that had to be repeated, as a share of all draws.
    pub redrawn: f64,
}

/// Draws `draws` clips of every mask.
pub fn draw(model: &Model, built: &Built, draws: usize) -> Vec<MaskStatistics> {
    let group = model.train.group.unwrap_or(1).max(1);
    let mut all: Vec<MaskStatistics> = vec![];
    for (k, mask) in model.masks.iter().enumerate() {
        let mut counts: Vec<(usize, usize)> = vec![];
        let mut tried = 0;
        let mut step = 0;
        while counts.len() < draws && step < 2 * draws.div_ceil(BATCH) as u64 {
            step += 1;
            let mut attempts = vec![0_u32; BATCH];
            let mut done: Vec<Option<(usize, usize)>> = vec![None; BATCH];
            while done.iter().any(Option::is_none) && attempts.iter().all(|a| *a <= MAX_REDRAWS) {
                let found = trial(model, built, k, step, &attempts);
                for ((slot, attempt), counts) in done.iter_mut().zip(&mut attempts).zip(found) {
                    if slot.is_some() {
                        continue;
                    }
                    tried += 1;
                    *slot = counts;
                    *attempt += u32::from(counts.is_none());
                }
            }
            counts.extend(done.into_iter().flatten());
        }
        counts.truncate(draws);
        let redrawn = if tried == 0 { 0.0 } else { 1.0 - counts.len().min(tried) as f64 / tried as f64 };
        let (context, target) = counts.chunks(group).flat_map(cut).unzip();
        all.push(MaskStatistics { name: mask.name.clone(), context, target, redrawn });
    }
    all
}

/// Every clip of a group keeps as many tokens as its shortest.
fn cut(group: &[(usize, usize)]) -> Vec<(usize, usize)> {
    let context = group.iter().map(|c| c.0).min().unwrap_or(0);
    let target = group.iter().map(|c| c.1).min().unwrap_or(0);
    vec![(context, target); group.len()]
}

/// Counts of context and target of each clip, or nothing for one that must be drawn again.
fn trial(model: &Model, built: &Built, k: usize, step: u64, attempts: &[u32]) -> Vec<Option<(usize, usize)>> {
    let segments = Segments { clips: attempts.len(), sets: vec![] };
    let seed = model.train.seed;
    let scalars = built.scalars_at(step, model.train.steps);
    let mut env = Env { segments, seed, step, attempts: attempts.to_vec(), scalars, ..Env::default() };
    let outputs = match eval::eval(&built.tables, &built.draw, &mut env) {
        Ok(outputs) => outputs,
        Err(bug) => unreachable!("compiler bug: trial draw: {bug}"),
    };
    let named =
        |prefix: &str| outputs.iter().filter(|(n, _)| n.starts_with(prefix)).map(|(_, t)| t).collect::<Vec<_>>();
    let (context, target) = (named(&format!("mask.{k}.context")), named(&format!("mask.{k}.target")));
    let require = named(&format!("mask.{k}.require."));
    (0..attempts.len())
        .map(|clip| {
            let holds = require.iter().all(|t| block(t, clip).iter().all(|v| *v != 0.0));
            let (context, target) = (ones(&context, clip), ones(&target, clip));
            (holds && context > 0 && target > 0).then_some((context, target))
        })
        .collect()
}

/// Tokens of a clip; of several index sets (`[targets, ...]`) the shortest counts.
fn ones(tensors: &[&Tensor], clip: usize) -> usize {
    let Some(tensor) = tensors.first() else { return 0 };
    block(tensor, clip).iter().filter(|v| **v != 0.0).count()
}

/// The clip's block; a value shared by the clips of a step has only one.
fn block(tensor: &Tensor, clip: usize) -> &[f64] {
    tensor.blocks.get(clip).or(tensor.blocks.first()).map_or(&[], Vec::as_slice)
}

/// The value below which a share of the sorted numbers lies.
pub fn quantile(numbers: &[usize], share: f64) -> usize {
    let mut sorted = numbers.to_vec();
    sorted.sort_unstable();
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * share).round() as usize).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_short_lists() {
        assert_eq!((quantile(&[3, 1, 2], 0.5), quantile(&[3, 1, 2], 0.99), quantile(&[], 0.5)), (2, 3, 0));
    }

    #[test]
    fn groups_are_cut_to_their_shortest() {
        assert_eq!(cut(&[(5, 2), (3, 9)]), [(3, 2), (3, 2)]);
    }
}
