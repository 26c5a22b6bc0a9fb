//! How far a replay may lie from its recording.
//!
//! Recordings are in f32. A program in f32 differs by the order of its sums; one in bf16 by what 8 bits of mantissa leave
//! of every result, u = 2^-8 = 4e-3 at most each time. Roundings are independent, so that n in a row come to about √n u.
//! The bounds of bf16 are two to four times the worst that was measured over the recordings at hand (width 20 and 48,
//! three and four layers), except the one on losses. Weights have no bound: where the true gradient is zero, AdamW turns
//! rounding into steps of the rate.

use serde::Serialize;
use vjepac::program::Program;

use super::compare::Kind;
use crate::error::{Error, Result};

/// One bound a number, for programs of one precision.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Bounds {
    /// `f32` or `bf16`: what the model's `train.precision` says.
    pub precision: &'static str,
    /// On losses of steps whose activations were recorded.
    pub loss: Bound,
    /// On later losses.
    pub late_loss: Bound,
    /// On rate, weight decay and momentum.
    pub schedule: Bound,
    /// On gradient norms.
    pub norm: Bound,
    /// On contexts, predictions and targets.
    pub activation: Bound,
    /// On gradients.
    pub gradient: Bound,
}

/// A largest difference.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Bound {
    /// Of |a - b|.
    Absolute(f64),
    /// Of |a - b| / |b|; of a tensor max |a - b| / max |b|.
    Relative(f64),
}

/// A program in f32.
pub const F32: Bounds = Bounds {
    precision: "f32",
    // Sums in another order.
    loss: Bound::Absolute(1e-5),
    // Rounding of several updates.
    late_loss: Bound::Absolute(1e-4),
    schedule: SCHEDULE,
    // As gradients.
    norm: Bound::Relative(1e-3),
    // Through some tens of layers.
    activation: Bound::Relative(1e-4),
    // There and back.
    gradient: Bound::Relative(1e-3),
};

/// A program in bf16.
pub const BF16: Bounds = Bounds {
    precision: "bf16",
    // Chosen, not derived: what may be asked of bf16 over ten steps. A mean over all features cancels most of the rounding
    // (worst measured 2.5e-4, updates included).
    loss: Bound::Relative(2e-2),
    late_loss: Bound::Relative(2e-2),
    // Schedules are computed in f64 whatever the precision.
    schedule: SCHEDULE,
    // Element errors are independent and their squares add, so that a norm is several times nearer than the worst element
    // (worst measured 1e-2).
    norm: Bound::Relative(2e-2),
    // √100 u: some tens of layers with a few roundings each (worst measured 1.4e-2).
    activation: Bound::Relative(4e-2),
    // √200 u there and back, and as much again: the gradient of |z - y| is a sign, which the rounding of z turns where z is
    // near y (worst measured 5e-2).
    gradient: Bound::Relative(1.2e-1),
};

/// Both sides compute schedules in f64.
const SCHEDULE: Bound = Bound::Absolute(1e-12);

impl Bounds {
    /// The bounds of a program's precision; a program that does not train is in f32.
    pub fn of(program: &Program) -> Result<&'static Bounds> {
        match program.run.as_ref().map_or("f32", |run| run.precision.as_str()) {
            "f32" => Ok(&F32),
            "bf16" => Ok(&BF16),
            other => Err(Error::failed(format!(
                "the program's precision is `{other}`, for which replay has no bounds: expected `f32` or `bf16`; set \
                 `train.precision` to one of them and compile it again"
            ))),
        }
    }

    /// On a tensor's relative difference; `None` where it is only reported.
    pub fn tensor(&self, kind: Kind) -> Option<Bound> {
        match kind {
            Kind::Context | Kind::Prediction | Kind::Target => Some(self.activation),
            Kind::Gradient => Some(self.gradient),
            Kind::Weight => None,
        }
    }

    /// A line that says them.
    pub fn text(&self) -> String {
        format!(
            "bounds of {}: loss {}, later losses {}, gradient norms {}, activations {}, gradients {}, schedules {}",
            self.precision, self.loss, self.late_loss, self.norm, self.activation, self.gradient, self.schedule
        )
    }
}

impl Bound {
    /// Whether a lies near enough to the recorded b; what is no number does not.
    pub fn holds(self, a: f64, b: f64) -> bool {
        match self {
            Bound::Absolute(bound) => (a - b).abs() <= bound,
            Bound::Relative(bound) => (a - b).abs() <= bound * b.abs(),
        }
    }

    /// Whether a tensor, of which both measures were taken, lies near enough.
    pub fn holds_for(self, abs: Option<f64>, rel: Option<f64>) -> bool {
        match self {
            Bound::Absolute(bound) => abs.is_some_and(|abs| abs <= bound),
            Bound::Relative(bound) => rel.is_some_and(|rel| rel <= bound),
        }
    }
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            Bound::Absolute(bound) => write!(f, "{bound:e}"),
            Bound::Relative(bound) => write!(f, "{bound:e} relative"),
        }
    }
}

#[cfg(test)]
mod tests {
    use vjepac::program::RunSettings;

    use super::*;

    fn in_precision(precision: &str) -> Program {
        let run = RunSettings { data: vec![], batch: 1, group: 0, steps: 1, seed: 0, precision: precision.into() };
        Program { run: Some(run), ..Program::default() }
    }

    #[test]
    fn bounds_follow_the_precision() {
        assert_eq!(Bounds::of(&in_precision("f32")).unwrap(), &F32);
        assert_eq!(Bounds::of(&in_precision("bf16")).unwrap(), &BF16);
        assert_eq!(Bounds::of(&Program::default()).unwrap(), &F32, "a program that does not train");
        let error = Bounds::of(&in_precision("f64")).unwrap_err().to_string();
        assert!(error.contains("`f64`") && error.contains("expected `f32` or `bf16`"), "{error}");
    }

    #[test]
    fn a_bound_is_absolute_or_relative() {
        let (absolute, relative) = (Bound::Absolute(0.25), Bound::Relative(0.25));
        assert!(absolute.holds(10.25, 10.0) && !absolute.holds(10.5, 10.0) && !absolute.holds(f64::NAN, 10.0));
        assert!(relative.holds(-7.5, -10.0) && !relative.holds(-7.0, -10.0) && !relative.holds(f64::NAN, 10.0));
        assert!(relative.holds(0.0, 0.0) && !relative.holds(1e-9, 0.0));
        assert!(absolute.holds_for(Some(0.25), None) && !absolute.holds_for(None, Some(0.0)));
        assert!(relative.holds_for(None, Some(0.25)) && !relative.holds_for(Some(0.0), None));
        assert!(F32.tensor(Kind::Weight).is_none() && BF16.tensor(Kind::Weight).is_none());
    }
}
