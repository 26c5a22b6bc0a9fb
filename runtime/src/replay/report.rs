//! What a replay found, as JSON and as text.

use serde::Serialize;

use super::bounds::{Bound, Bounds};
use super::compare::Difference;
use crate::report::metrics::map;

/// All steps of a replay.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Replay {
    /// Nothing lies beyond its bound.
    pub ok: bool,
    /// What was asked: the bounds of the program's precision.
    pub bounds: &'static Bounds,
    /// Steps in order.
    pub steps: Vec<StepResult>,
}

/// One step, beside what was recorded.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[allow(missing_docs, reason = "the names say it: ours, and as recorded")]
pub struct StepResult {
    pub step: u64,
    pub loss: f64,
    pub expected_loss: f64,
    #[serde(skip)]
    pub bounds: &'static Bounds,
    #[serde(skip)]
    pub loss_bound: Bound,
    pub lr: Option<f64>,
    pub expected_lr: Option<f64>,
    pub weight_decay: Option<f64>,
    pub expected_weight_decay: Option<f64>,
    pub ema: Option<f64>,
    pub expected_ema: Option<f64>,
    #[serde(serialize_with = "map")]
    pub grad_norm: Vec<(String, f64)>,
    #[serde(serialize_with = "map")]
    pub expected_grad_norm: Vec<(String, f64)>,
    pub tensors: Vec<Difference>,
}

impl Replay {
    /// A line: whether it holds, and which bounds were asked.
    pub fn text(&self) -> String {
        format!("{} {}", if self.ok { "within the" } else { "beyond the" }, self.bounds.text())
    }
}

impl StepResult {
    /// Within all bounds.
    pub fn ok(&self) -> bool {
        self.failures().is_empty()
    }

    /// What lies beyond its bound, one line each.
    pub fn failures(&self) -> Vec<String> {
        let mut failures = Vec::new();
        let bounds = self.bounds;
        if !self.loss_bound.holds(self.loss, self.expected_loss) {
            failures.push(format!("loss {} is not {} (bound {})", self.loss, self.expected_loss, self.loss_bound));
        }
        for (name, ours, expected) in [
            ("lr", self.lr, self.expected_lr),
            ("weight_decay", self.weight_decay, self.expected_weight_decay),
            ("ema", self.ema, self.expected_ema),
        ] {
            // What was not recorded is not compared.
            let Some(expected) = expected else { continue };
            if !ours.is_some_and(|ours| bounds.schedule.holds(ours, expected)) {
                let ours = ours.map_or("missing".to_string(), |v| v.to_string());
                failures.push(format!("{name} {ours} is not {expected} (bound {})", bounds.schedule));
            }
        }
        for (network, expected) in &self.expected_grad_norm {
            let ours = self.grad_norm.iter().find(|(n, _)| n == network).map(|(_, n)| *n);
            if !ours.is_some_and(|ours| bounds.norm.holds(ours, *expected)) {
                let ours = ours.map_or("missing".to_string(), |v| v.to_string());
                failures.push(format!("gradient norm of {network} {ours} is not {expected} (bound {})", bounds.norm));
            }
        }
        for d in self.tensors.iter().filter(|d| !d.ok(bounds)) {
            let bound = bounds.tensor(d.kind).map_or(String::new(), |bound| format!(" (bound {bound})"));
            let what = match (&d.problem, d.rel) {
                (Some(problem), _) => problem.clone(),
                (None, Some(rel)) => format!("differs by {rel:.2e}{bound}"),
                (None, None) => "differs from a tensor of zeros".into(),
            };
            failures.push(format!("{}: {what}", d.tensor));
        }
        failures
    }

    /// A line, and one a failure.
    pub fn text(&self) -> String {
        let worst = |bounded: bool| {
            let of_kind = self.tensors.iter().filter(|d| self.bounds.tensor(d.kind).is_some() == bounded);
            let worst = of_kind.filter_map(|d| Some((d.rel?, d.tensor.as_str())));
            worst.max_by(|a, b| a.0.total_cmp(&b.0))
        };
        let (step, loss, off) = (self.step, self.loss, (self.loss - self.expected_loss).abs());
        let mut text = format!("step {step:3}  loss {loss:.7} (off {off:.1e})");
        if let Some((rel, tensor)) = worst(true) {
            text += &format!("  worst of {} tensors: {tensor} {rel:.1e}", self.tensors.len());
        }
        if let Some((rel, tensor)) = worst(false) {
            text += &format!("  weights: {tensor} {rel:.1e}");
        }
        for failure in self.failures() {
            text += &format!("\n  beyond its bound: {failure}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::bounds::{BF16, F32};
    use crate::replay::compare::Kind;

    fn result() -> StepResult {
        StepResult {
            step: 1,
            loss: 0.5,
            expected_loss: 0.500001,
            bounds: &F32,
            loss_bound: F32.loss,
            lr: Some(1e-3),
            expected_lr: Some(1e-3),
            weight_decay: None,
            expected_weight_decay: None,
            ema: Some(0.998),
            expected_ema: Some(0.998),
            grad_norm: vec![("encoder".into(), 1.0)],
            expected_grad_norm: vec![("encoder".into(), 1.0005)],
            tensors: vec![],
        }
    }

    #[test]
    fn each_number_has_its_bound() {
        assert_eq!(result().failures(), [""; 0]);
        let cases = [
            StepResult { loss: 0.51, ..result() },
            StepResult { lr: Some(1e-3 + 1e-11), ..result() },
            StepResult { ema: None, ..result() },
            StepResult { expected_grad_norm: vec![("predictor".into(), 1.0)], ..result() },
            StepResult { tensors: vec![Difference::problem("grad.x", Kind::Gradient, "not recorded")], ..result() },
        ];
        for case in cases {
            assert_eq!(case.failures().len(), 1, "{case:?}");
        }
        let in_bf16 = |loss| StepResult { loss, bounds: &BF16, loss_bound: BF16.late_loss, ..result() };
        assert!(in_bf16(0.509).ok(), "2e-2 of the recorded loss");
        assert_eq!(in_bf16(0.511).failures(), ["loss 0.511 is not 0.500001 (bound 2e-2 relative)"]);
        assert!(!StepResult { loss: f64::NAN, ..result() }.ok());
    }
}
