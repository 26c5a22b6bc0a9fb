//! What is aimed at, and how each of it is computed from the runs.

use serde_json::Value;

use crate::contender::{Contender, THRIFT, Who};
use crate::table::{Results, median};
use crate::workload::{SMALL, VIT_L, VIT_S, Workload};

/// A number to reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Aim {
    /// None: a number to know.
    None,
    /// At least so many times as fast.
    Times(f64),
    /// At least this share.
    AtLeast(f64),
    /// At most this share.
    AtMost(f64),
    /// At most so many bytes.
    Within(f64),
}

/// A line of the comparison.
pub struct Row {
    /// What is compared.
    pub what: &'static str,
    /// The number to reach.
    pub aim: Aim,
    /// The number found; `None` if it was not measured.
    pub found: Option<f64>,
}

const TORCH: Who = Who::Torch { bf16: false, compiled: false };
const TORCH_BF16: Who = Who::Torch { bf16: true, compiled: false };
const OURS: Who = Who::Ours { bf16: false, thrifty: false };
const OURS_BF16: Who = Who::Ours { bf16: true, thrifty: false };
const THRIFTY: Who = Who::Ours { bf16: false, thrifty: true };
const THRIFTY_BF16: Who = Who::Ours { bf16: true, thrifty: true };

/// All lines.
pub fn rows(results: &Results) -> Vec<Row> {
    let row = |what, aim, found| Row { what, aim, found };
    let both = |workload| Some((results.find(workload, TORCH)?, results.find(workload, OURS)?));
    let best = |workload| {
        let torch = results.fastest(workload, |who| matches!(who, Who::Torch { .. }))?;
        Some((torch, results.fastest(workload, |who| matches!(who, Who::Ours { .. }))?))
    };
    let bf16 = |workload: &Workload, key: &str| number(results.find(workload, OURS_BF16)?, key);
    let memory = |torch: Who, ours: Who| Some(peak(results.find(&VIT_S, ours)?)? / peak(results.find(&VIT_S, torch)?)?);
    let against = |torch, ours| ratio((results.find(&VIT_S, torch)?, results.find(&VIT_S, ours)?));
    let outside = || number(results.fastest(&VIT_S, |who| matches!(who, Who::Ours { .. }))?, "outside_products");
    vec![
        row("small step, our best precision against PyTorch's best", Aim::Times(1.6), best(&SMALL).and_then(ratio)),
        row("ViT-S/16 step, likewise", Aim::Times(1.4), best(&VIT_S).and_then(ratio)),
        row("small step, f32 against f32", Aim::Times(1.35), both(&SMALL).and_then(ratio)),
        row("ViT-S/16 step, f32 against f32", Aim::Times(1.1), both(&VIT_S).and_then(ratio)),
        row(
            "products of the ViT-S/16 step, bf16, of the machine's rate",
            Aim::AtLeast(0.85),
            bf16(&VIT_S, "products_share"),
        ),
        row("small step, bf16, of the machine's rate", Aim::AtLeast(0.60), bf16(&SMALL, "peak_share")),
        row("ViT-S/16 step, bf16, of the machine's rate", Aim::AtLeast(0.70), bf16(&VIT_S, "peak_share")),
        row("memory of the ViT-S/16 step, f32, of PyTorch's", Aim::None, memory(TORCH, OURS)),
        row("  with --memory", Aim::AtMost(THRIFT), memory(TORCH, THRIFTY)),
        row("  its time, f32 against f32", Aim::None, against(TORCH, THRIFTY)),
        row("memory of the ViT-S/16 step, bf16, of PyTorch's", Aim::None, memory(TORCH_BF16, OURS_BF16)),
        row("  with --memory", Aim::AtMost(THRIFT), memory(TORCH_BF16, THRIFTY_BF16)),
        row("  its time, bf16 against bf16", Aim::None, against(TORCH_BF16, THRIFTY_BF16)),
        row("memory of the ViT-L/16 step, one clip", Aim::Within(12e9), results.find(&VIT_L, OURS_BF16).and_then(peak)),
        row("neither products nor attention, ViT-S/16 step, our best", Aim::AtMost(0.10), outside()),
    ]
}

/// How many times as fast the second is: the median over pairs of the same round.
fn ratio((torch, ours): (&Contender, &Contender)) -> Option<f64> {
    median(torch.runs.iter().zip(&ours.runs).map(|(torch, ours)| torch.seconds / ours.seconds))
}

/// Median of a number that our program prints.
fn number(ours: &Contender, key: &str) -> Option<f64> {
    median(ours.runs.iter().filter_map(|run| run.found.get(key).and_then(Value::as_f64)))
}

/// Most bytes that were resident in any run.
fn peak(contender: &Contender) -> Option<f64> {
    contender.peak().map(|bytes| bytes as f64)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::contender::Run;

    fn contender(who: Who, seconds: &[f64]) -> Contender {
        let run = |seconds: &f64| Run { seconds: *seconds, peak: Some(1 << 30), found: json!({"peak_share": 0.5}) };
        Contender { who, runs: seconds.iter().map(run).collect(), left_out: None }
    }

    #[test]
    fn ratios_are_of_pairs() {
        let mut results = Results::default();
        // The machine was twice as slow in the second round: that is in both, and leaves their ratio alone.
        let compiled = Who::Torch { bf16: true, compiled: true };
        results.add(
            &SMALL,
            vec![
                contender(TORCH, &[3.0, 6.0, 3.0]),
                contender(TORCH_BF16, &[2.0, 4.0, 2.0]),
                contender(compiled, &[5.0]),
                contender(OURS, &[2.0, 4.0, 2.0]),
                contender(OURS_BF16, &[1.0, 2.0, 1.0]),
            ],
        );
        let rows = rows(&results);
        let found = |what: &str| rows.iter().find(|row| row.what.starts_with(what)).unwrap().found;
        assert_eq!(found("small step, our best"), Some(2.0));
        assert_eq!(found("small step, f32"), Some(1.5));
        assert_eq!(found("small step, bf16, of"), Some(0.5));
        assert_eq!(found("ViT-S/16 step, likewise"), None);
        assert_eq!(found("memory of the ViT-L"), None);
    }
}
