//! Is a plan sound? Debug builds ask after planning, tests with the offsets of a step too.
//!
//! The plan is played: every buffer remembers whose content it holds, and a step that would read anything else is found.

use super::arena::Span;
use super::{Home, Plan};

/// What is wrong with a plan, if anything.
pub fn check(plan: &Plan) -> Result<(), String> {
    let mut holds: Vec<Option<usize>> = vec![None; plan.buffers.len()];
    let read = |holds: &[Option<usize>], value: usize, step: usize| -> Result<(), String> {
        let root = plan.root(value);
        let Home::Arena(buffer) = plan.values[root].home else { return Ok(()) };
        let b = plan.buffers[buffer];
        if holds[buffer] != Some(root) {
            return Err(format!(
                "step {step} reads value {root} from buffer {buffer}, which holds {:?}",
                holds[buffer]
            ));
        }
        if step < b.first || b.last < step {
            return Err(format!("step {step} reads buffer {buffer}, which lives from {} to {}", b.first, b.last));
        }
        Ok(())
    };
    for (s, step) in plan.steps.iter().enumerate() {
        for &input in &step.inputs {
            read(&holds, input, s)?;
        }
        for &output in &step.outputs {
            if let Home::Arena(buffer) = plan.values[output].home {
                if s < plan.buffers[buffer].first || plan.buffers[buffer].last < s {
                    return Err(format!("step {s} writes buffer {buffer} outside of its life"));
                }
                holds[buffer] = Some(output);
            }
        }
    }
    plan.outputs.iter().try_for_each(|(_, value)| read(&holds, *value, plan.steps.len()))
}

/// Buffers that live at the same time and overlap, if there are any.
pub fn overlap(spans: &[Span], offsets: &[usize]) -> Option<(usize, usize)> {
    let mut by_place: Vec<usize> = (0..spans.len()).collect();
    by_place.sort_by_key(|b| offsets[*b]);
    for (i, &a) in by_place.iter().enumerate() {
        for &b in by_place[i + 1..].iter().take_while(|b| offsets[**b] < offsets[a] + spans[a].words) {
            if spans[a].first <= spans[b].last && spans[b].first <= spans[a].last {
                return Some((a, b));
            }
        }
    }
    None
}
